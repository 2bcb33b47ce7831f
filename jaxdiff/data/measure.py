"""Simulated measurements, one fixed draw for each example:

    y_i = A_i x_i + sigma_y n_i,   k_i = fold_in(key(seed), i),
    A_i drawn from fold_in(k_i, 0),   n_i ~ N(0, I) drawn from fold_in(k_i, 1).

i is the example's index in its source, so that y_i depends on neither the batch, nor its order, nor the step.
The noise is in the pixels that the view has: a pixel that A_i hides (its row of A_i is zero) is exactly 0 in
y_i, whatever x_i holds there.
"""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators import LinearOperator, Measurement

CHUNK = 64  # every call runs one program of this batch size: the same rounding in any company


def measure(
    operator: LinearOperator,
    x: np.ndarray,
    indices: np.ndarray,
    seed: int,
    sigma_y: float | np.ndarray = 0.0,
) -> Measurement:
    """Measure examples; computed on the host's CPU.

    Args:
        operator: A; random families are drawn here.
        x: (n, *in_shape) clean examples in [-1, 1].
        indices: (n,) their indices in the source, 0 <= i < 2^32.
        seed: of this view's measurements.
        sigma_y: standard deviation of the noise, one number or (n,).

    Returns:
        A `Measurement` of NumPy arrays: y (n, *out_shape), params with leading axis n or None, sigma_y (n,).

    Raises:
        ValueError: lengths differ, a negative or non-finite sigma_y, or no examples.
    """
    n, indices = len(x), np.asarray(indices)
    sigma_y = np.broadcast_to(np.asarray(sigma_y, np.float32), (n,))
    if n == 0 or indices.shape != (n,):
        raise ValueError(f"measure: {n} examples and indices of shape {indices.shape}; need the same n >= 1")
    if not (np.isfinite(sigma_y).all() and (sigma_y >= 0).all()):
        raise ValueError("measure: sigma_y must be finite and not negative")
    host, noisy, parts = _host(), bool(sigma_y.any()), []
    operator, seed = jax.device_put(operator, host), np.uint32(seed % 2**32)
    for start in range(0, n, CHUNK):
        take = np.minimum(np.arange(start, start + CHUNK), n - 1)  # the last chunk is filled up, then cut
        arguments = (np.asarray(x[take], np.float32), indices[take].astype(np.uint32), sigma_y[take])
        chunk, chunk_indices, chunk_sigma = jax.device_put(arguments, host)
        part = _measure_chunk(operator, chunk, *_keys(chunk_indices, seed), chunk_sigma, noisy)
        parts.append(jax.tree.map(lambda leaf, start=start: np.asarray(leaf)[: n - start], part))
    return jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)


def measure_k_space(
    operator: LinearOperator, k_space: np.ndarray, maps: np.ndarray, indices: np.ndarray, seed: int
) -> Measurement:
    """Lines of k-space that coils have measured; the lines are drawn as `measure` draws them.

    Args:
        operator: `multicoil_fourier` with maps of each example.
        k_space: (n, coils, H, W) complex, fully sampled.
        maps: the coils' sensitivities, likewise.
        indices, seed: as of `measure`.

    Raises:
        ValueError: an operator with fixed maps, or for another number of coils.
    """
    args = dict(operator.args)
    if args["maps"] != "drawn" or args["coils"] != k_space.shape[1]:
        raise ValueError(
            f"measured k-space of {k_space.shape[1]} coils needs multicoil_fourier(coils={k_space.shape[1]}, "
            f"maps='drawn'), got coils={args['coils']}, maps='{args['maps']}'"
        )
    host = _host()
    keys = _keys(jax.device_put(np.asarray(indices).astype(np.uint32), host), np.uint32(seed % 2**32))[0]
    with jax.default_device(host):
        lines = np.asarray(_draw_lines(operator, keys))
    y, maps = (np.stack([z.real, z.imag], axis=-1).astype(np.float32) for z in (k_space, maps))
    seen = lines[:, None, :, None, None] if args["axis"] == "rows" else lines[:, None, None, :, None]
    return Measurement(
        y=np.where(seen, y, np.float32(0)),
        params={"lines": lines, "maps": maps},
        sigma_y=np.zeros(len(y), np.float32),
    )


_draw_lines = jax.jit(lambda operator, keys: operator.draw(keys).params["lines"])


@jax.jit
def _keys(indices, seed):
    """The keys of the operators and of the noise; on its own, to be compiled once for all views."""
    root = jax.random.key(seed)
    return tuple(
        jax.vmap(lambda i, use=use: jax.random.fold_in(jax.random.fold_in(root, i), use))(indices)
        for use in (0, 1)
    )


@partial(jax.jit, static_argnames="noisy")
def _measure_chunk(operator, x, operator_keys, noise_keys, sigma_y, noisy):
    drawn = operator.draw(operator_keys)
    y = drawn(x)
    if noisy:
        noise = jax.vmap(lambda key: jax.random.normal(key, y.shape[1:], y.dtype))(noise_keys)
        scale = sigma_y.reshape(-1, *[1] * (y.ndim - 1))
        y = jnp.where(drawn.reached(len(y)), y + scale * noise, y)
    return Measurement(y=y, params=drawn.params if drawn.per_example else None, sigma_y=sigma_y)


def _host() -> jax.Device:
    """The CPU where the process has one for JAX, so that a view is the same whatever trains on it."""
    try:
        return jax.local_devices(backend="cpu")[0]
    except RuntimeError:  # JAX_PLATFORMS leaves the CPU out
        return jax.local_devices()[0]
