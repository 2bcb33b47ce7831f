"""The data of an experiment: which examples are clean, which are a view, which are held out."""

import hashlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxdiff.data.damage import build_damage
from jaxdiff.data.dataset import Dataset, clean_dataset, measured_dataset, view_dataset
from jaxdiff.data.loader import batches, rows_at
from jaxdiff.data.measured import MeasurementSource, open_measurements
from jaxdiff.data.mixture import annotated, as_measured, concatenated
from jaxdiff.data.sources import Source, open_source
from jaxdiff.data.wavelet import wavelet_reconstruction
from jaxdiff.experiment.checks import ConfigError, at
from jaxdiff.experiment.plan import ViewPlan, view_operator
from jaxdiff.experiment.splitting import split_parts
from jaxdiff.methods.finetune import restored, seen_in
from jaxdiff.operators import LinearOperator, Measurement

CLEAN_LIMIT = 20_000  # images that the Gaussian is fitted to


class StageData(NamedTuple):
    """The measurements one stage may see."""

    dataset: Dataset
    flip: bool = False

    def batches(self, batch: int, seed: int, start: int, length: int) -> Iterator[Measurement]:
        """Batches with leading axes (length, batch), from step `start` on."""
        return batches(
            self.dataset,
            batch,
            seed=seed,
            start_step=start,
            steps_per_dispatch=length,
            flip=self.flip,
            process_index=jax.process_index(),
            process_count=jax.process_count(),
        )

    def rows(self, batch: int, seed: int, step: int) -> np.ndarray:
        """Rows of the data set that step `step` (from 0) sees, (batch,)."""
        return rows_at(np.arange(step * batch, (step + 1) * batch), self.dataset.size, seed)

    def example(self, count: int = 1) -> Measurement:
        """The first measurements (fewer where there are fewer)."""
        return self.dataset.take(np.arange(min(count, self.dataset.size)))

    def scale(self) -> float:
        """Root mean square of the measurements (of the first 4096): sigma_data of what is in y."""
        return float(np.sqrt(np.mean(np.square(self.example(4096).y))))


class ExperimentData(NamedTuple):
    """Disjoint parts of one source, and what a report says of them.

    `clean` is None where no example is; `noise` is the least sigma_y of the views that brought their measurements.
    """

    image_shape: tuple[int, int, int]
    clean: StageData | None
    views: dict[str, StageData]
    operators: dict[str, LinearOperator]
    noise: dict[str, float]
    tuning: np.ndarray
    held_out: np.ndarray
    reference: np.ndarray
    counts: dict[str, int]
    report: dict[str, Any]
    digests: dict[str, str]  # by part, of the numbers of its examples: equal where they are the same examples
    # ('held_out', 'tuning' or 'reference', operator, seed) -> measurements of that part's images
    measured_part: Callable[[str, LinearOperator, int], Dataset]

    def clean_images(self) -> np.ndarray:
        """The clean training images (at most `CLEAN_LIMIT`), (n, H, W, C)."""
        if self.clean is None:
            return np.empty((0, *self.image_shape), np.float32)
        return np.asarray(self.clean.example(CLEAN_LIMIT).y)

    def reference_images(self) -> np.ndarray:
        """What the Gaussian of nats_over_gaussian is fitted to: the reference part, else the clean examples."""
        return self.reference if len(self.reference) else self.clean_images()


def _pixel_rules(config: Any) -> dict[str, Any]:
    data = config.data
    return {
        "image_size": data.image_size or None,
        "channels": data.channels or None,
        "resize": data.resize,
        "center_crop": data.center_crop,
        "max_bad_share": data.max_bad_share,
    }


def open_clean(config: Any) -> Source:
    """The source of `config.data`, its images as the config wants them.

    Raises:
      ConfigError, FileNotFoundError: it is unknown or missing.
    """
    data = config.data
    try:
        return open_source(
            data.source,
            **_pixel_rules(config),
            split=data.split,
            data_dir=data.data_dir or None,
            coils=data.coils,
        )
    except ValueError as error:
        raise at("data.source", error) from None


def open_measured(config: Any, name: str, shape: tuple[int, ...]) -> MeasurementSource:
    """The measurements that the view `name` brings with it.

    Raises:
      ConfigError, FileNotFoundError: they are missing, or of other images than `shape`.
    """
    path = f"views.{name}.source"
    try:
        source = open_measurements(config.views[name].source, **_pixel_rules(config))
    except ValueError as error:
        raise at(path, error) from None
    if tuple(source.operator.in_shape) != shape:
        raise ConfigError(
            f"config.{path}: measurements of images {source.operator.in_shape}, '{config.data.source}' has {shape}"
        )
    return source


def _simulated(config: Any, name: str, source: Source, indices, operator, limit: int) -> Dataset:
    view, damage = config.views[name], None
    if len(view.damage):
        spec = view.damage.to_dict()
        try:
            damage = build_damage(spec.pop("name"), **spec)
        except ValueError as error:
            raise at(f"views.{name}.damage", error) from None
    return view_dataset(
        source, indices, operator, config.seed, view.sigma_y, limit, f"view/{name}", damage=damage
    )


