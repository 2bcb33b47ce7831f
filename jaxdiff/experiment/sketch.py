"""What the stages of a plan would be, by their shapes alone: nothing is trained, fitted or read.

Every stage's own method is traced on a stand-in for its data (random images of the right shape, measured by the real
operators), with the shapes of what earlier stages would have left. Counts of parameters and operations are exact; the
memory of activations is what the backward pass keeps, which XLA lowers by fusing and recomputing: an upper estimate.
"""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh
from rich.console import Console

from jaxdiff.composition import BandTable
from jaxdiff.data.dataset import clean_dataset, view_dataset
from jaxdiff.data.mixture import annotated
from jaxdiff.diffusion.gaussian import Gaussian
from jaxdiff.diffusion.noise import NatsNoise
from jaxdiff.experiment import learners, model
from jaxdiff.experiment.cost import stage_cost
from jaxdiff.experiment.data import ExperimentData, StageData, restored_data, training_data
from jaxdiff.experiment.distilling import DistillPlan, expected_start, is_told
from jaxdiff.experiment.entries import stage_plans
from jaxdiff.experiment.parts import Frozen, Parts
from jaxdiff.experiment.plan import Plan, StagePlan
from jaxdiff.experiment.stages import Run
from jaxdiff.experiment.traced import traced_once
from jaxdiff.experiment.view_stages import shared_data
from jaxdiff.methods import distill
from jaxdiff.operators import Measurement
from jaxdiff.training.sharding import state_sharding
from jaxdiff.training.state import init_state, make_optimizer
from jaxdiff.training.stopping import StopRequest

IMAGES = 8  # of the stand-in
ON_IMAGES = ("naive", "em")  # methods that train on images made from measurements


class StageSketch(NamedTuple):
    """One stage as it would be.

    Attributes:
      name, plan: of the stage.
      parameters: of its network.
      forward_flops, train_flops: for one image, of the loss and of the loss with its gradient.
      memory: bytes on each device by name: 'state' (parameters, moving average, best, optimiser), 'gradient', 'frozen'
        (what earlier stages left), 'activations' (estimated, of one device's share of a micro-batch).
    """

    name: str
    plan: StagePlan
    parameters: int
    forward_flops: float
    train_flops: float
    memory: dict[str, int]


class _StandIn:
    """Random images in place of a source."""

    name, labels, report = "stand-in", None, {}

    def __init__(self, shape: tuple[int, ...]):
        self.shape = shape
        self._images = np.random.default_rng(0).uniform(-1, 1, (IMAGES, *shape)).astype(np.float32)

    def __len__(self) -> int:
        return IMAGES

    def gather(self, indices: Any) -> np.ndarray:
        return self._images[np.asarray(indices)]

    gather_pixels = gather


def stand_in_data(plan: Plan, given: Mapping[str, Measurement]) -> ExperimentData:
    """A few random images, measured by the plan's operators; `given`: one measurement of views that brought theirs."""
    source, rows = _StandIn(plan.image_shape), np.arange(IMAGES)
    views = {}
    for view in plan.views:
        if view.name in given:
            one = given[view.name]
            dataset = clean_dataset(source, rows)._replace(
                take=lambda rows, one=one: jax.tree.map(lambda leaf: leaf[np.zeros(len(rows), int)], one)
            )
        else:
            dataset = view_dataset(source, rows, view.operator, 0, view.sigma_y, name=f"view/{view.name}")
        views[view.name] = StageData(dataset)
    none = np.empty((0, *plan.image_shape), np.float32)
    return ExperimentData(
        image_shape=plan.image_shape,
        clean=StageData(clean_dataset(source, rows)),
        views=views,
        operators={view.name: view.operator for view in plan.views},
        noise={},
        tuning=none,
        held_out=none,
        reference=none,
        counts={},
        report={},
        digests={},
        measured_part=lambda part, operator, seed: None,
    )


