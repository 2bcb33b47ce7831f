"""The certificate of a cascade, which has no denoiser of x_sigma: by the chain rule, factor by factor.

    KL(p || q) = KL(p_V || q_V) + E_V KL(p_{X|V} || q_{X|V}),    V = A X

Each factor's nats over the Gaussian's own factor come from its own denoising errors: of the view at the noise
levels sigma sqrt(c), of the image given the view at sigma. Both use the held-out images' noise. The Gaussian is
the same as everywhere, so that the sum is comparable with the other methods' nats.
"""

import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.conditional_gaussian import MAX_VALUES, condition_on_view
from jaxdiff.evaluation import certificate
from jaxdiff.experiment.learners import cascade_method, learnt_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import ConfigError
from jaxdiff.experiment.stages import Run


def dense_matrix(operator) -> np.ndarray:
    """A as a matrix, (k, d)."""
    size = int(np.prod(operator.in_shape))
    rows = operator(jnp.eye(size, dtype=jnp.float32).reshape(size, *operator.in_shape))
    return np.asarray(rows).reshape(size, -1).T


def _gain(run: Run, pair, arrays, x0: np.ndarray, sigmas: np.ndarray, scale: float) -> np.ndarray:
    """(l_reference - l) of a pair of denoisers, over scale^2: its share of the squared error, (N, S)."""
    settings = run.config.evaluate
    levels = sigmas * np.float32(scale)
    reference, errors = certificate.candidate_errors(pair, arrays, x0, levels, settings.seed, settings.batch)
    return (reference - errors) / scale**2


def cascade_errors(
    run: Run, parts: Parts, x0: np.ndarray, sigmas: np.ndarray, gaussian: np.ndarray
) -> np.ndarray:
    """Squared errors (N, S) that stand for a cascade: the Gaussian's less what both factors gain on it.

    Raises:
      ConfigError: the images are too large for the Gaussian's law given a view.
    """
    view = run.plan.view(run.plan.cascade_view)
    operator = parts.operators[view.name]
    if x0[0].size > MAX_VALUES:
        raise ConfigError(
            f"config.methods: the certificate of 'cascade' needs images of at most {MAX_VALUES} values, these have "
            f"{x0[0].size}; leave 'cascade' out"
        )
    marginal = parts.reference.marginal(operator, operator.c, operator.out_shape)
    conditional = condition_on_view(parts.reference, dense_matrix(operator), operator.out_shape)
    seen = np.concatenate(
        [np.asarray(operator(jnp.asarray(x0[i : i + 256]))) for i in range(0, len(x0), 256)]
    )

    def of_view(arrays, v, sigma):
        return jnp.stack(
            [arrays["marginal"].denoiser(v, sigma), learnt_denoiser(view, arrays["parts"])(v, sigma)]
        )

    def given_view(arrays, x, sigma, clean):
        known = operator(clean)
        learnt = cascade_method(run.plan, arrays["parts"]).denoiser(arrays["parts"].params["cascade"])(known)
        return jnp.stack([arrays["conditional"].denoiser(x, sigma, known), learnt(x, sigma)])

    arrays = {"parts": parts, "marginal": marginal, "conditional": conditional}
    first = _gain(run, of_view, arrays, seen, sigmas, operator.c**0.5)
    settings = run.config.evaluate
    reference, errors = certificate.candidate_errors(
        given_view, arrays, x0, sigmas, settings.seed, settings.batch, with_clean=True
    )
    return gaussian - first - (reference - errors)
