"""`--mode=memorization`: does a trained run repeat what it has learnt from?

    samples     s(x) = similarity to the nearest image learnt from, against the same of held-out images
    attacks     are damaged images that were learnt from restored better than held-out ones?

    memorization.json, memorization.html    in the workdir
    fits/memorization_<hash>.npz            samples, and errors of each attack: what was computed is not again

Images learnt from are those of `seen_images`: whole ones, and those behind the measurements of the method's views.
"""

import hashlib
import json
import shlex
import zipfile
from typing import Any

import jax
import numpy as np

from jaxdiff.data.pixels import to_bytes, to_unit
from jaxdiff.data.sources import Source
from jaxdiff.evaluation.features import FeatureExtractor, pixel_features
from jaxdiff.evaluation.memorization import Similarity, similarity, similarity_verdict, worst_pairs
from jaxdiff.experiment.arrays import load_arrays, write_atomically
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import open_clean
from jaxdiff.experiment.memorization_attacks import WHOLE, attack, kept
from jaxdiff.experiment.memorization_plan import MemorizationPlan
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.priors import Prior
from jaxdiff.experiment.restoring import arrays_digest
from jaxdiff.experiment.results import device_name, versions
from jaxdiff.experiment.sample_quality import make_extractor
from jaxdiff.experiment.sampling import draw_samples, packed
from jaxdiff.experiment.seen_images import ImageFeatures, Seen, seen_by
from jaxdiff.experiment.stages import Run
from jaxdiff.report.memorization_page import write_memorization_page
from jaxdiff.report.terminal import print_memorization

RESULTS, PAGE = "memorization.json", "memorization.html"
QUANTILES = (0.5, 0.9, 0.99, 1.0)


def samples_of(run: Run, parts: Parts, digest: str, asked: MemorizationPlan) -> np.ndarray:
    """The samples, uint8 (n, H, W, C): of the file that is named, or drawn.

    Raises:
      ConfigError: the file holds no such images.
    """
    if asked.samples is not None:
        try:
            images = load_arrays(asked.samples).get("images")
        except (ValueError, zipfile.BadZipFile) as error:
            raise ConfigError(f"config.memorization.samples: {asked.samples}: {error}") from None
        shape = tuple(run.plan.image_shape)
        if images is None or images.dtype != np.uint8 or images.shape[1:] != shape or not len(images):
            found = "no array 'images'" if images is None else f"{images.dtype} {images.shape}"
            raise ConfigError(
                f"config.memorization.samples: {asked.samples} has {found}; uint8 images {('N', *shape)} are needed, "
                "as --mode=sample writes them"
            )
        return images
    settings = {
        key: value for key, value in run.config.sample.to_dict().items() if key not in ("method", "count")
    }

    def draw():
        return packed(draw_samples(run.plan, parts, run.config, asked.method, asked.count, run.console))

    return kept(run, ["samples", asked.method, asked.count, settings, digest], draw)["images"]


def features_for(run: Run, source: Source, asked: MemorizationPlan) -> FeatureExtractor:
    """As `config.memorization.features` says; pixels where nothing else is to be had."""
    found = None
    if asked.features == "auto":
        found = make_extractor(run.config, source, run.workdir / "features", run.console)
    return found or pixel_features(run.plan.image_shape)


def origin_of(seen: Seen, index: int) -> tuple[int, str, bool]:
    """Row in the source, group, and whether mirrored, of the image number `index` of `ImageFeatures.of_training`."""
    rows, place = seen.rows, index % len(seen.rows)
    ends = np.cumsum([len(seen.clean), *map(len, seen.behind.values())])
    group = [WHOLE, *seen.behind][int(np.searchsorted(ends, place, side="right"))]
    return int(rows[place]), group, index >= len(rows)


