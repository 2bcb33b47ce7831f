"""The stages of the views: one each; one in all for 'shared', laps for 'em', a classifier before 'omni'."""

import math
from collections.abc import Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff import operators
from jaxdiff.data.mixture import annotated, array_dataset, concatenated, repeated
from jaxdiff.diffusion.gaussian import Gaussian
from jaxdiff.diffusion.ppca_mixture import Lifted, PPCAMixture, fit_ppca_mixture, log_ratio
from jaxdiff.experiment import learners, model, tuning
from jaxdiff.experiment.arrays import saved
from jaxdiff.experiment.checks import FoundInTraining
from jaxdiff.experiment.completing import (
    SHARED_LAW,
    as_clean,
    completed_images,
    completed_views,
    gaussian_of_measurements,
)
from jaxdiff.experiment.data import StageData, mapped, restored_data, training_data
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import SharedPlan, ViewPlan, matched_pairs, operator_rank, with_steps
from jaxdiff.experiment.stages import Run, gaussian_denoised, stage_key, train_one, with_stacking
from jaxdiff.methods.finetune import finetune
from jaxdiff.methods.matching import draw_distances, matched
from jaxdiff.methods.omni import minimum_sigma
from jaxdiff.methods.shared import clean_odds, kind_of
from jaxdiff.operators import LinearOperator
from jaxdiff.progress import StageProgress

LEVELS = 25  # noise levels at which omni's classifier is looked at
HELD_BACK = 5  # every so-many-th example of a source is kept from its classifier, to look at it


def seen_by(view: ViewPlan, tuned: tuning.TuningSet | None, low: float) -> tuning.TuningSet | None:
    """The noisy tuning images as the stage of a view sees them: in its space, at the levels that it is taught."""
    if tuned is None:
        return None
    if not view.of_images:
        return jax.device_put(tuning.in_view(tuned, view.operator))
    return tuning.above(tuned, low)


def train_view(run: Run, parts: Parts, view: ViewPlan, tuned: tuning.TuningSet | None) -> Parts:
    """`view/<name>`; what the stage receives is its measurements, and clean images where it asks for them."""
    if view.method == "omni" and view.sigma_min < 0:
        parts = estimate_sigma_min(run, parts, view)
    elif view.method == "omni":
        parts = parts.with_sigma_min(**{view.name: view.sigma_min})
    sigma_min = parts.sigma_min.get(view.name, 0.0)
    seen = seen_by(view, tuned, learners.valid_from(view, sigma_min))
    if view.method == "em":
        return train_em(run, parts, view, seen)

    def factory(frozen):
        return learners.view_method(view, frozen["parts"])

    data = training_data(view, run.data, run.cache_bytes, sigma_min)
    frozen = {"parts": parts.only(view.name)}
    state = train_one(run, view.stage_name, view.stage, factory, frozen, data, seen)
    return parts.with_params(view.stage_name, state.best)


def shared_data(run: Run, completed: Mapping[int, np.ndarray]) -> StageData:
    """Clean examples, completed images by source number, and each view's lifted measurements, by their weights; see
    `learners.shared_method` for the numbers. A view's example holds as many values as its operator has rank."""
    plan, shown = run.plan, run.plan.shared
    sources = [
        annotated(restored_data(view, run.data.views[view.name], run.cache_bytes).dataset, source=number)
        for number, view in enumerate(plan.shared_views, start=1)
    ]
    clean, seen = run.data.clean.dataset, sum(source.size for source in sources)
    measured = sum(source.size * v.rank for source, v in zip(sources, plan.shared_views, strict=True))
    weight = shown.later_clean_weight if completed else shown.clean_weight
    odds = clean_odds(weight, clean.size * math.prod(plan.image_shape), measured)
    others = seen / (1 - shown.completed_share) if completed else seen
    whole = [annotated(repeated(clean, max(1, round(others * odds))), source=0)]
    count = sum(map(len, completed.values()))
    for number, images in completed.items():
        part = array_dataset(f"completed {number}", images.astype(np.float32))
        size = max(1, round((others - seen) * len(images) / count))
        whole.append(annotated(repeated(part, size), source=number))
    return StageData(concatenated("shared", [*whole, *sources]))


