"""What restoration asks of a trained model: a denoiser of images with its arrays, and draws given measurements by it.

A network that is told what it sees (a view of the method 'ambient') is another kind of prior than a denoiser of whole
images: it answers `ambient_dps`, with a mask A~ such as it knows, and `one_step` for measurements of its own family.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.experiment.checks import ConfigError, at, choose
from jaxdiff.experiment.learners import learnt_denoiser, masked_view_denoiser, valid_from
from jaxdiff.experiment.model import method_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan, ViewPlan
from jaxdiff.experiment.sampling import sampled_methods
from jaxdiff.export import is_export, load
from jaxdiff.methods.ambient import back_project, given_operator
from jaxdiff.operators import LinearOperator, Measurement
from jaxdiff.sampling import posterior_draws, tiled


class Prior(NamedTuple):
    """A trained model; exactly one of `denoise` and `told` is there.

    Attributes:
        name: as it was asked for.
        arrays: what its functions take: an argument of compiled programs.
        denoise: (arrays, x, sigma) -> D(x, sigma).
        told: (arrays, u, sigma, A) -> E[X | A x_sigma, A], u the back-projection of A x_sigma.
        family: arrays -> the operators that `told` was trained with.
        delta: the share of what they see that was hidden further in training.
        taught_from: the lowest noise level that it was taught, 0 for all.
    """

    name: str
    arrays: Any
    denoise: Callable[..., jax.Array] | None = None
    told: Callable[..., jax.Array] | None = None
    family: Callable[[Any], LinearOperator] | None = None
    delta: float = 0.0
    taught_from: float = 0.0


def view_prior(view: ViewPlan, parts: Parts) -> Prior:
    """What a view's stage has learnt of images, `view/<name>`."""
    if view.method != "ambient":
        return Prior(view.stage_name, parts, lambda arrays, x, sigma: learnt_denoiser(view, arrays)(x, sigma))
    return Prior(
        view.stage_name,
        parts,
        told=lambda arrays, u, sigma, operator: masked_view_denoiser(view, arrays, back_projected=True)(
            u, sigma, operator
        ),
        family=lambda arrays: arrays.operators[view.name],
        delta=view.delta,
    )


def prior_names(plan: Plan) -> list[str]:
    """The priors of a run: its methods and the views that are denoisers of images; the cascade is none."""
    return [name for name in sampled_methods(plan) if name != "cascade"]


def check_prior(plan: Plan, name: str, path: str) -> None:
    """Raises ConfigError, with the nearest, where `name` is neither a prior of the run nor a model's directory."""
    if name in prior_names(plan):
        return
    if not is_export(Path(name)):
        try:
            choose(path, name, prior_names(plan))
        except ConfigError as error:
            raise ConfigError(f"{error}, or the directory of a model that --mode=distill wrote") from None
    try:
        model = load(name)
    except ValueError as error:
        raise at(path, error) from None
    if model.image_shape != tuple(plan.image_shape):
        raise ConfigError(
            f"config.{path}: {name} denoises images {model.image_shape}, this run has {tuple(plan.image_shape)}"
        )


def named_prior(plan: Plan, parts: Parts, config: Any, name: str) -> Prior:
    """The prior of that name, which `check_prior` has let pass."""
    if name not in prior_names(plan):
        model = load(name)
        return Prior(name, model.params, model.apply, taught_from=model.noise_range[0])
    view = next((v for v in plan.learnt_views if v.stage_name == name), None)
    if view is not None:
        lowest = valid_from(view, parts.sigma_min.get(view.name, 0.0))
        return view_prior(view, parts)._replace(taught_from=lowest)
    return Prior(name, parts, lambda arrays, x, sigma: method_denoiser(plan, arrays, config, name)(x, sigma))


def in_tiles(prior: Prior, tile_shape: tuple, image_shape: tuple, overlap: int) -> Prior:
    """A prior of images of `tile_shape` as one of larger images; see `sampling.tiling`."""

    def denoise(arrays, x, sigma):
        return tiled(partial(prior.denoise, arrays), tile_shape, image_shape, overlap)(x, sigma)

    return prior._replace(denoise=denoise)


def told_operator(prior: Prior, arrays: Any, operator: LinearOperator, keys: jax.Array, more: jax.Array):
    """A~ of `ambient_dps` for a batch: a member of the prior's family as in its training.

    Args:
        prior, arrays: a network that is told what it sees.
        operator: A of the measurements.
        keys, more: (B,) of the member, and of what is hidden further.
    """
    family = prior.family(arrays)
    drawn = family.draw(keys)
    kept = drawn.further_corrupt(more, prior.delta)
    # Coil maps are those that measured: only the lines are the prior's.
    measured = operator.params if isinstance(operator.params, dict) else {}
    maps = {name: measured[name] for name in ("maps",) if name in kept.params and name in measured}
    return family.with_params({**kept.params, **maps})


def posterior(
    prior: Prior,
    method: str,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    keys: jax.Array,
    sigmas: np.ndarray,
    arrays: Any,
    told_keys: tuple[jax.Array, jax.Array],
    **settings: Any,
) -> jax.Array:
    """Draws by the guidance `method`, (S, B, *in_shape), for keys (S, B); `told_keys` as of `told_operator`."""
    if prior.told is None:
        denoiser = partial(prior.denoise, arrays)
    else:
        denoiser = given_operator(partial(prior.told, arrays))
        settings["further"] = told_operator(prior, arrays, operator, *told_keys)
    return posterior_draws(method, denoiser, operator, y, sigma_y, keys, sigmas, **settings)


def told_estimate(
    prior: Prior,
    arrays: Any,
    operator: LinearOperator,
    y: jax.Array,
    sigma_y: jax.Array,
    white: jax.Array,
    sigma: float,
) -> jax.Array:
    """E[X | A x_s, A] at s^2 = sigma^2 + sigma_y^2 / c, one evaluation of a network that is told what it sees.

    The network's own input, as in training: y is known, and x is not. y has noise of sigma_y already, and `white`, of
    the shape of x, adds that of a small sigma. Where A A^T is not c I, c is taken as 1.
    """
    noisy = operator.restrict(y + sigma * operator(white))
    level = jnp.sqrt(sigma**2 + jnp.square(sigma_y) / (operator.c or 1.0))
    return prior.told(arrays, back_project(operator, noisy), level, operator)


def filled_batches(measured: Measurement, batch: int) -> Iterator[tuple[np.ndarray, Measurement]]:
    """(rows (batch,), their measurements): the last batch is filled up with the last row, so that one program does."""
    count = len(measured.y)
    for start in range(0, count, batch):
        rows = np.minimum(np.arange(start, start + batch), count - 1)
        yield rows, jax.tree.map(lambda leaf, rows=rows: np.asarray(leaf)[rows], measured)


def evenly(count: int, asked: int) -> np.ndarray:
    """`asked` of `count` numbers, evenly spaced; 0: all."""
    return np.unique(np.linspace(0, count - 1, min(asked or count, count)).round().astype(int))
