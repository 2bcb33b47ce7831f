"""The E-step of expectation maximisation for denoisers: each measurement completed by one draw of X given y.

    E   x_i ~ p_theta(X | y_i),  y_i = A_i X + sigma_y n      sampling with the posterior denoiser
    M   theta = argmin E lambda(sigma) || D_theta(x_i + sigma z, sigma) - x_i ||^2

(Rozet et al. 2024, arXiv 2405.13712). The M-step is the method `denoising` on the completed images, as if
they were clean; the first lap's denoiser may be that of a Gaussian (`diffusion/gaussian_em.py`). A *draw* is
needed: with the posterior mean in its place, the fitted law loses in each lap the spread that y leaves open.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.methods.base import Denoiser
from jaxdiff.operators.linear import LinearOperator
from jaxdiff.operators.measurement import Measurement
from jaxdiff.sampling import posterior_denoiser, sample


def complete(
    denoiser: Denoiser,
    operator: LinearOperator,
    measurement: Measurement,
    key: jax.Array,
    sigmas: np.ndarray,
    cg_steps: int = 4,
    rows: jax.Array | None = None,
    method: str = "heun",
) -> jax.Array:
    """One draw of X given y for each example, (B, *in_shape), in [-1, 1] as far as the denoiser is.

    The probability flow is deterministic: a draw is a function of its starting noise, drawn from
    fold_in(key, row), and so depends on neither the batch nor its order. For another draw in each lap, fold
    the lap into `key`.

    Args:
        denoiser: D(x, sigma) of the current lap, of whole images.
        operator: A; its parameters come with the measurement.
        measurement: y, params and sigma_y; what y holds where A sees nothing does not matter.
        key: of this lap.
        sigmas: (S + 1,) grid, such as `karras_schedule(S)`; sigmas[0] far above the spread of the data.
        cg_steps: conjugate-gradient steps of the posterior denoiser.
        rows: (B,) rows of the examples in their data set; None for 0, 1, ...: a batch that is the whole data.
        method: 'heun' or 'euler' (half the cost).

    Raises:
        ValueError: rows do not fit the batch, or what `posterior_denoiser` and `sample` refuse.
    """
    count = measurement.y.shape[0]
    rows = jnp.arange(count) if rows is None else jnp.asarray(rows)
    if rows.shape != (count,):
        raise ValueError(f"complete: rows of shape {tuple(rows.shape)} for a batch of {count} examples")

    def start_noise(row):
        return jax.random.normal(jax.random.fold_in(key, row), operator.in_shape, jnp.float32)

    posterior = posterior_denoiser(
        denoiser, operator.with_params(measurement.params), measurement.y, measurement.sigma_y, cg_steps
    )
    return sample(posterior, sigmas[0] * jax.vmap(start_noise)(rows), sigmas, method=method)
