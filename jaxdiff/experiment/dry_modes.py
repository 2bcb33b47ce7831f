"""What a mode adds to a dry run: its own plan, made and checked as in a run, and what it would write.

A mode with a plan of its own is one function of `PLANS`, (config, plan, workdir) -> Asked; the others need none.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from jaxdiff.experiment.checks import choose
from jaxdiff.experiment.distilling import DistillPlan, make_distill_plan
from jaxdiff.experiment.memorization_plan import make_memorization_plan
from jaxdiff.experiment.plan import Plan
from jaxdiff.experiment.restore_input import open_input
from jaxdiff.experiment.restore_plan import INPUTS, build_operators, make_restore_plan
from jaxdiff.experiment.sampling import sampled_methods
from jaxdiff.experiment.stages import stage_names
from jaxdiff.operators import describe
from jaxdiff.training.loop import steps_done

OF_TRAINED = (
    "sample",
    "evaluate",
    "distill",
    "restore",
    "memorization",
)  # modes that refuse to start before all stages are done
WRITES = {"train": ("stages/",), "report": ("report.html",)}
EVERYTHING = (
    "config.json",
    "stages/NAME/{checkpoints,metrics.jsonl}",
    "fits/",
    "samples/",
    "results.json",
    "arrays.npz",
    "report.html",
)


class Asked(NamedTuple):
    """What a mode is asked for.

    Attributes:
      facts: sentences by name.
      distilled: the distillation, whose stage is one more.
    """

    facts: dict[str, str]
    distilled: DistillPlan | None = None


def _sample(config: Any, plan: Plan, workdir: Path) -> Asked:
    names, asked = sampled_methods(plan), config.sample
    method = asked.method or names[-1]
    choose("sample.method", method, names)
    split = f", in files of {asked.shard_size:,}" if asked.count > asked.shard_size else ""
    facts = {
        "samples": f"{asked.count:,} of '{method}', {asked.steps} steps of {asked.sampler}, seed {asked.seed}{split}",
        "writes": f"{workdir}/: samples/",
    }
    return Asked(facts)


def _distill(config: Any, plan: Plan, workdir: Path) -> Asked:
    distilled = make_distill_plan(config, plan, workdir)
    drawn = f"{distilled.samples:,} images drawn from it in {distilled.sampling['steps']} steps"
    facts = {
        "distillation": f"'{distilled.method}' is imitated on {drawn}; the student starts from '{distilled.start}'",
        "writes": f"{workdir}/: stages/distill/{distilled.key}/, fits/distill_samples_{distilled.samples_key}/, "
        f"samples/, distill.json; the model: {distilled.out}/",
    }
    return Asked(facts, distilled)


def _restore(config: Any, plan: Plan, workdir: Path) -> Asked:
    asked = make_restore_plan(config, plan)
    here = asked.input in INPUTS
    facts = {}
    if here:
        found, count = build_operators(asked, plan.image_shape), asked.count
    else:
        try:
            given = open_input(config, plan, None, asked)
            found, count = given.operators, len(given.rows)
        except FileNotFoundError as error:
            found, count = {}, asked.count
            facts["to restore"] = f"not there: {error}"
    measured = (
        "; ".join(f"{name}: {describe(operator)}" for name, operator in found.items()) or "not known yet"
    )
    images = f"{count:,}" if count else "all"
    facts |= {
        "restoration": f"{images} images of {asked.input} by {', '.join(asked.priors)}; methods "
        f"{', '.join(asked.methods)}, with pinv and one_step; {asked.draws} draws, in batches of {asked.batch}",
        "operators": measured,
        "writes": f"{workdir}/restore/{asked.name}/: PRIOR-OPERATOR-METHOD.{{npz,png}}, restore.json, restore.html",
    }
    return Asked(facts)


def _memorization(config: Any, plan: Plan, workdir: Path) -> Asked:
    asked = make_memorization_plan(config, plan)
    drawn = f"the samples in {asked.samples}" if asked.samples else f"{asked.count:,} samples"
    attacks = asked.no_attack or (
        f"attacks on {asked.images:,} images of each kind, from noise of sigma = {asked.sigma:g} and by completion "
        f"from {describe(asked.operator)}"
    )
    facts = {
        "memorization": f"{drawn} of '{asked.method}' against {asked.held_out:,} held-out images; {attacks}",
        "writes": f"{workdir}/: fits/memorization_*.npz, features/, memorization.json, memorization.html",
    }
    return Asked(facts)


PLANS: dict[str, Callable[[Any, Plan, Path], Asked]] = {
    "sample": _sample,
    "distill": _distill,
    "restore": _restore,
    "memorization": _memorization,
}


def look_at_mode(config: Any, plan: Plan, workdir: Path, mode: str) -> Asked:
    """The mode's plan, in facts, and whether it could start now.

    Raises:
      ConfigError: what the mode asks for is wrong, as in a run.
    """
    written = ", ".join(WRITES.get(mode, EVERYTHING))
    make = PLANS.get(mode, lambda *_: Asked({"writes": f"{workdir}/: {written}"}))
    asked = make(config, plan, workdir)
    waits = [name for name in stage_names(plan) if steps_done(workdir / "stages" / name) is None]
    if mode in OF_TRAINED and waits:
        now = f"it would be refused: not trained yet: {', '.join(waits)}; run with --mode=train first"
        return asked._replace(facts=asked.facts | {"now": now})
    return asked
