"""Consistency: a denoiser's predictions along the reverse process form a martingale.

    E[D(X_s, s) | X_sigma = x] = D(x, sigma)    for s < sigma,
    (1)

with X_s drawn by the reverse process of D itself. With two *independent* draws x', x'' from x,

    l = (D(x', s) - D(x, sigma)) . (D(x'', s) - D(x, sigma)),    E l = |E[D(x', s)] - D(x, sigma)|^2,
    (2)

is an unbiased estimate of the squared violation (with one draw, or with the same one twice, the variance of
D(x', s) would be added to it). The draws have no gradient, the three D have (Daras et al. 2023, Consistent
Diffusion Models, arXiv 2302.09057). Where the data say nothing of the levels below their own noise sigma_y,
(1) carries what was learnt above sigma_y down to them (Daras et al. 2024, arXiv 2404.10177).
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.diffusion.noise import NoiseDistribution, expand, reverse_step
from jaxdiff.registry import lookup

STARTS = ("data", "below")


class Consistency(NamedTuple):
    """Settings of the consistency term.

    Attributes:
      weight: factor of (2) in the loss; 0 switches it off.
      share: share of the batch that pays it.
      steps: steps of each reverse draw.
      start: 'data': from noisy data, x = x0 + sigma z (Consistent Diffusion Models); 'below': noisy data are
          first carried down by a reverse draw to a level below the data's own noise sigma_y.
      jump, relative_jump: s = max(sigma - U(0, jump + relative_jump sigma), sigma_min).
      sigma_min: the lowest level.
      edm_weighted: multiply by EDM's weight at s.
    """

    weight: float = 0.0
    share: float = 0.25
    steps: int = 5
    start: str = "data"
    jump: float = 0.05
    relative_jump: float = 0.0
    sigma_min: float = 0.002
    edm_weighted: bool = False

    def check(self) -> "Consistency":
        """The settings, if they make sense.

        Raises:
          ValueError: names the setting.
        """
        lookup(dict.fromkeys(STARTS), self.start, "start of the consistency term")
        if self.weight < 0 or not 0 < self.share <= 1 or self.steps < 1 or self.sigma_min <= 0:
            raise ValueError(
                f"consistency: needs weight >= 0, 0 < share <= 1, steps >= 1, sigma_min > 0; got {self}"
            )
        if self.jump < 0 or self.relative_jump < 0 or self.jump + self.relative_jump == 0:
            raise ValueError(f"consistency: jump + relative_jump must be positive, got {self}")
        return self


def reverse_draw(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    sigma: jax.Array,
    target: jax.Array,
    key: jax.Array,
    steps: int,
    rho: float = 7.0,
) -> jax.Array:
    """X_target drawn from x = X_sigma by `steps` ancestral steps on a Karras grid, without gradient, (B, ...).

    One step u -> v: mean D + (v/u)^2 (x - D), which is that of the true reverse process for the true D, and
    variance v^2 (1 - (v/u)^2), that of the true one for a known x0.

    Args:
      denoise: D(x, sigma).
      x: (B, ...) at the levels `sigma` (B,).
      target: (B,), 0 < target <= sigma.
      key: of the draw.
      steps: number of steps.
      rho: of the grid between the two levels.
    """
    ends = sigma ** (1 / rho), target ** (1 / rho)

    def step(x, k):
        u, v = (((1 - share) * ends[0] + share * ends[1]) ** rho for share in (k / steps, (k + 1) / steps))
        down, up = reverse_step(u, jnp.minimum(v, u))  # rounding must not put v above u
        d = denoise(x, u)
        noise = jax.random.normal(jax.random.fold_in(key, k), x.shape, x.dtype)
        return d + expand(down / u, x) * (x - d) + expand(up, x) * noise, None

    drawn, _ = jax.lax.scan(step, jax.lax.stop_gradient(x), jnp.arange(steps))
    return jax.lax.stop_gradient(drawn)


def violation(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    sigma: jax.Array,
    target: jax.Array,
    key: jax.Array,
    steps: int,
) -> jax.Array:
    """The unbiased estimate (2), mean over the values of an example, (B,); may be negative.

    Arguments as in `reverse_draw`; the two draws have independent keys.
    """
    first, second = jax.random.split(key)
    here = denoise(x, sigma)
    ends = [denoise(reverse_draw(denoise, x, sigma, target, k, steps), target) for k in (first, second)]
    product = (ends[0] - here) * (ends[1] - here)
    return jnp.mean(product, axis=tuple(range(1, product.ndim)))


def next_level(key: jax.Array, sigma: jax.Array, settings: Consistency) -> jax.Array:
    """s = max(sigma - U(0, jump + relative_jump sigma), sigma_min), at most sigma, (B,)."""
    jump = (settings.jump + settings.relative_jump * sigma) * jax.random.uniform(key, sigma.shape)
    return jnp.minimum(jnp.maximum(sigma - jump, settings.sigma_min), sigma)


def consistency_term(
    denoise: Callable[[jax.Array, jax.Array], jax.Array],
    x: jax.Array,
    sigma: jax.Array,
    below: jax.Array,
    noise: NoiseDistribution,
    weight: Callable[[jax.Array], jax.Array],
    key: jax.Array,
    settings: Consistency,
) -> jax.Array:
    """The consistency term of a loss, a scalar, before its factor `settings.weight`.

    Its noise is its own: `key` must be independent of the noise of the denoising term.

    Args:
      denoise: D(x, sigma), with gradient.
      x, sigma: noisy data (B, ...) and their levels (B,), drawn for this term.
      below: (B,) for the start 'below': the level under which the data say nothing (sigma_y); examples with
          0 start at the data.
      noise: the law of the levels that 'below' starts from, conditioned on sigma_min <= level <= below.
      weight: EDM's weight, (B,) -> (B,).
      key: of all draws.
      settings: checked settings.
    """
    count = max(1, round(settings.share * x.shape[0]))
    x, sigma, below = x[:count], sigma[:count], below[:count]
    level_key, jump_key, carry_key, draw_key = jax.random.split(key, 4)
    if settings.start == "below":
        low = jnp.full_like(sigma, settings.sigma_min)
        inside = noise.sample_between(level_key, low, jnp.maximum(below, low))
        level = jnp.where(below > 0, jnp.minimum(inside, sigma), sigma)
        x = reverse_draw(denoise, x, sigma, level, carry_key, settings.steps)
        sigma = level
    target = next_level(jump_key, sigma, settings)
    value = violation(denoise, x, sigma, target, draw_key, settings.steps)
    if settings.edm_weighted:
        value = weight(target) * value
    return jnp.mean(value)