def load_data(config: Any, console: Console) -> ExperimentData:
    """Open the source, split it, fix the measurement of every view example; open the measured views.

    Raises:
      ConfigError, FileNotFoundError: the source is unknown, missing or too small.
    """
    data, source = config.data, open_clean(config)
    total = min(len(source), data.limit) if data.limit else len(source)
    parts = split_parts(config, total)
    shape, limit = tuple(source.shape), int(data.cache_gib * 2**30)
    counts = {name: len(indices) for name, indices in parts.items()}
    views, view_operators, noise, report = {}, {}, {}, dict(source.report)
    for name, view in config.views.items():
        if view.source:
            measured = open_measured(config, name, shape)
            share = view.examples
            size = int(share) if share > 1 else round(share * len(measured))
            rows = np.arange(min(len(measured), max(size, 1)))
            dataset, operator = measured_dataset(measured, rows, limit, f"view/{name}"), measured.operator
            noise[name] = float(dataset.take(np.arange(min(1024, len(rows)))).sigma_y.min())
            report[f"view/{name}"], counts[f"view/{name}"] = measured.report, len(rows)
        else:
            operator = view_operator(config, name, shape)
            dataset = _simulated(config, name, source, parts[f"view/{name}"], operator, limit)
        views[name], view_operators[name] = StageData(dataset, data.flip and dataset.mirrors), operator
    clean = StageData(clean_dataset(source, parts["clean"], limit), data.flip) if data.clean else None
    images = {part: source.gather(parts[part]) for part in ("tuning", "held_out", "reference")}
    digests = {name: hashlib.sha256(np.sort(rows).tobytes()).hexdigest() for name, rows in parts.items()}

    def measured_part(part, operator, seed):
        return view_dataset(source, parts[part], operator, seed, 0.0, limit, part.replace("_", " "))

    return ExperimentData(
        image_shape=shape,
        clean=clean,
        views=views,
        operators=view_operators,
        noise=noise,
        **images,
        counts=counts,
        report=report,
        digests=digests,
        measured_part=measured_part,
    )


def mapped(dataset: Dataset, function: Callable[[Measurement], Measurement], limit: int) -> Dataset:
    """The data set of function(measurement), worked out once, where it fits in `limit` bytes."""

    def take(rows):
        return jax.tree.map(np.asarray, function(dataset.take(rows)))

    one = take(np.arange(1))
    if dataset.size * sum(leaf.nbytes for leaf in jax.tree.leaves(one)) > limit:
        return dataset._replace(take=take)
    parts = [take(np.arange(i, min(i + 256, dataset.size))) for i in range(0, dataset.size, 256)]
    kept = jax.tree.map(lambda *leaves: np.concatenate(leaves), *parts)
    return dataset._replace(take=lambda rows: jax.tree.map(lambda leaf: leaf[rows], kept))


def restored_data(view: ViewPlan, base: StageData, limit: int) -> StageData:
    """A^+ y in place of y: what 'naive', 'omni' and the first stage of 'finetune' take for images.

    For 'omni' the examples say which of their pixels are an image's ('seen'): a crop's surroundings are not.
    """
    if view.operator.name == "identity":
        return base._replace(
            dataset=mapped(base.dataset, lambda m: m.replace(params=None, sigma_y=0 * m.sigma_y), limit)
        )

    if view.restored_by == "wavelet":

        def by_wavelet(measured):
            options = dict(view.wavelet)
            image = wavelet_reconstruction(measured, view.operator, wavelet=options.pop("name"), **options)
            return measured.replace(y=image, params=None)

        return base._replace(dataset=mapped(base.dataset, by_wavelet, limit)._replace(mirrors=True))

    @jax.jit
    def project(measured):
        image = restored(measured, view.operator)
        if view.method != "omni":
            return image
        return image.replace(params={"seen": seen_in(measured, view.operator)})

    return base._replace(dataset=mapped(base.dataset, project, limit)._replace(mirrors=True))


def _all_seen(measured: Measurement) -> Measurement:
    return measured.replace(params={"seen": np.ones(measured.y.shape, bool)})


def training_data(view: ViewPlan, data: ExperimentData, limit: int, sigma_min: float) -> StageData:
    """What the stage of a view is trained on: its measurements, in the form its method takes, and the clean ones."""
    stage = data.views[view.name]
    if view.method in ("naive", "omni"):
        stage = restored_data(view, stage, limit)
    dataset = stage.dataset
    if view.method == "omni":
        dataset = annotated(dataset, sigma_min, view.sigma_max, 1)
    if view.with_clean:
        clean = data.clean.dataset
        if view.method == "omni":
            clean = annotated(clean)
            if view.operator.name != "identity":
                clean = mapped(clean, _all_seen, 0)
        elif view.method != "naive":
            clean = as_measured(clean, view.operator)
        dataset = concatenated(dataset.name, [dataset, clean])
    return StageData(dataset, stage.flip and dataset.mirrors)


def image_scale(stage: StageData, operator: LinearOperator) -> float:
    """Root mean square of the *images* behind measurements: (|y|^2 - noise) / tr(A A^T), over the first 1024.

    tr(A A^T) = E |A e|^2 for random signs e. For masks: over the pixels seen.
    """
    batch = stage.example(1024)
    count = len(batch.y)
    drawn = operator.with_params(jax.tree.map(jnp.asarray, batch.params))
    signs = jax.random.rademacher(jax.random.key(0), (count, *operator.in_shape), jnp.float32)
    trace = float(jnp.sum(jnp.square(drawn(signs))))
    values = jnp.sum(drawn.reached(count), axis=tuple(range(1, batch.y.ndim)))
    noise = float(jnp.sum(jnp.square(batch.sigma_y) * values))
    energy = float(np.sum(np.square(np.asarray(batch.y, np.float64)))) - noise
    if not energy > 0:
        raise ValueError(f"{stage.dataset.name}: the measurements hold less energy than their noise sigma_y")
    return float(np.sqrt(energy / trace))