def similarity_entry(
    images: np.ndarray,
    source: Source,
    extractor: FeatureExtractor,
    seen: Seen,
    asked: MemorizationPlan,
    console: Any,
) -> tuple[dict[str, Any], list[dict], Similarity]:
    """What memorization.json says of the samples, the most alike pairs, and the similarities."""
    features = ImageFeatures(source, extractor, console)
    control = seen.held_out[: asked.held_out]
    found = similarity(
        extractor.features(images),
        features.of_training(seen),
        features.of(control),
        asked.metric,
        asked.percentile,
        asked.level,
    )
    names = ("share", "low", "high", "expected", "p_value", "threshold")
    verdict = similarity_verdict(found)
    values = {"samples": found.samples.similarity, "held_out": found.held_out.similarity}
    entry = {name: float(getattr(found, name)) for name in names} | {
        "metric": found.metric,
        "percentile": asked.percentile,
        "features": extractor.name,
        "samples": len(images),
        "held_out": len(control),
        "flagged": verdict.flagged,
        "reason": verdict.reason,
        "quantiles": {"level": list(QUANTILES)}
        | {k: np.quantile(v, QUANTILES).tolist() for k, v in values.items()},
    }
    worst = []
    for sample, index in worst_pairs(found.samples, asked.shown).tolist():
        row, group, mirrored = origin_of(seen, index)
        alike = float(found.samples.similarity[sample])
        worst.append(
            {"sample": sample, "row": row, "group": group, "mirrored": mirrored, "similarity": alike}
        )
    return entry, worst, found


def _request(run: Run, digest: str, asked: MemorizationPlan) -> dict[str, Any]:
    """All that the results depend on, of what may change between runs of one workdir."""
    sections = {key: run.config[key].to_dict() for key in ("memorization", "evaluate", "sample")}
    drawn = "" if asked.samples is None else hashlib.sha256(asked.samples.read_bytes()).hexdigest()
    return json.loads(
        json.dumps({**sections, "file": drawn, "parameters": digest, "backend": jax.default_backend()})
    )


def run_memorization(
    run: Run, parts: Parts, asked: MemorizationPlan, command_line: list[str]
) -> dict[str, Any]:
    """Measure, write memorization.json and memorization.html, print the table; returns the results."""
    path, page = run.workdir / RESULTS, run.workdir / PAGE
    digest = arrays_digest(Prior(asked.method, parts))
    request = _request(run, digest, asked)
    if path.exists() and page.exists():
        results = json.loads(path.read_text())
        if results["request"] == request:
            print_memorization(results, page, run.console)
            return results
    source = open_clean(run.config)
    seen = seen_by(run.config, asked.method, source, run.data.counts)
    if not len(seen.rows):
        raise ConfigError(
            f"config.memorization.method: the images that '{asked.method}' has learnt from are not known: its "
            "measurements were brought along without them"
        )
    images = samples_of(run, parts, digest, asked)
    extractor = features_for(run, source, asked)
    alike, worst, _ = similarity_entry(images, source, extractor, seen, asked, run.console)
    results = {
        "title": f"{run.config.title}: memorization",
        "command": shlex.join(command_line),
        "seed": run.config.seed,
        "device": device_name(),
        "versions": versions(),
        "request": request,
        "method": asked.method,
        "samples_from": str(asked.samples or ""),
        "level": asked.level,
        "data": {"source": run.config.data.source, "flip": seen.flip, "unknown": seen.unknown}
        | seen.counts(),
        "similarity": alike,
        "worst": worst,
        **attack(run, parts, digest, asked, source, seen),
    }
    nearest = source.gather(np.array([pair["row"] for pair in worst]))
    mirrored = np.array([pair["mirrored"] for pair in worst])[:, None, None, None]
    pairs = {
        "samples": to_unit(images[[pair["sample"] for pair in worst]]),
        "nearest": to_unit(to_bytes(np.where(mirrored, nearest[:, :, ::-1], nearest))),
    }
    text = json.dumps(results, indent=1)
    write_atomically(path, lambda temporary: temporary.write_text(text))
    write_memorization_page(results, pairs, page)
    print_memorization(results, page, run.console)
    return results
