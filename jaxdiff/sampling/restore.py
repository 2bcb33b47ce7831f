"""Restoration: draws of X given y = A X + sigma_y n, from a denoiser of X, by a guidance named by name.

    draw = jax.jit(partial(restore, "mmps", denoiser, sigmas=karras_schedule(64)))
    images = draw(operator, y, sigma_y, keys)            # one compiled call for the batch

A guidance that gives a denoiser is sampled like any denoiser; one that gives a step is taken from level to level.
"""

import inspect
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import registry
from jaxdiff.operators import LinearOperator
from jaxdiff.sampling import guidance
from jaxdiff.sampling.guidance.step import white_noise
from jaxdiff.sampling.samplers import sample_images


class Guidance(NamedTuple):
    """An entry of the registry.

    Attributes:
        build: `build(denoiser, operator, y, sigma_y, **settings)`.
        gives: 'denoiser' or 'step', what `build` returns, or 'estimate': a step that is taken once, from the first
            level of the grid, and gives no draw but one best guess.
    """

    build: Callable
    gives: str


GUIDANCES = {
    "ambient_dps": Guidance(guidance.ambient_dps, "step"),
    "ddrm": Guidance(guidance.ddrm, "step"),
    "diffpir": Guidance(guidance.diffpir, "step"),
    "dps": Guidance(guidance.dps, "step"),
    "mmps": Guidance(guidance.mmps, "denoiser"),
    "one_step": Guidance(guidance.one_step, "estimate"),
    "pigdm": Guidance(guidance.pigdm, "denoiser"),
    "repaint": Guidance(guidance.repaint, "step"),
}


def restore(
    method: str,
    denoiser: Callable,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    keys: jax.Array,
    sigmas: np.ndarray,
    *,
    sampler: str = "heun",
    **settings,
) -> jax.Array:
    """One draw of X given y for each example of a batch, (B, *in_shape).

    Args:
        method: a name of GUIDANCES.
        denoiser: D(x, sigma) of X; for 'ambient_dps' (x, sigma, A~) -> E[X | A~ x_sigma, A~].
        operator: A with its parameters drawn (`op.with_params(measurement.params)`).
        y: (B, *out_shape); what it holds where A sees nothing does not matter.
        sigma_y: (B,) standard deviation of the noise of y, in the units of y.
        keys: (B,) typed keys: an example's draw depends on its own key alone.
        sigmas: (S + 1,) grid known at compile time, such as `karras_schedule(S)`.
        sampler: how a guidance that gives a denoiser is sampled, as in `sample_images`; steps have their own way.
        settings: keyword arguments of the guidance.

    Raises:
        ValueError: an unknown method or setting (the nearest valid one is named), a grid that does not decrease, keys
            that do not fit, or what the guidance refuses.
    """
    entry = registry.lookup(GUIDANCES, method, "restoration method")
    _check_settings(method, entry.build, settings)
    if keys.shape != y.shape[:1]:
        raise ValueError(
            f"restore: keys of shape {tuple(keys.shape)} for {y.shape[0]} examples; one key for each"
        )
    grid = _grid(sigmas)
    guided = entry.build(denoiser, operator, y, sigma_y, **settings)
    if entry.gives == "denoiser":
        return sample_images(guided, keys, operator.in_shape, grid, method=sampler)
    grid = jnp.asarray(grid, jnp.float32)
    start = grid[0] * white_noise(keys, operator.in_shape)
    if entry.gives == "estimate":
        return guided(start, grid[0], jnp.zeros(()), keys)

    def step(x, level):
        number, now, after = level
        return guided(x, now, after, jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)), None

    x, _ = jax.lax.scan(step, start, (jnp.arange(1, len(grid)), grid[:-1], grid[1:]))
    return x


def posterior_draws(
    method: str,
    denoiser: Callable,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    keys: jax.Array,
    sigmas: np.ndarray,
    **settings,
) -> jax.Array:
    """S draws for each example, (S, B, *in_shape), one after another in one compiled loop; `keys` is (S, B).

    Memory is that of one draw of the batch and the result. Other arguments as in `restore`.
    """
    if keys.ndim != 2:
        raise ValueError(f"posterior_draws: keys are (draws, examples), got shape {tuple(keys.shape)}")
    return jax.lax.map(
        lambda row: restore(method, denoiser, operator, y, sigma_y, row, sigmas, **settings), keys
    )


def _check_settings(method, build, settings):
    known = [name for name, p in inspect.signature(build).parameters.items() if p.kind is p.KEYWORD_ONLY]
    for name in settings:
        if name not in known:
            raise registry.unknown(name, known, f"setting of {method}")


def _grid(sigmas) -> np.ndarray:
    if isinstance(sigmas, jax.core.Tracer):
        raise ValueError("restore: sigmas must be known at compile time; pass karras_schedule's array itself")
    grid = np.asarray(sigmas)
    if grid.ndim != 1 or len(grid) < 2 or not np.all(np.diff(grid) < 0) or not grid[-1] >= 0:
        raise ValueError(
            f"restore: sigmas must be strictly decreasing, (S + 1,), and end at 0 or above; got {grid}"
        )
    return grid
