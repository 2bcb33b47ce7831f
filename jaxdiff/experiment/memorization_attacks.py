"""The two attacks of `--mode=memorization` on the denoiser of a trained run, group by group of what it has learnt from.

Groups: images seen whole, and those of which the views' measurements are. All share the held-out images.
"""

import hashlib
import json
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from jaxdiff.data.sources import Source
from jaxdiff.evaluation.attacks import (
    FEWEST,
    Attack,
    attack_verdict,
    compare_errors,
    completion_attack,
    denoising_attack,
)
from jaxdiff.experiment.arrays import load_arrays, write_atomically
from jaxdiff.experiment.memorization_plan import MemorizationPlan
from jaxdiff.experiment.model import method_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.priors import evenly
from jaxdiff.experiment.seen_images import Seen
from jaxdiff.experiment.stages import Run
from jaxdiff.operators import describe
from jaxdiff.progress import StageProgress

WHOLE, BEHIND = "whole", "behind views"


class Group(NamedTuple):
    """Images of one kind that are attacked: `rows` of the source, `total` of which they were taken."""

    name: str
    rows: np.ndarray
    total: int


def kept(run: Run, what: list[Any], compute: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """The arrays of `compute`, read where there are some of the same `what`."""
    name = hashlib.sha256(json.dumps(what, sort_keys=True, default=str).encode()).hexdigest()[:12]
    path = run.workdir / "fits" / f"memorization_{name}.npz"
    if not path.exists():
        arrays = compute()
        write_atomically(path, lambda temporary: np.savez_compressed(temporary, **arrays))
    return load_arrays(path)


def groups_of(seen: Seen, images: int) -> list[Group]:
    """Whole images and, as one group, those behind views: `images` of each, evenly spaced."""
    behind = np.concatenate([np.empty(0, np.int64), *seen.behind.values()]).astype(np.int64)
    found = [Group(WHOLE, seen.clean, len(seen.clean)), Group(BEHIND, behind, len(behind))]
    return [group._replace(rows=group.rows[evenly(group.total, images)]) for group in found if group.total]


def attack(
    run: Run, parts: Parts, digest: str, asked: MemorizationPlan, source: Source, seen: Seen
) -> dict[str, Any]:
    """Both attacks on every group: 'attacks', an entry each, and 'left_out', reasons."""
    left_out = [asked.no_attack] if asked.no_attack else []
    groups = [] if asked.no_attack else groups_of(seen, asked.images)
    for group in groups:
        if len(group.rows) < FEWEST:
            left_out.append(f"'{group.name}' has {len(group.rows)} images; an attack needs {FEWEST}")
    groups = [group for group in groups if len(group.rows) >= FEWEST]
    if not groups:
        return {"attacks": [], "left_out": left_out or ["nothing that was learnt from is known"]}
    control = seen.held_out[: asked.held_out]
    held_out = source.gather(control[evenly(len(control), asked.images)])
    # All groups in one call, so that they share the held-out images and the compiled program.
    train = source.gather(np.concatenate([group.rows for group in groups]))

    def apply(parts, x, sigma):
        return method_denoiser(run.plan, parts, run.config, asked.method)(x, sigma)

    def denoising(progress):
        given = (apply, parts, train, held_out, asked.sigma, asked.seed, asked.repeats, asked.level)
        return denoising_attack(*given, asked.batch, progress)

    def completion(progress):
        given = (apply, parts, train, held_out, asked.operator, asked.sigmas, asked.seed, asked.completions)
        return completion_attack(*given, asked.cg_steps, asked.level, asked.batch, progress)

    settings = {
        "denoising": {"sigma": asked.sigma, "repeats": asked.repeats},
        "completion": {
            "operator": describe(asked.operator),
            "steps": len(asked.sigmas) - 1,
            "repeats": asked.completions,
            "cg_steps": asked.cg_steps,
        },
    }
    rows = [
        asked.sigmas.tolist(),
        asked.seed,
        asked.batch,
        *(group.rows.tolist() for group in groups),
        len(held_out),
    ]
    entries = []
    for name, of_attack in (("denoising", denoising), ("completion", completion)):

        def errors(name=name, of_attack=of_attack):
            count = settings[name]["repeats"] * (len(train) + len(held_out))
            with StageProgress(f"{name} attack", count, unit="images", console=run.console) as bar:
                found = of_attack(lambda done, total: bar.update(done * count // total))
            return {"train": found.train, "held_out": found.held_out}

        found = kept(run, [name, asked.method, settings[name], rows, digest], errors)
        ends = np.cumsum([0, *(len(group.rows) for group in groups)])
        for group, first, last in zip(groups, ends, ends[1:], strict=False):
            one = compare_errors(name, found["train"][first:last], found["held_out"], asked.level)
            entries.append(_attack_entry(one, group) | {"settings": settings[name]})
    return {"attacks": entries, "left_out": left_out}


def _attack_entry(found: Attack, group: Group) -> dict[str, Any]:
    verdict = attack_verdict(found)
    numbers = ("gap", "gap_low", "gap_high", "auc", "auc_low", "auc_high")
    return {
        "name": found.name,
        "group": group.name,
        "images": len(found.train),
        "total": group.total,
        "held_out": len(found.held_out),
        "error": {"train": float(found.train.mean()), "held_out": float(found.held_out.mean())},
        **{name: getattr(found, name) for name in numbers},
        "flagged": verdict.flagged,
        "reason": verdict.reason,
    }
