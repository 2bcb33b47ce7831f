"""A draw of X that agrees with a noiseless view of it, by replacing what is seen at every noise level.

    x <- x - P x + A^+ y + sigma_i P z            P = A^+ A: what is seen, in the noise of this level
    x <- D + (s / sigma_i) (x - D) + u z,         D = D(x, sigma_i)                                     (1)

(1) is the ancestral step, its s and u those of `reverse_step`; replacement is that of Song et al. 2021 (arXiv
2011.13456, section 5). One evaluation a step, no gradients. With many steps (few lose some of the spread) the draw is
exact where what is seen and what is not are independent, and in general biased: the unseen part hears of y only
through D at the same step, follows it less than it should and spreads more. `posterior_denoiser` is exact for
Gaussians and several times dearer.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.noise import reverse_step
from jaxdiff.operators import LinearOperator, describe
from jaxdiff.sampling.posterior import Denoiser


def replacement_draw(
    denoiser: Denoiser,
    operator: LinearOperator,
    y: jax.Array,
    key: jax.Array,
    sigmas: np.ndarray,
    rows: jax.Array | None = None,
) -> jax.Array:
    """One draw for each example, (B, *in_shape); A of it is y.

    Args:
        denoiser: D(x, sigma) of X.
        operator: A with A A^T = c I, its parameters drawn.
        y: (B, *out_shape), without noise.
        key: the draw of an example depends on fold_in(key, row) alone.
        sigmas: (S + 1,) decreasing to 0, such as `karras_schedule(S)`.
        rows: (B,) rows of the examples in their data set; None for 0, 1, ...

    Raises:
        ValueError: A A^T is not c I, or rows do not fit the batch.
    """
    count = y.shape[0]
    rows = jnp.arange(count) if rows is None else jnp.asarray(rows)
    if operator.c is None:
        raise ValueError(
            f"replacement_draw: {describe(operator)} has no A A^T = c I; use the posterior denoiser"
        )
    if rows.shape != (count,):
        raise ValueError(
            f"replacement_draw: rows of shape {tuple(rows.shape)} for a batch of {count} examples"
        )
    keys = jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)
    known = operator.pinv(y)
    grid = jnp.asarray(sigmas, jnp.float32)

    def white(number):
        return jax.vmap(lambda k: jax.random.normal(jax.random.fold_in(k, number), operator.in_shape))(keys)

    def seen(values):
        return operator.pinv(operator(values))

    def step(x, i):
        now, after = grid[i], grid[i + 1]
        x = x - seen(x) + known + now * seen(white(2 * i + 1))
        denoised = denoiser(x, jnp.full(count, now))
        down, up = reverse_step(now, after)
        return denoised + (down / now) * (x - denoised) + up * white(2 * i + 2), None

    x, _ = jax.lax.scan(step, grid[0] * white(0), jnp.arange(len(grid) - 1))
    return x - seen(x) + known