def _array(*shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct(shape, jnp.float32)


def _table(bands: int, columns: int) -> BandTable:
    return BandTable(_array(bands), _array(bands, columns))


def _gaussian(shape: tuple[int, ...], rank: int) -> Gaussian:
    values = math.prod(shape)
    rank = min(rank, values)
    return Gaussian(_array(*shape), _array(values, rank), _array(rank), _array())


def abstract_parts(plan: Plan, config: Any, clean: int) -> Parts:
    """What the stages are given before any of them has run, by shape: Gaussians, weights, operators.

    `clean` examples bound the rank of the Gaussian that is fitted to them.
    """
    rank = min(config.composition.rank or clean, max(clean - 1, 1))
    gaussian, bands = _gaussian(plan.image_shape, rank), config.bands.count
    marginals = {
        v.name: _gaussian(v.operator.out_shape, rank) for v in plan.views if plan.composes and not v.of_images
    }
    names = [*plan.stages, *(view.stage_name for view in plan.views)]
    table = _table(bands, len(plan.candidates))
    fused = plan.views and config.composition.fusion != "sum"
    return Parts(
        reference=gaussian,
        gaussian=gaussian,
        operators={view.name: view.operator for view in plan.views},
        view_gaussians=marginals,
        fusion=_table(bands, len(plan.views)) if fused else None,
        stacking={"views_only": table, model.Z: table},
        sigma_data=Frozen(dict.fromkeys(names, 0.5)),
        sigma_min=Frozen({view.name: 0.1 for view in plan.views if view.method == "omni"}),
    )


def stage_factory(plan: Plan, config: Any, name: str) -> Callable[[Mapping[str, Any]], Any]:
    """frozen -> the method of the stage `name`, as the stage itself makes it."""
    whole = name.split("/lap")[0]
    if whole == "shared":
        return lambda frozen: learners.shared_method(plan, frozen["parts"])
    if whole in model.RESIDUALS:
        return lambda frozen: model.residual_method(plan, frozen["parts"], config, whole)
    if whole.startswith("view/"):
        return lambda frozen: learners.view_method(plan.view(whole.removeprefix("view/")), frozen["parts"])
    if whole.startswith("classifier/"):
        return lambda frozen: learners.classifier_method(plan, whole, frozen["parts"])
    if whole == "cascade":
        return lambda frozen: learners.cascade_method(plan, frozen["parts"])
    if whole == "finetune/first" and plan.finetune_start == "views_only":
        return lambda frozen: model.imitation_method(plan, frozen["parts"], config)
    if whole == "finetune":
        prices = (config.finetune.penalty, config.finetune.made_penalty)
        return lambda frozen: learners.finetune_method(plan, frozen["parts"], *prices)
    return lambda frozen: learners.clean_method(plan, whole, frozen["parts"])


def _given_to(plan: Plan, name: str, parts: Parts) -> Parts:
    """The part of `parts` that goes into the stage, as in `stages` and `view_stages`."""
    whole = name.split("/lap")[0]
    if whole in model.RESIDUALS:
        return parts
    if whole == "shared":
        return parts.only(*(view.name for view in plan.shared_views))
    if whole.startswith("view/"):
        return parts.only(whole.removeprefix("view/"))
    if whole == "finetune/first" and plan.finetune_start == "views_only":
        return parts
    alone = Parts(sigma_data=parts.sigma_data)
    if whole == "finetune":
        return alone.with_params("finetune/first", parts.params["finetune/first"])
    return parts.only(plan.cascade_view) if whole == "cascade" else alone


def _example(run: Run, name: str) -> Measurement:
    """One measurement in the form that the stage is trained on."""
    whole = name.split("/lap")[0]
    kind, _, view_name = whole.partition("/")
    if whole == "shared":
        return shared_data(run, {}).example()
    if kind == "view" and run.plan.view(view_name).method not in ON_IMAGES:
        return training_data(run.plan.view(view_name), run.data, 0, 0.1).example()
    if kind == "classifier":
        restored = restored_data(run.plan.view(view_name), run.data.views[view_name], 0).dataset
        return annotated(restored).take(np.arange(1)).replace(params=None)
    if whole in ("residual", "finetune") or (whole, run.plan.finetune_start) == (
        "finetune/first",
        "views_only",
    ):
        return run.data_of(whole).example()
    return run.data.clean.example()


def _bytes(tree: Any, shardings: Any = None) -> int:
    """Bytes on one device."""
    leaves = jax.tree.leaves(tree)
    shapes = [leaf.shape for leaf in leaves]
    if shardings is not None:
        pairs = zip(jax.tree.leaves(shardings), shapes, strict=True)
        shapes = [sharding.shard_shape(shape) for sharding, shape in pairs]
    return sum(math.prod(s) * leaf.dtype.itemsize for s, leaf in zip(shapes, leaves, strict=True))


def kept_for_backward(
    factory: Callable[[Any], Any], params: Any, frozen: Any, example: Any, batch: int = 4
) -> float:
    """Bytes for one image that the backward pass of a method's loss keeps, weights left out.

    Batches of one and of two times `batch` are compared; what they share is not of an image.
    """
    key = jax.random.key(0)

    def kept(batch):
        of_batch = jax.tree.map(lambda a: jax.ShapeDtypeStruct((batch, *a.shape[1:]), a.dtype), example)

        def backward(params, frozen, measured):
            return jax.vjp(lambda p: factory(frozen).loss(p, measured, key)[0], params)[1]

        return _bytes(jax.eval_shape(backward, params, frozen, of_batch))

    return (kept(2 * batch) - kept(batch)) / batch


def sketch_stage(run: Run, name: str, plan: StagePlan, parts: Parts, mesh: Mesh) -> tuple[StageSketch, Any]:
    """The stage `name`, and the shapes of the parameters that it would leave."""
    factory, frozen = stage_factory(run.plan, run.config, name), {"parts": _given_to(run.plan, name, parts)}
    return _sketch(name, plan, factory, frozen, _example(run, name), mesh)


def sketch_student(run: Run, distilled: DistillPlan, parts: Parts, mesh: Mesh) -> StageSketch:
    """The stage of `--mode=distill`, with what all the others would have left in `parts`."""
    plan, columns = run.plan, len(run.plan.candidates)
    weights = {"views_only": columns, model.Z: columns, **dict.fromkeys(model.RESIDUALS, columns + 1)}
    weights |= dict.fromkeys(model.ON_CLEAN, 2)
    tables = {name: _table(run.config.bands.count, count) for name, count in weights.items()}
    clean = [name for name in plan.stages if name.split("/")[0] == "clean_only"]
    parts = parts.replace(stacking=tables, clean_only=(clean or ["clean_only"])[0])
    sigma_data = distilled.stage.sigma_data or 0.5
    noise = NatsNoise(*distilled.noise_range, sigma_data, distilled.spread)
    told = is_told(expected_start(plan, distilled))

    def factory(frozen):
        teacher = model.method_denoiser(plan, frozen["parts"], run.config, distilled.method)
        return distill(distilled.stage.network, noise, sigma_data, teacher, told)

    name, example = f"distill/{distilled.key}", run.data.clean.example()
    return _sketch(name, distilled.stage, factory, {"parts": parts}, example, mesh)[0]


def _sketch(
    name: str, plan: StagePlan, factory: Callable[[Any], Any], frozen: Any, example: Measurement, mesh: Mesh
) -> tuple[StageSketch, Any]:
    settings = plan.settings
    optimizer = make_optimizer(settings.optimizer)

    def fresh(frozen):
        return init_state(factory(frozen).init(jax.random.key(0), example), optimizer)

    state = jax.eval_shape(fresh, frozen)
    shardings = state_sharding(mesh, state, settings.sharding, settings.fsdp_min_size)
    cost = stage_cost(factory, frozen, example, settings.batch, state.params)
    at_once = settings.batch / mesh.size / settings.accumulate
    memory = {
        "state": _bytes(state, shardings),
        "gradient": _bytes(state.params, shardings.params),
        "frozen": _bytes(frozen),
        "activations": int(
            kept_for_backward(factory, state.params, frozen, example, settings.batch) * at_once
        ),
    }
    count = sum(math.prod(leaf.shape) for leaf in jax.tree.leaves(state.params))
    return StageSketch(name, plan, count, cost.forward, cost.train, memory), state.params


def sketch_stages(
    plan: Plan,
    config: Any,
    clean: int,
    given: Mapping[str, Measurement],
    mesh: Mesh,
    workdir: Path,
    distilled: DistillPlan | None = None,
) -> list[StageSketch]:
    """All stages in the order in which they would run, that of a distillation last."""
    data = stand_in_data(plan, given)
    plan = traced_once(plan)
    run = Run(plan, config, data, workdir, Console(quiet=True), StopRequest())
    parts, found = abstract_parts(plan, config, clean), []
    for name, stage in stage_plans(plan).items():
        sketch, params = sketch_stage(run, name, stage, parts, mesh)
        found.append(sketch)
        parts = parts.with_params(name.split("/lap")[0], params)
    return found if distilled is None else [*found, sketch_student(run, distilled, parts, mesh)]