def completed_for_shared(
    views: Sequence[ViewPlan], shown: SharedPlan, draws: Sequence[np.ndarray]
) -> dict[int, np.ndarray]:
    """Completed images by source number (`learners.shared_method`): views that show the two parts of the image are
    matched where `shown.matches` asks for it; of every other view, the draws.

    Args:
      views: the views of the method 'shared'.
      shown: what the network is shown.
      draws: their completed measurements.
    """
    pairs = matched_pairs([view.operator for view in views], shown.matches)
    found = {
        1 + len(views) + number: images
        for number, images in enumerate(draws)
        if not any(number in pair for pair in pairs)
    }
    for number, (first, second) in enumerate(pairs):
        part = kind_of(views[first].operator).coverage
        cost = draw_distances(draws[first], draws[second], part, shown.seam_weight)
        found[1 + 2 * len(views) + number] = matched(draws[first], draws[second], part, cost, shown.matches)
    return found


def matched_for_shared(run: Run) -> dict[int, np.ndarray]:
    """Images put together for the first lap, by source number: the parts as they fit by the likelihood under a mixture
    of Gaussians, fitted to the measurements of all views of the method 'shared' and the clean examples together."""
    plan, shown = run.plan, run.plan.shared
    whole = operators.build("identity", plan.image_shape)
    sources = [(view.operator, run.data.views[view.name]) for view in plan.shared_views]
    views = [
        lifted(operator, data, shown.em.examples) for operator, data in [*sources, (whole, run.data.clean)]
    ]
    law = saved(run.workdir / "fits" / SHARED_LAW, PPCAMixture, lambda: _fitted_law(run, views))
    found = {}
    for number, (i, j) in enumerate(matched_pairs([operator for operator, _ in sources], shown.matches)):
        part, cost = kind_of(sources[i][0]).coverage, -log_ratio(law, views[i], views[j])
        images = matched(views[i].u, views[j].u, part, cost, shown.matches)
        found[1 + 2 * len(sources) + number] = images
    return found


def _fitted_law(run: Run, views: Sequence[Lifted]) -> PPCAMixture:
    law = run.plan.shared.law
    laps = law.laps if law.components == 1 else 2 * law.laps
    given = (law.components, law.rank, law.laps, run.config.seed, law.prior)
    with StageProgress("law of the parts", laps, unit="laps", console=run.console) as bar:
        return fit_ppca_mixture(views, *given, bar.update)


def lifted(operator: LinearOperator, data: StageData, most: int) -> Lifted:
    """The first `most` measurements in image space."""
    y = data.dataset.take(np.arange(min(most, data.dataset.size))).y

    def project(images):
        return np.asarray(operator.pinv(operator(jnp.asarray(images, jnp.float32))))

    return Lifted(project, np.asarray(operator.pinv(jnp.asarray(y))), operator_rank(operator))


def train_shared(run: Run, parts: Parts, tuned: tuning.TuningSet) -> Parts:
    """One network for all views of the method 'shared' and whole images; stopped early, and gated, as the latter's.

    In laps after the first, the views' measurements are completed by posterior draws of the lap before, and are whole
    images to learn from beside the clean ones; in the first, parts that fit are, where `law.laps` asks for it.
    """
    plan, name, settings = run.plan, "shared", run.plan.shared.em
    key, reference = stage_key(run.config.seed, name), gaussian_denoised(parts, tuned)
    frozen = {"parts": parts.only(*(view.name for view in plan.shared_views))}
    completed, params = {}, None

    def factory(frozen):
        if frozen["start"] is None:
            return learners.shared_method(plan, frozen["parts"])
        return finetune(learners.shared_method(plan, frozen["parts"], later=True), frozen["start"])

    def whole(arrays, x, sigma):
        return learners.shared_method(plan, arrays["parts"]).denoiser(arrays["params"])(x, sigma)

    def complete(lap, denoise, arrays):
        views, folder, data = plan.shared_views, run.workdir / "fits", run.data.views
        drawn = completed_views(folder, name, lap, denoise, arrays, views, data, key, settings, run.console)
        return completed_for_shared(views, plan.shared, drawn)

    if plan.shared.law.laps:
        completed = matched_for_shared(run)
    for lap in range(1, settings.laps + 1):
        if lap > 1:
            completed = complete(lap, whole, {**frozen, "params": params})
        label = name if lap == settings.laps else f"{name}/lap{lap}"
        stage = plan.stages[name] if lap == 1 else plan.shared.later
        data = shared_data(run, completed)
        state = train_one(run, label, stage, factory, {**frozen, "start": params}, data, tuned, reference)
        params = state.best
    parts = parts.with_params(name, params)
    if name not in plan.methods:
        return parts
    return with_stacking(run, parts, tuned, name, lambda p: model.clean_candidates(plan, p, name))


def _of_gaussian(arrays: Gaussian, x: jax.Array, sigma: jax.Array) -> jax.Array:
    return arrays.denoiser(x, sigma)


