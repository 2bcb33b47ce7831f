"""The data of an experiment: which examples are clean, which are a view, which are held out."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from rich.console import Console

from jaxdiff.data.dataset import Dataset, clean_dataset, view_dataset
from jaxdiff.data.loader import batches
from jaxdiff.data.sources import open_source
from jaxdiff.data.split import hash_split
from jaxdiff.experiment.plan import ConfigError, at, view_operator
from jaxdiff.operators import Measurement


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

    def example(self, count: int = 1) -> Measurement:
        """The first measurements (fewer where there are fewer)."""
        return self.dataset.take(np.arange(min(count, self.dataset.size)))

    def scale(self) -> float:
        """Root mean square of the measurements (of the first 4096): sigma_data."""
        return float(np.sqrt(np.mean(np.square(self.example(4096).y))))


class ExperimentData(NamedTuple):
    """Disjoint parts of one source, and what a report says of them."""

    image_shape: tuple[int, int, int]
    clean: StageData
    views: dict[str, StageData]
    tuning: np.ndarray
    held_out: np.ndarray
    counts: dict[str, int]
    report: dict[str, Any]

    def clean_images(self) -> np.ndarray:
        """The clean training images (at most 20,000), (n, H, W, C)."""
        return np.asarray(self.clean.example(20_000).y)


def split_sizes(config: Any, total: int) -> dict[str, int]:
    """Sizes of the parts; what is left after held-out, tuning and clean is the pool of the views.

    Raises:
      ConfigError: the parts ask for more examples than there are.
    """
    data = config.data
    sizes = {"held_out": data.held_out, "tuning": data.tuning, "clean": data.clean}
    pool = total - sum(sizes.values())
    if pool < 0:
        raise ConfigError(
            f"config.data: held_out + tuning + clean = {sum(sizes.values())} examples are asked for, "
            f"'{data.source}' has {total}"
        )
    for name, view in config.views.items():
        share = view.examples
        sizes[f"view/{name}"] = int(pool * share + 1e-6) if share <= 1 else int(share)
    asked = sum(size for name, size in sizes.items() if name.startswith("view/"))
    if asked > pool:
        raise ConfigError(
            f"config.views: the views ask for {asked} examples in all, the pool has {pool} (of {total}, after "
            f"held_out, tuning and clean); lower config.views.<name>.examples"
        )
    for name, size in sizes.items():
        if size < 1:
            raise ConfigError(f"config: the part '{name}' is empty ({total} examples in '{data.source}')")
    return sizes


def load_data(config: Any, console: Console) -> ExperimentData:
    """Open the source, split it, fix the measurement of every view example.

    Raises:
      ConfigError, FileNotFoundError: the source is unknown, missing or too small.
    """
    data = config.data
    try:
        source = open_source(
            data.source,
            image_size=data.image_size or None,
            channels=data.channels or None,
            resize=data.resize,
            center_crop=data.center_crop,
            max_bad_share=data.max_bad_share,
            split=data.split,
            data_dir=data.data_dir or None,
        )
    except ValueError as error:
        raise at("data.source", error) from None
    total = min(len(source), data.limit) if data.limit else len(source)
    parts = hash_split(total, data.split_seed, split_sizes(config, total))
    shape, limit = tuple(source.shape), int(data.cache_gib * 2**30)
    views = {}
    for name, view in config.views.items():
        operator, part = view_operator(config, name, shape), f"view/{name}"
        dataset = view_dataset(source, parts[part], operator, config.seed, view.sigma_y, limit, part)
        views[name] = StageData(dataset)
    clean = StageData(clean_dataset(source, parts["clean"], limit), data.flip)
    counts = {name: len(indices) for name, indices in parts.items()}
    tuning, held_out = source.gather(parts["tuning"]), source.gather(parts["held_out"])
    return ExperimentData(shape, clean, views, tuning, held_out, counts, source.report)
