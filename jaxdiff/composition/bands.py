"""Functions of the noise level, tabulated: fusion weights, the gate, stacking weights.

A table holds K values at S noise levels; between them it is linear in ln sigma, beyond them constant. Linear
interpolation keeps what the tabulated rows have in common: rows that are convex weights stay convex weights.
"""

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np


@flax.struct.dataclass
class BandTable:
    """K functions of sigma, tabulated: `sigmas` (S,) increasing, `values` (S, K)."""

    sigmas: jax.Array
    values: jax.Array

    def __call__(self, sigma: jax.Array) -> jax.Array:
        """Values at `sigma` (B,), shape (B, K): linear in ln sigma, constant beyond the ends."""
        at = jnp.log(jnp.maximum(sigma, 1e-12))
        grid = jnp.log(self.sigmas)
        return jax.vmap(lambda column: jnp.interp(at, grid, column), in_axes=1, out_axes=1)(self.values)


def band_edges(sigma_min: float, sigma_max: float, bands: int) -> np.ndarray:
    """`bands` noise levels, equally spaced in ln sigma, ends included.

    Raises:
      ValueError: the range is empty or not positive, or there are fewer than two bands.
    """
    if not 0 < sigma_min < sigma_max:
        raise ValueError(f"noise bands need 0 < sigma_min < sigma_max, got {sigma_min} and {sigma_max}")
    if bands < 2:
        raise ValueError(f"noise bands: at least 2 are needed, got {bands}")
    return np.geomspace(sigma_min, sigma_max, bands).astype(np.float32)


def smooth_over_bands(values: np.ndarray, width: float) -> np.ndarray:
    """Gaussian kernel average of `values` (S, ...) over neighbouring bands; `width` in bands, 0 for none.

    Averages what the weights are fitted *from* (error moments), so that a band with few tuning draws borrows
    from its neighbours and the fitted weights keep their constraints.
    """
    if width <= 0:
        return np.asarray(values)
    index = np.arange(len(values))
    kernel = np.exp(-0.5 * ((index[:, None] - index[None, :]) / width) ** 2)
    kernel /= kernel.sum(axis=1, keepdims=True)
    return np.tensordot(kernel, values, axes=1)
