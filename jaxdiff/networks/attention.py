"""softmax(q k^T / sqrt(size)) v by the fastest code that the device has: cuDNN's on NVIDIA GPUs, else XLA's."""

import logging

import jax
import jax.numpy as jnp

log = logging.getLogger("jaxdiff")
CUDNN_DTYPES = ("bfloat16", "float16")


def choose_attention(
    platform: str, capability: float, dtype: jnp.dtype, head_size: int, forward_mode: bool = False
) -> str:
    """'cudnn' where cuDNN's fused attention applies, 'xla' elsewhere.

    It takes 16-bit floats and heads of a multiple of 8 up to 128, or 256 from Hopper on, on NVIDIA GPUs from Ampere on,
    and knows no forward-mode derivative (the conditions of `jax.nn.dot_product_attention`).

    Args:
        platform: 'cpu', 'gpu', 'tpu'.
        capability: of an NVIDIA GPU, such as 8.0 (Ampere) or 9.0 (Hopper); 0 of anything else.
        dtype: of queries, keys and values.
        head_size: channels of a head.
        forward_mode: `jax.jvp` must work.
    """
    sizes = head_size % 8 == 0 and head_size <= (256 if capability >= 9 else 128)
    fits = jnp.dtype(dtype).name in CUDNN_DTYPES and sizes and not forward_mode
    return "cudnn" if platform == "gpu" and capability >= 8 and fits else "xla"


def device() -> tuple[str, float]:
    """(platform, compute capability of an NVIDIA GPU or 0) of the devices that JAX uses by default."""
    try:
        return jax.default_backend(), float(getattr(jax.devices()[0], "compute_capability", 0.0))
    except ValueError:  # an AMD GPU says 'gfx90a'
        return jax.default_backend(), 0.0


def attend(q: jax.Array, k: jax.Array, v: jax.Array, forward_mode: bool = False) -> jax.Array:
    """Attention of each head, q, k, v (B, T, heads, size); returns the shape of q.

    Where cuDNN turns out not to be installed, or to be too old for the shapes, XLA's is used and the log says so.
    """
    if choose_attention(*device(), q.dtype, q.shape[-1], forward_mode) == "cudnn":
        try:
            return jax.nn.dot_product_attention(q, k, v, implementation="cudnn")
        # What JAX raises while tracing: RuntimeError without cuDNN, the others for what this cuDNN does not take. A
        # mistake in q, k or v is raised by XLA's again.
        except (RuntimeError, ValueError, NotImplementedError) as error:
            log.warning("attention of %s %s without cuDNN: %s", q.dtype, q.shape, error)
    return jax.nn.dot_product_attention(q, k, v, implementation="xla")
