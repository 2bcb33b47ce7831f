"""What is restored: images that are measured here, so that the truth is known, or measurements as they are."""

import hashlib
from typing import Any, NamedTuple

import jax
import numpy as np

from jaxdiff.data.measure import measure
from jaxdiff.data.measured import holds_measurements, open_measurements
from jaxdiff.data.sources import open_source
from jaxdiff.experiment.checks import ConfigError, at
from jaxdiff.experiment.data import ExperimentData
from jaxdiff.experiment.plan import Plan
from jaxdiff.experiment.priors import evenly
from jaxdiff.experiment.restore_plan import RestorePlan, build_operators
from jaxdiff.operators import LinearOperator, Measurement

MEASURED = "measured"  # the operator's name where measurements bring it
CHANNELS = {1: "gray", 2: "complex", 3: "RGB"}


class Input(NamedTuple):
    """Measurements by operator, of the same images.

    Attributes:
        truth: (n, H, W, C), or None where nobody knows it.
        rows: (n,) numbers of the examples in their source.
        files: their files by name, (n,), where each is a file of its own (folder:, zip:), else None.
        operators, measured: by name.
        digest: of all that is measured: equal for equal measurements.
    """

    truth: np.ndarray | None
    rows: np.ndarray
    files: list[str] | None
    operators: dict[str, LinearOperator]
    measured: dict[str, Measurement]
    digest: dict[str, str]


def open_input(config: Any, plan: Plan, data: ExperimentData, restoration: RestorePlan) -> Input:
    """Read or measure what `config.restore.input` names.

    Raises:
      ConfigError, FileNotFoundError: it is unknown or missing, or its images do not fit the priors.
    """
    if restoration.input in ("held_out", "tuning"):
        images = getattr(data, restoration.input)
        if not len(images):
            raise ConfigError(f"config.restore.input: this run has no {restoration.input} images")
        rows = evenly(len(images), restoration.count)
        return _measured_here(plan, restoration, images[rows], rows, None)
    rules = {"channels": config.data.channels or None, "resize": config.data.resize}
    rules |= {"center_crop": config.data.center_crop, "max_bad_share": config.data.max_bad_share}
    try:
        if holds_measurements(restoration.input):
            return _as_it_is(config, plan, restoration, rules)
        rules |= {"split": config.data.split, "data_dir": config.data.data_dir or None}
        rules |= {"coils": config.data.coils, "image_size": restoration.image_size}
        source = open_source(restoration.input, **rules)
    except ConfigError:
        raise
    except ValueError as error:
        raise at("restore.input", error) from None
    check_shape(restoration, tuple(source.shape), tuple(plan.image_shape))
    rows = evenly(len(source), restoration.count)
    return _measured_here(plan, restoration, source.gather(rows), rows, _files(restoration, source, rows))


def check_shape(restoration: RestorePlan, shape: tuple[int, ...], trained: tuple[int, ...]) -> None:
    """Whether the priors, of images of the shape `trained`, can denoise images of `shape`.

    Raises:
      ConfigError: says which key makes it so.
    """
    if shape[2] != trained[2]:
        raise ConfigError(
            f"config.restore.input: {restoration.input} has images of {shape[2]} channels "
            f"({CHANNELS.get(shape[2], 'unknown')}), the priors were trained on {trained[2]} "
            f"({CHANNELS.get(trained[2], 'unknown')})"
        )
    size = "x".join(map(str, shape[:2]))
    if min(shape[0] - trained[0], shape[1] - trained[1]) < 0:
        raise ConfigError(
            f"config.restore.image_size: images of {size} are smaller than those of training, "
            f"{trained[0]}x{trained[1]}; 0 resizes them to that"
        )
    if shape != trained and not restoration.overlap:
        raise ConfigError(
            f"config.restore.tile.overlap: images of {size} are larger than those of training, "
            f"{trained[0]}x{trained[1]}, and are restored in tiles only if that is declared; set it to the pixels that "
            f"neighbouring tiles share, such as {min(trained[:2]) // 2}, or restore.image_size=0 to resize them"
        )


def _measured_here(
    plan: Plan, restoration: RestorePlan, truth: np.ndarray, rows: np.ndarray, files: list[str] | None
) -> Input:
    found = build_operators(restoration, tuple(truth.shape[1:]))
    measured = {
        name: measure(operator, truth, rows, restoration.seed, restoration.sigma_y)
        for name, operator in found.items()
    }
    return Input(truth, rows, files, found, measured, {name: _digest(m) for name, m in measured.items()})


def _as_it_is(config: Any, plan: Plan, restoration: RestorePlan, rules: dict[str, Any]) -> Input:
    if config.restore.operator.name:
        raise ConfigError(
            f"config.restore.operator.name: {restoration.input} holds measurements, which bring their operator with "
            "them; leave it empty"
        )
    if restoration.input.partition(":")[0] in ("folder", "zip"):
        rules = rules | {"image_size": restoration.image_size}
    else:  # what was measured is neither resized nor recoloured
        rules = {"max_bad_share": rules["max_bad_share"]}
    source = open_measurements(restoration.input, **rules)
    check_shape(restoration, tuple(source.shape), tuple(plan.image_shape))
    rows = evenly(len(source), restoration.count)
    taken = source.gather(rows)
    operators, measured = {MEASURED: source.operator}, {MEASURED: taken}
    files = _files(restoration, source, rows)
    return Input(None, rows, files, operators, measured, {MEASURED: _digest(taken)})


def _files(restoration: RestorePlan, source: Any, rows: np.ndarray) -> list[str] | None:
    if restoration.input.partition(":")[0] not in ("folder", "zip"):
        return None
    return [source.files[row] for row in rows]


def _digest(measured: Measurement) -> str:
    found = hashlib.sha256()
    for leaf in jax.tree.leaves(measured):
        found.update(np.ascontiguousarray(leaf).tobytes())
    return found.hexdigest()[:16]
