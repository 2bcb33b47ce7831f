"""`--mode=distill`: a composed denoiser imitated by one network, measured, and written as a model of its own.

Everything that training depends on is hashed into the stage's name, 'distill/<hash>': other settings are another
stage with its own directory, and the same settings go on where they stopped.
"""

import hashlib
import json
import signal
import zlib
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from ml_collections import ConfigDict

from jaxdiff.diffusion.noise import NatsNoise
from jaxdiff.experiment import model
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.checks import OF_VIEWS, ConfigError, choose
from jaxdiff.experiment.completing import as_clean
from jaxdiff.experiment.data import StageData
from jaxdiff.experiment.model import ON_CLEAN
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan, StagePlan, stage_plan
from jaxdiff.experiment.sampling import make_sampler, sampled_methods
from jaxdiff.experiment.stages import Run, stage_names, train_one, tuning_set
from jaxdiff.export import is_export
from jaxdiff.methods import distill, finetune
from jaxdiff.networks import network_spec
from jaxdiff.progress import StageProgress
from jaxdiff.sampling import image_keys
from jaxdiff.training.stopping import Interrupted

SAMPLING = (
    "sampler",
    "eta",
    "sigma_min",
    "sigma_max",
    "rho",
    "s_churn",
    "s_min",
    "s_max",
    "s_noise",
    "through",
    "guidance",
)

STARTS = ("auto", "scratch", *ON_CLEAN)


class DistillPlan(NamedTuple):
    """A distillation in plain arguments.

    Attributes:
      method: the teacher's name.
      stage: network and budget of the student.
      noise_range: (lowest, highest) sigma of training.
      spread: see `NatsNoise`.
      start: where the student's parameters start: 'auto', 'scratch', 'clean_only', 'finetune' or 'shared'.
      samples: images drawn from the teacher.
      sampling: changes to config.sample for these draws.
      seed: of these draws.
      out: where the model is written.
    """

    method: str
    stage: StagePlan
    noise_range: tuple[float, float]
    spread: float
    start: str
    samples: int
    sampling: dict[str, Any]
    seed: int
    out: Path

    @property
    def samples_key(self) -> str:
        """Names the teacher's samples: they change with nothing else."""
        return _short_hash([self.method, self.seed, self.sampling])

    @property
    def key(self) -> str:
        """Names the stage: equal for equal training."""
        network, settings = network_spec(self.stage.network), self.stage.settings
        noise = [self.noise_range, self.spread]
        return _short_hash([self.samples_key, self.samples, noise, self.start, network, settings])


def _short_hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def teachers(plan: Plan) -> list[str]:
    """The denoisers of images that can be imitated."""
    return [name for name in sampled_methods(plan) if name != "cascade"]


def make_distill_plan(config: ConfigDict, plan: Plan, workdir: Path) -> DistillPlan:
    """The distillation that `config.distill` asks for.

    Raises:
      ConfigError: something in it is wrong.
    """
    asked, known = config.distill, teachers(plan)
    composed = [name for name in known if name in OF_VIEWS]
    method = asked.method or (composed or known)[-1]
    choose("distill.method", method, known)
    choose("distill.start", asked.start, STARTS)
    for name, least in (("samples", 1), ("steps", 2), ("batch", 1)):
        if asked[name] < least:
            raise ConfigError(f"config.distill.{name}: at least {least} are needed, got {asked[name]}")
    if not 0 <= asked.spread <= 1:
        raise ConfigError(f"config.distill.spread: a share between 0 and 1, got {asked.spread}")
    out = Path(asked.out) if asked.out else workdir / "distilled"
    if out.exists() and not is_export(out) and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(
            f"config.distill.out: {out} holds something else; give a directory that is new or empty"
        )
    stage = stage_plan(config, "distill", asked, plan.image_shape[-1])
    if asked.start in ON_CLEAN:
        starts = possible_starts(plan, stage)
        if starts[asked.start]:
            valid = ["auto", "scratch", *(name for name, reason in starts.items() if not reason)]
            raise ConfigError(
                f"config.distill.start: '{asked.start}' {starts[asked.start]}; valid here: {', '.join(valid)}"
            )
    sampling = {name: config.sample[name] for name in SAMPLING}
    sampling |= {"steps": asked.steps, "batch": min(asked.batch, asked.samples)}
    return DistillPlan(
        method=method,
        stage=stage,
        noise_range=(
            min(config.bands.sigma_min, config.sample.sigma_min),
            max(config.bands.sigma_max, config.sample.sigma_max),
        ),
        spread=asked.spread,
        start=asked.start,
        samples=asked.samples,
        sampling=sampling,
        seed=zlib.crc32(f"{config.seed}/distill/samples".encode()) & 0x7FFFFFFF,
        out=out,
    )


