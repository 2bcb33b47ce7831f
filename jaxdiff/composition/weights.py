"""How much each view is trusted in each noise band: the weights w_i(sigma) of the fusion.

    inverse_error:  w_i(sigma) = 1 / (E || A_i^+ (D_i - A_i x0) ||^2 / rank_i)
     (1)
    fitted:         argmin_w E || z_w(x, sigma) - x0 ||^2, started from (1)
    (2)

both on clean tuning images. (1) measures a view over all it sees; (2) looks only where the choice matters,
in the directions that several views share.
"""

from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from jaxdiff.composition.bands import BandTable, smooth_over_bands


def inverse_error_weights(
    errors: np.ndarray, ranks: Sequence[int], sigmas: np.ndarray, smooth: float = 1.0
) -> BandTable:
    """Equation 1.

    Args:
      errors: E || A_i^+ (D_i - A_i x0) ||^2 per band and view, (S, V).
      ranks: rank of each view's operator, (V,).
      sigmas: noise levels, (S,).
      smooth: kernel width in bands, applied to ln(error).
    """
    per_direction = np.maximum(np.asarray(errors, np.float64), 1e-30) / np.asarray(ranks, np.float64)
    weights = np.exp(-smooth_over_bands(np.log(per_direction), smooth))
    weights /= weights.max(axis=1, keepdims=True)
    return BandTable(np.asarray(sigmas, np.float32), weights.astype(np.float32))


def fitted_weights(
    loss: Callable[[jax.Array], jax.Array],
    start: BandTable,
    smooth: float = 1.0,
    prior: float = 1e-3,
    iterations: int = 60,
) -> BandTable:
    """Equation 2 by L-BFGS in the logarithms of the weights.

    Args:
      loss: weights (S, V) -> E || z_w - x0 ||^2 per band relative to the band's scale, (S,); differentiable.
      start: where to start, also the centre of the prior.
      smooth: strength of the penalty on jumps of ln w between neighbouring bands.
      prior: strength of the pull towards `start`; decides where the loss does not.
      iterations: at most so many.
    """
    centre = np.log(np.maximum(np.asarray(start.values, np.float64), 1e-6))
    shape = centre.shape

    @jax.jit
    def objective(logs):
        logs = logs.reshape(shape)
        away = jnp.mean(jnp.square(logs - centre))
        jumps = jnp.mean(jnp.square(jnp.diff(logs - jnp.max(logs, axis=1, keepdims=True), axis=0)))
        return jnp.mean(loss(jnp.exp(logs))) + prior * (away + smooth * jumps)

    value_and_gradient = jax.value_and_grad(objective)

    def numpy_objective(logs):
        value, gradient = value_and_gradient(jnp.asarray(logs, jnp.float32))
        return float(value), np.asarray(gradient, np.float64)

    found = minimize(
        numpy_objective,
        centre.ravel(),
        jac=True,
        method="L-BFGS-B",
        bounds=[(c - 7.0, c + 7.0) for c in centre.ravel()],
        options={"maxiter": iterations},
    )
    logs = found.x.reshape(shape)
    weights = np.exp(logs - logs.max(axis=1, keepdims=True))
    return BandTable(start.sigmas, weights.astype(np.float32))
