"""Scores of restored images where the truth is known, paired where rows share images and measurements."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from jaxdiff.evaluation.bootstrap import bootstrap_mean
from jaxdiff.evaluation.calibration import Interval, coverage
from jaxdiff.evaluation.lpips import Lpips, check_images, open_lpips
from jaxdiff.evaluation.restoration import MARGIN, restoration_scores
from jaxdiff.experiment.checks import at
from jaxdiff.experiment.restore_plan import BASELINE
from jaxdiff.experiment.restoring import Cell


def shown(images: np.ndarray) -> np.ndarray:
    """Images as they are scored and looked at: in [-1, 1], but for complex ones, which have no bounds."""
    return images if images.shape[-1] == 2 else np.clip(images, -1.0, 1.0)


def open_perceptual(spec: str, truth: np.ndarray | None) -> Lpips | None:
    """The LPIPS of `config.restore.lpips`; None where none is asked for, or there is no truth to compare with.

    Raises:
      ConfigError: no such weights, or images that its network does not take.
    """
    if not spec or truth is None:
        return None
    try:
        measure = open_lpips(spec)
        check_images(truth.shape, measure)
    except (ValueError, FileNotFoundError) as error:
        raise at("restore.lpips", error) from None
    return measure


def scores(
    truth: np.ndarray, arrays: Mapping[str, np.ndarray], perceptual: Lpips | None = None
) -> dict[str, np.ndarray]:
    """Numbers of every image, (n,): psnr, ssim (of images above its window), nrmse, lpips (where its weights are given)
    of the restored image; of cells with draws psnr_draw and lpips_draw, of the first draw alone, and coverage, the
    share of numbers that the interval holds."""
    large = min(truth.shape[1:3]) > 2 * MARGIN
    names = ("psnr", *["ssim"] * large, "nrmse")
    found = restoration_scores(truth, shown(arrays["mean"]), names=names)
    if perceptual is not None:
        found["lpips"] = perceptual.distance(truth, shown(arrays["mean"]))
        if "draw" in arrays:
            found["lpips_draw"] = perceptual.distance(truth, shown(arrays["draw"]))
    if "draw" in arrays:
        found |= {"psnr_draw": restoration_scores(truth, shown(arrays["draw"]), names=("psnr",))["psnr"]}
        interval = Interval(arrays["lower"], arrays["upper"], 0.0)
        found["coverage"] = np.asarray(coverage(interval, truth), np.float64)
    return found


def interval_of(values: np.ndarray, bootstrap: tuple[int, float, int]) -> dict[str, float | None]:
    """{'mean', 'low', 'high'} over images; without an interval where there is one image, None where not finite."""
    if not np.isfinite(values).all():  # such as the PSNR of what was restored without any error
        return {"mean": None}
    if len(values) < 2:
        return {"mean": float(values.mean())}
    return bootstrap_mean(values, *bootstrap)


def comparisons(
    found: Mapping[Cell, Mapping[str, np.ndarray]], bootstrap: tuple[int, float, int]
) -> list[dict[str, Any]]:
    """Paired differences in PSNR over images: of restored images and of single draws over A^+ y, and of the first prior
    over every other."""
    priors = [prior for prior in dict.fromkeys(cell.prior for cell in found) if prior]
    entries = []
    for cell, own in found.items():
        if cell.method == BASELINE:
            continue
        others = [
            (BASELINE, score, found[Cell(None, cell.operator, BASELINE)]) for score in ("psnr", "psnr_draw")
        ]
        if cell.prior == priors[0]:
            rivals = [cell._replace(prior=prior) for prior in priors[1:]]
            others += [(rival.prior, "psnr", found[rival]) for rival in rivals if rival in found]
        for over, score, other in others:
            if score in own:
                paired = interval_of(own[score] - other["psnr"], bootstrap)
                entries.append({**cell._asdict(), "over": over, "score": score, **paired})
    return entries
