"""RePaint (Lugmayr et al. 2022, arXiv 2201.09865, Algorithm 1): replace what is seen, go back, and again.

`resamples` times at every level, P = A^+ A the projector on what is seen, sigma_s = sigma_y / sqrt(c):

    x' = ancestral step of x,    x' <- x' + P (A^+ y + sqrt(sigma'^2 - sigma_s^2) z - x')
    x  = x' + sqrt(sigma^2 - sigma'^2) z'                                                  back up, but for the last

Going back lets the unseen part hear of y through D before the level is left. It lessens the bias of replacement and
does not remove it, since z is drawn independently of what is not seen. Below sigma_s, y holds more noise than x' and
is not replaced any more: noisy measurements are met up to their noise.
"""

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import expand
from jaxdiff.operators import LinearOperator, describe
from jaxdiff.sampling.guidance.step import Step, advance, levels, white_noise
from jaxdiff.sampling.posterior import Denoiser, checked


def repaint(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    *,
    resamples: int = 10,
) -> Step:
    """The step of RePaint; `resamples` evaluations of D each, no gradient.

    Args:
        denoiser, y, sigma_y: as in `posterior_denoiser`.
        operator: a mask, or any other operator with A A^T = c I.
        resamples: draws at every level; 10 in the paper. 1 is replacement alone (Song et al. 2021).

    Raises:
        ValueError: A A^T is not c I, resamples < 1, or what does not fit the operator.
    """
    if operator.c is None:
        raise ValueError(
            f"repaint: {describe(operator)} has no A A^T = c I, so what it sees cannot be replaced in white noise; "
            "it is for masks. Use mmps, pigdm, dps, ddrm or diffpir"
        )
    if isinstance(resamples, bool) or not isinstance(resamples, int) or resamples < 1:
        raise ValueError(f"repaint: resamples is a count, 1 or more; got {resamples!r}")
    y, sigma_y = checked(operator, y, sigma_y)
    known, spread = operator.pinv(y), sigma_y / operator.c**0.5

    def step(x, now, after, keys):
        shape = x.shape[1:]
        left = expand(jnp.sqrt(jnp.maximum(after**2 - spread**2, 0.0)), x)
        replaced = expand(after >= spread, x)

        def draw(x, number):
            free = advance(
                x, denoiser(x, levels(now, x)), now, after, white_noise(keys, shape, 3 * number), 1.0
            )
            wanted = left * white_noise(keys, shape, 3 * number + 1)
            seen = known + operator.pinv(operator(wanted - free))
            lower = jnp.where(replaced, free + seen, free)
            back = jnp.sqrt(jnp.maximum(now**2 - after**2, 0.0)) * white_noise(keys, shape, 3 * number + 2)
            return lower + back, lower

        # The last draw's way back up is not used.
        _, lower = jax.lax.scan(draw, x, jnp.arange(resamples))
        return lower[-1]

    return step
