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
from jaxdiff.experiment.stages import Run, train_one, tuning_set
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
      start: where the student's parameters start: 'auto', 'scratch', 'clean_only' or 'finetune'.
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
    sampling = {name: config.sample[name] for name in SAMPLING}
    sampling |= {"steps": asked.steps, "batch": min(asked.batch, asked.samples)}
    return DistillPlan(
        method=method,
        stage=stage_plan(config, "distill", asked, plan.image_shape[-1]),
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
    """What a distillation has made; `start` is the stage whose parameters it began with, '' for none."""

    stage_name: str
    params: Any
    sigma_data: float
    start: str


def starting_stage(distilled: DistillPlan, parts: Parts, data: StageData) -> str:
    """The stage whose parameters the student starts from, '' for none: 'auto' takes the first that fits.

    Raises:
      ConfigError: the one that is asked for is not there or has other shapes.
    """
    method = distill(distilled.stage.network, NatsNoise(*distilled.noise_range, 1.0), 1.0, lambda x, sigma: x)
    wanted = jax.tree.map(
        lambda leaf: leaf.shape, jax.eval_shape(method.init, jax.random.key(0), data.example())
    )
    stages = {"clean_only": parts.clean_only, "finetune": "finetune"}
    for name in ON_CLEAN if distilled.start == "auto" else (distilled.start,):
        stage = stages.get(name, "")
        if stage in parts.params and jax.tree.map(np.shape, parts.params[stage]) == wanted:
            return stage
    if distilled.start in ON_CLEAN:
        raise ConfigError(
            f"config.distill.start: '{distilled.start}' was not trained here or its network has other shapes than "
            "config.distill.network; use 'auto' or 'scratch'"
        )
    return ""


def train_student(run: Run, parts: Parts, distilled: DistillPlan) -> Student:
    """The teacher's samples, then the student's stage; both go on where they stopped.

    Raises:
      ConfigError: the student cannot start where it is asked to.
      Interrupted: stopped on request.
    """
    data = distill_data(run, parts, distilled)
    start = starting_stage(distilled, parts, data)
    sigma_data = distilled.stage.sigma_data or (parts.sigma_data[start] if start else data.scale())
    noise = NatsNoise(*distilled.noise_range, sigma_data, distilled.spread)

    def factory(frozen):
        teacher = model.method_denoiser(run.plan, frozen["parts"], run.config, distilled.method)
        method = distill(distilled.stage.network, noise, sigma_data, teacher)
        return finetune(method, frozen["parts"].params[start]) if start else method

    name = f"distill/{distilled.key}"
    state = train_one(run, name, distilled.stage, factory, {"parts": parts}, data, tuning_set(run))
    return Student(name, jax.tree.map(np.asarray, state.best), sigma_data, start)