def teacher_samples(run: Run, parts: Parts, distilled: DistillPlan) -> np.ndarray:
    """Images drawn by the teacher, (n, H, W, C) in [-1, 1]; each batch is kept in fits/, so that a stop loses one.

    Raises:
      Interrupted: stopped on request.
    """
    folder = run.workdir / "fits" / f"distill_samples_{distilled.samples_key}"
    batch, count = distilled.sampling["batch"], distilled.samples
    config = run.config.copy_and_resolve_references()
    config.sample.update(distilled.sampling)
    draw = make_sampler(run.plan, config, distilled.method)
    images = []
    title = f"samples of {distilled.method}"
    with run.stop.listening(), StageProgress(title, count, unit="images", console=run.console) as bar:
        for start in range(0, count, batch):
            path = folder / f"{start:06d}.npy"
            if not path.exists():
                if run.stop:
                    name = signal.Signals(run.stop.signal).name
                    raise Interrupted(f"{name}: {start} of {count} samples of {distilled.method} are kept")
                drawn = np.asarray(draw(parts, image_keys(distilled.seed, start, batch)))
                write_atomically(
                    path, lambda temporary, drawn=drawn: np.save(temporary, np.clip(drawn, -1.0, 1.0))
                )
            images.append(np.load(path, allow_pickle=False))
            bar.update(min(start + batch, count))
    return np.concatenate(images)[:count]


def distill_data(run: Run, parts: Parts, distilled: DistillPlan) -> StageData:
    """What the teacher is asked about: noisy versions of its own samples and of the clean training images."""
    data = as_clean("distill", [teacher_samples(run, parts, distilled)], run.data.clean)
    return data._replace(flip=run.config.data.flip)


class Student(NamedTuple):
    """What a distillation has made.

    Attributes:
      stage_name: 'distill/<hash>'.
      params: of its network, the best by the tuning images.
      sigma_data: of its preconditioning.
      start: the stage whose parameters it began with, '' for none.
    """

    stage_name: str
    params: Any
    sigma_data: float
    start: str

    @property
    def told(self) -> bool:
        """Whether its network is told the coverage, as the one that it began with."""
        return is_told(self.start)


def is_told(start: str) -> bool:
    """Whether a student that starts from `start` is told the coverage."""
    return start == "shared"


def _param_shapes(network: nn.Module, image_shape: tuple[int, ...], told: bool) -> Any:
    """Shapes of a network's parameters; nothing is computed."""
    x, ones = np.zeros((1, *image_shape), np.float32), np.ones(1, np.float32)
    condition = {"image": x} if told else None
    params = jax.eval_shape(
        lambda: network.init(jax.random.key(0), x, ones, condition, train=False)["params"]
    )
    return jax.tree.map(np.shape, params)


def possible_starts(plan: Plan, stage: StagePlan) -> dict[str, str]:
    """Of ON_CLEAN, by name why the student cannot start from it; '' where it can. Nothing is compiled."""
    trained, found = {name.split("/")[0]: name for name in stage_names(plan)}, {}
    for name in ON_CLEAN:
        if name not in trained:
            found[name] = "is not among what this config trains"
            continue
        network = plan.stages[trained[name] if name == "clean_only" else name].network
        ours, theirs = (_param_shapes(n, plan.image_shape, is_told(name)) for n in (stage.network, network))
        found[name] = "" if ours == theirs else "has another network than config.distill.network"
    return found


def expected_start(plan: Plan, distilled: DistillPlan) -> str:
    """Which of ON_CLEAN `starting_stage` will take once all is trained, '' for none."""
    if distilled.start != "auto":
        return distilled.start if distilled.start in ON_CLEAN else ""
    reasons = possible_starts(plan, distilled.stage)
    return next((name for name in ON_CLEAN if not reasons[name]), "")


def starting_stage(distilled: DistillPlan, parts: Parts, image_shape: tuple[int, ...]) -> tuple[str, Any]:
    """The stage that the student starts from and its parameters, ('', None) for none.

    'auto' takes the first of ON_CLEAN that was trained and fits.

    Raises:
      ConfigError: the one that is asked for is not there or does not fit.
    """
    stages = {"clean_only": parts.clean_only, "finetune": "finetune", "shared": "shared"}
    for name in ON_CLEAN if distilled.start == "auto" else (distilled.start,):
        stage = stages.get(name, "")
        if stage not in parts.params:
            continue
        params = parts.params[stage]
        wanted = _param_shapes(distilled.stage.network, image_shape, is_told(name))
        if jax.tree.map(np.shape, params) == wanted:
            return stage, params
    if distilled.start in ON_CLEAN:
        raise ConfigError(
            f"config.distill.start: '{distilled.start}' was not trained here or its network does not fit "
            "config.distill.network; use 'auto' or 'scratch'"
        )
    return "", None


def train_student(run: Run, parts: Parts, distilled: DistillPlan) -> Student:
    """The teacher's samples, then the student's stage; both go on where they stopped.

    Raises:
      ConfigError: the student cannot start where it is asked to.
      Interrupted: stopped on request.
    """
    data = distill_data(run, parts, distilled)
    start, params = starting_stage(distilled, parts, run.plan.image_shape)
    sigma_data = distilled.stage.sigma_data or (parts.sigma_data[start] if start else data.scale())
    noise = NatsNoise(*distilled.noise_range, sigma_data, distilled.spread)

    def factory(frozen):
        teacher = model.method_denoiser(run.plan, frozen["parts"], run.config, distilled.method)
        method = distill(distilled.stage.network, noise, sigma_data, teacher, is_told(start))
        return finetune(method, frozen["start"]) if start else method

    name = f"distill/{distilled.key}"
    frozen = {"parts": parts, "start": params}
    state = train_one(
        run, name, distilled.stage, factory, frozen, data, tuning_set(run), tune_start=bool(start)
    )
    return Student(name, jax.tree.map(np.asarray, state.best), sigma_data, start)
