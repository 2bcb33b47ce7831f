"""Operators that average: identity, average pooling, grayscale. All have A A^T = c I."""

import jax
import jax.numpy as jnp

from jaxdiff.operators.linear import LinearOperator, image_size, make

REC_601 = (0.299, 0.587, 0.114)


def identity(in_shape: tuple[int, ...]) -> LinearOperator:
    """A x = x, c = 1; any shape."""
    return make("identity", in_shape, _identity, {}, c=1.0)


def avg_pool(in_shape: tuple[int, ...], factor: int) -> LinearOperator:
    """Mean over blocks of factor x factor pixels: (H, W, C) -> (H / factor, W / factor, C), c = 1 / factor^2.

    Raises:
        ValueError: `factor` is not a positive integer that divides H and W.
    """
    height, width, _ = image_size("avg_pool", in_shape)
    if (
        isinstance(factor, bool)
        or not isinstance(factor, int)
        or factor < 1
        or height % factor
        or width % factor
    ):
        valid = [f for f in range(1, min(height, width) + 1) if height % f == 0 and width % f == 0]
        hint = ""
        if isinstance(factor, int | float):
            hint = f"; nearest valid factor: {min(valid, key=lambda f: abs(f - factor))}"
        raise ValueError(
            f"avg_pool: factor={factor!r} does not divide {height}x{width} pixels{hint} (valid: {valid})"
        )
    return make("avg_pool", in_shape, _avg_pool, {"factor": factor}, c=1.0 / factor**2)


def grayscale(in_shape: tuple[int, ...], weights: tuple[float, ...] = REC_601) -> LinearOperator:
    """Weighted sum over channels: (H, W, C) -> (H, W, 1), c = |weights|^2.

    The values stay in [-1, 1] when the weights are not negative and sum to 1. The default weights are those
    of luma in ITU-R BT.601.

    Raises:
        ValueError: the number of weights is not the number of channels, or all of them are zero.
    """
    channels = image_size("grayscale", in_shape)[2]
    weights = tuple(float(weight) for weight in weights)
    if len(weights) != channels:
        raise ValueError(
            f"grayscale: {len(weights)} weights for images of {channels} channels; give one for each"
        )
    c = sum(weight**2 for weight in weights)
    if not c > 0:
        raise ValueError(f"grayscale: at least one weight must be other than 0, got {weights}")
    return make("grayscale", in_shape, _grayscale, {"weights": weights}, c=c)


def _identity(params, x: jax.Array) -> jax.Array:
    return x


def _avg_pool(params, x: jax.Array, factor: int) -> jax.Array:
    height, width, channels = x.shape
    return x.reshape(height // factor, factor, width // factor, factor, channels).mean(axis=(1, 3))


def _grayscale(params, x: jax.Array, weights: tuple[float, ...]) -> jax.Array:
    return jnp.sum(x * jnp.asarray(weights, x.dtype), axis=-1, keepdims=True)