def train_em(run: Run, parts: Parts, view: ViewPlan, tuned: tuning.TuningSet | None) -> Parts:
    """Laps of completing every measurement by a posterior draw, and denoising on what came out."""
    base, clean = run.data.views[view.name], run.data.clean if view.with_clean else None
    key = stage_key(run.config.seed, f"em/{view.name}")
    folder = run.workdir / "fits"
    file = folder / f"em_gaussian_{view.name}.npz"
    denoise, arrays = (
        _of_gaussian,
        saved(file, Gaussian, lambda: gaussian_of_measurements(view.operator, base, view.em, key)),
    )
    frozen = {"parts": parts.only(view.name)}
    stage = with_steps(view.stage, max(1, view.stage.settings.steps // view.em.laps))

    def learnt(arrays, x, sigma):
        return learners.view_method(view, arrays["parts"]).denoiser(arrays["params"])(x, sigma)

    params = None
    for lap in range(1, view.em.laps + 1):
        images = completed_images(
            folder / f"em_{view.name}_lap{lap}.npz",
            f"{view.name}, lap {lap}",
            denoise,
            arrays,
            view.operator,
            base,
            jax.random.fold_in(key, lap),
            view.em,
            run.console,
        )

        def factory(frozen):
            method = learners.view_method(view, frozen["parts"])
            return method if frozen["start"] is None else finetune(method, frozen["start"])

        name = view.stage_name + ("" if lap == view.em.laps else f"/lap{lap}")
        data = as_clean(name, [images], clean)
        params = train_one(run, name, stage, factory, {**frozen, "start": params}, data, tuned).best
        denoise, arrays = learnt, {**frozen, "params": params}
    return parts.with_params(view.stage_name, params)


def estimate_sigma_min(run: Run, parts: Parts, view: ViewPlan) -> Parts:
    """The level from which on a classifier cannot tell the source of a view from clean data ('omni').

    The classifier is trained on four of five examples of both, and looked at on the fifth.

    Raises:
      FoundInTraining: it can at every level of the bands.
    """
    name = f"classifier/{view.name}"
    restored = restored_data(view, run.data.views[view.name], run.cache_bytes).dataset
    source = annotated(mapped(restored, lambda m: m.replace(params=None), 0), source=1)
    clean = annotated(run.data.clean.dataset, source=0)

    def factory(frozen):
        return learners.classifier_method(run.plan, name, frozen["parts"])

    def rows(dataset, held_back):
        numbers = np.arange(dataset.size)
        kept = numbers[(numbers % HELD_BACK == 0) == held_back]
        return dataset._replace(size=len(kept), take=lambda rows: dataset.take(kept[rows]))

    data = StageData(concatenated(name, [rows(part, False) for part in (source, clean)]))
    frozen = {"parts": Parts(sigma_data=parts.sigma_data)}
    params = train_one(run, name, run.plan.stages[name], factory, frozen, data, None).best
    bands = run.config.bands
    sigmas = np.geomspace(bands.sigma_min, bands.sigma_max, LEVELS)
    images = []
    for part in (clean, source):
        part = rows(part, True)
        images.append(jnp.asarray(part.take(np.arange(min(256, part.size))).y))
    accuracy = np.asarray(
        jax.jit(_accuracies, static_argnums=0)(
            lambda p, x, s: factory(frozen).denoiser(p)(x, s),
            params,
            *images,
            jnp.asarray(sigmas, jnp.float32),
            stage_key(run.config.seed, f"{name}/look"),
        )
    )
    least = minimum_sigma(accuracy, sigmas, view.tolerance)
    if not np.isfinite(least):
        raise FoundInTraining(
            f"config.views.{view.name}: a classifier tells this source from clean data at every noise level up to "
            f"{bands.sigma_max:g} (accuracy {accuracy[-1]:.2f} there); raise bands.sigma_max or views.{view.name}."
            "tolerance, give sigma_min yourself, or leave the view out"
        )
    run.console.print(f"{view.name}: usable from sigma = {least:.3g} up", highlight=False)
    return parts.with_sigma_min(**{view.name: float(least)})


def _accuracies(classify, params, clean, source, sigmas, key):
    """Share of right guesses at every level, both classes counted alike, (S,); 8 noise draws an image."""

    def at(item):
        sigma, number = item
        guesses = []
        for label, x in enumerate((clean, source)):
            x = jnp.tile(x, (8, 1, 1, 1))
            noise = jax.random.normal(jax.random.fold_in(jax.random.fold_in(key, number), label), x.shape)
            logits = classify(params, x + sigma * noise, jnp.full(len(x), sigma))
            guesses.append(jnp.mean((logits > 0) == bool(label)))
        return (guesses[0] + guesses[1]) / 2

    return jax.lax.map(at, (sigmas, jnp.arange(len(sigmas))))
