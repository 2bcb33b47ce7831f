"""The E-steps of an experiment: measurements completed by posterior draws, one file of images for each lap."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxdiff.data.mixture import array_dataset
from jaxdiff.diffusion.gaussian import Gaussian
from jaxdiff.diffusion.gaussian_em import fit_gaussian_em
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.evaluation.flops import count_flops
from jaxdiff.experiment.arrays import is_there, load_arrays, write_atomically
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import StageData
from jaxdiff.experiment.plan import EmPlan, ViewPlan
from jaxdiff.methods.em import complete
from jaxdiff.operators import LinearOperator
from jaxdiff.progress import StageProgress
from jaxdiff.sampling import replacement_draw
from jaxdiff.training.processes import wait_for_all

SHARED_LAW = "shared_law.npz"  # in fits/: what matches the parts for the first lap of a shared network
Denoise = Callable[[Any, jax.Array, jax.Array], jax.Array]  # (arrays, x, sigma) -> denoised


def check_law(config: Any, counts: Mapping[str, int]) -> None:
    """Refuse more components of `config.shared.law` than there are measurements to fit them to.

    Args:
      config: of the run.
      counts: examples of each part; parts that are not known are left out.

    Raises:
      ConfigError: more components than measurements.
    """
    shared, names = config.shared, [name for name, view in config.views.items() if view.method == "shared"]
    parts = [f"view/{name}" for name in names] + ["clean"]
    if not names or not shared.law.laps or not all(part in counts for part in parts):
        return
    found = sum(min(counts[part], shared.em.examples) for part in parts)
    if shared.law.components > found:
        raise ConfigError(
            f"config.shared.law.components: {shared.law.components} of {found} measurements; nearest valid: {found}"
        )


def gaussian_of_measurements(
    operator: LinearOperator, data: StageData, settings: EmPlan, key: jax.Array
) -> Gaussian:
    """A Gaussian fitted by EM to the measurements of a view: where EM starts.

    Args:
      operator: the view's.
      data: its measurements.
      settings: laps, rank, and how many measurements at most, so many at a time.
      key: of the draws.
    """
    count, chunks = min(settings.examples, data.dataset.size), []
    batch = data.dataset.take(np.arange(count))
    for start in range(0, count, settings.batch):
        rows = slice(start, start + settings.batch)
        part = jax.tree.map(lambda leaf, rows=rows: jnp.asarray(leaf[rows]), batch)
        chunks.append((operator.with_params(part.params), part.y, part.sigma_y))
    return fit_gaussian_em(chunks, settings.gaussian_laps, key, settings.rank)


@partial(jax.jit, static_argnames=("denoise", "settings"))
def _complete(denoise, settings, arrays, operator, measurement, key, rows):
    sigmas = karras_schedule(settings.steps, settings.sigma_min, settings.sigma_max, settings.rho)

    def denoiser(x, sigma):
        return denoise(arrays, x, sigma)

    if settings.sampler == "replacement":
        drawn = operator.with_params(measurement.params)
        return replacement_draw(denoiser, drawn, measurement.y, key, sigmas, rows)
    return complete(
        denoiser,
        operator,
        measurement,
        key,
        sigmas,
        settings.cg_steps,
        rows,
        settings.sampler,
    )


def completed_images(
    path: Path,
    name: str,
    denoise: Denoise,
    arrays: Any,
    operator: LinearOperator,
    data: StageData,
    key: jax.Array,
    settings: EmPlan,
    console: Console,
) -> np.ndarray:
    """One posterior draw for each of the first `settings.examples` measurements, (n, H, W, C); kept in `path`.

    Args:
      path: .npz; read where it is there already.
      name: for the progress bar.
      denoise: (arrays, x, sigma) -> D(x, sigma); one function object for all calls with the same program.
      arrays: what it needs.
      operator: of the measurements, its parameters come with them.
      data: the measurements.
      key: of the draws.
      settings: laps, steps and so on.
      console: where the progress goes.
    """
    if not is_there(path):
        count = min(settings.examples, data.dataset.size)
        batch = min(settings.batch, count)
        images = []
        with StageProgress(f"complete {name}", count, unit="images", console=console) as bar:
            for start in range(0, count, batch):
                rows = np.minimum(np.arange(start, start + batch), count - 1)  # filled up: one program
                taken = jax.tree.map(jnp.asarray, data.dataset.take(rows))
                given = (arrays, operator, taken, key, rows)
                images.append(np.asarray(_complete(denoise, settings, *given)))
                bar.update(min(start + batch, count))
        whole = np.clip(np.concatenate(images)[:count], -1.0, 1.0)
        flops = len(images) * count_flops(partial(_complete, denoise, settings), *given)
        write_atomically(path, lambda temporary: np.savez_compressed(temporary, images=whole, flops=flops))
        wait_for_all(f"{path} is written")
    return load_arrays(path)["images"]


def completed_views(
    folder: Path,
    stage: str,
    lap: int,
    denoise: Denoise,
    arrays: Any,
    views: Sequence[ViewPlan],
    data: Mapping[str, StageData],
    key: jax.Array,
    settings: EmPlan,
    console: Console,
) -> list[np.ndarray]:
    """`completed_images` of every view, in the order of `views`, for one lap of one stage.

    Args:
      folder: where `<stage>_<view>_lap<lap>.npz` are kept, one for each view.
      stage, lap: whose E-step this is; the draws are those of fold_in(fold_in(key, lap), number of the view).
      views: whose measurements are completed.
      data: by name of the view.
      denoise, arrays, key, settings, console: as of `completed_images`.
    """
    of_lap = jax.random.fold_in(key, lap)
    return [
        completed_images(
            folder / f"{stage}_{view.name}_lap{lap}.npz",
            f"{view.name}, lap {lap}",
            denoise,
            arrays,
            view.operator,
            data[view.name],
            jax.random.fold_in(of_lap, number),
            settings,
            console,
        )
        for number, view in enumerate(views)
    ]


def completion_flops(workdir: Path, stage: str) -> float:
    """Operations of the completions that came before a stage; 0 for stages without."""
    name, _, lap = stage.partition("/lap")
    prefix = f"{name}_*" if name in ("completed", "shared") else f"em_{name.removeprefix('view/')}"
    found = sorted((workdir / "fits").glob(f"{prefix}_lap*.npz"))
    laps = sorted({path.stem.rpartition("_lap")[2] for path in found}, key=int)
    law = workdir / "fits" / SHARED_LAW
    if name == "shared" and law.exists() and lap in ("1", "") and not (laps and not lap):
        return float(load_arrays(law)["flops"])
    if not laps or not (name in ("completed", "shared") or name.startswith("view/")):
        return 0.0
    mine = lap or laps[-1]
    total = 0.0
    for path in found:
        if path.stem.rpartition("_lap")[2] == mine:
            total += float(load_arrays(path)["flops"])
    return total


def as_clean(name: str, images: Iterable[np.ndarray], clean: StageData | None) -> StageData:
    """Completed images, and the clean ones with them, as data of an M-step."""
    every = [*images, *([] if clean is None else [np.asarray(clean.example(clean.dataset.size).y)])]
    return StageData(array_dataset(name, np.concatenate(every).astype(np.float32)))
