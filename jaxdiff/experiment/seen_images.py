"""Which images a method has learnt from: whole ones, and those of which it saw a measurement by a view.

A near copy of either is memorization. In a simulation the whole images behind the measurements are known; behind
measurements that were brought along (`views.<name>.source`) nobody knows them.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from jaxdiff.data.sources import Source
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.statistics import source_features
from jaxdiff.experiment.checks import OF_VIEWS, OWN_SPACE
from jaxdiff.experiment.splitting import split_parts


class Seen(NamedTuple):
    """Rows of the source, all parts disjoint.

    Attributes:
      clean: seen whole, (n,).
      behind: by view, those whose measurements were learnt from.
      unknown: by view, how many measurements were learnt from whose whole images nobody knows.
      tuning: looked at to choose steps and weights, learnt from by no network.
      held_out: (K,).
      flip: whether mirrored images were learnt from, too.
    """

    clean: np.ndarray
    behind: dict[str, np.ndarray]
    unknown: dict[str, int]
    tuning: np.ndarray
    held_out: np.ndarray
    flip: bool = False

    @property
    def rows(self) -> np.ndarray:
        """All that were learnt from and are known: the clean ones, then view by view."""
        return np.concatenate([self.clean, *self.behind.values()]).astype(np.int64)

    def counts(self) -> dict[str, Any]:
        """How many of each; `views` has those behind known and unknown measurements."""
        views = {name: len(rows) for name, rows in self.behind.items()} | self.unknown
        return {"clean": len(self.clean), "tuning": len(self.tuning), "views": views}


def views_of(config: Any, method: str) -> tuple[str, ...]:
    """Names of the views whose measurements a method learns from."""
    views = config.views
    if method.startswith("view/"):
        return (method.removeprefix("view/"),)
    if method in OF_VIEWS or (method == "finetune" and config.finetune.start == "views_only"):
        return tuple(views)
    if method == "shared":
        return tuple(name for name, view in views.items() if view.method == "shared")
    if method == "finetune":
        fit = list(views)
    elif method == "cascade":
        fit = [
            name
            for name, view in views.items()
            if view.method in OWN_SPACE and view.operator.get("name") != "identity"
        ]
    else:
        return ()
    return tuple(name for name in [config[method].view or next(iter(fit), "")] if name)


def seen_by(config: Any, method: str, source: Source, counts: Mapping[str, int]) -> Seen:
    """What `method` of a run of `config` has learnt from.

    Args:
      config: of the run; it fixes the split.
      method: one of its methods, view/NAME or gaussian.
      source: of its clean examples.
      counts: of the run, by part (`ExperimentData.counts`): those of measurements that were brought along.
    """
    data = config.data
    parts = split_parts(config, min(len(source), data.limit) if data.limit else len(source))
    nothing, clean = np.empty(0, np.int64), parts["clean"]
    if method == "gaussian" and data.reference:
        clean = parts["reference"]
    elif method.startswith("view/") and not config.views[method.removeprefix("view/")].with_clean:
        clean = nothing
    behind, unknown = {}, {}
    for name in views_of(config, method):
        if config.views[name].source:
            unknown[name] = int(counts[f"view/{name}"])
        else:
            behind[name] = parts[f"view/{name}"]
    return Seen(clean, behind, unknown, parts["tuning"], parts["held_out"], bool(data.flip))


class _Mirrored:
    """A source whose images are mirrored."""

    def __init__(self, source: Source):
        self.source = source

    def gather(self, indices):
        return self.source.gather(indices)[:, :, ::-1]


class ImageFeatures:
    """Features of a source's images by row, each worked out once."""

    def __init__(self, source: Source, extractor: FeatureExtractor, console: Console | None = None):
        self.source, self.extractor, self.console = source, extractor, console
        self._known: dict[bool, dict[int, np.ndarray]] = {False: {}, True: {}}

    def of(self, rows: np.ndarray, mirrored: bool = False) -> np.ndarray:
        """(n, d) float32."""
        known = self._known[mirrored]
        new = np.array([row for row in np.unique(rows) if row not in known], np.int64)
        if len(new):
            source = _Mirrored(self.source) if mirrored else self.source
            known |= dict(
                zip(new.tolist(), source_features(source, self.extractor, new, self.console), strict=True)
            )
        return np.stack([known[row] for row in np.asarray(rows).tolist()])

    def of_training(self, seen: Seen) -> np.ndarray:
        """Of `seen.rows`, and, where mirrored images were learnt from, of those after them."""
        plain = self.of(seen.rows)
        return np.concatenate([plain, self.of(seen.rows, mirrored=True)]) if seen.flip else plain
