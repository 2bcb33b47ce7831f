"""Inputs made of what the views hold: a part of one measurement beside the rest of another."""

from jaxdiff.data.dataset import Dataset
from jaxdiff.data.mixture import annotated, concatenated, mixed_parts, repeated
from jaxdiff.experiment.data import ExperimentData, StageData, restored_data
from jaxdiff.experiment.plan_types import Plan
from jaxdiff.methods.shared import kind_of


def made_inputs(plan: Plan, data: ExperimentData, limit: int) -> list[Dataset]:
    """The made inputs of every pair of `plan.made_pairs`; A^+ y of a view are kept where they fit in `limit` bytes."""
    made = []
    for pair in plan.made_pairs:
        first, second = (plan.views[number] for number in pair)
        images = [restored_data(v, data.views[v.name], limit).dataset for v in (first, second)]
        part = kind_of(first.operator).coverage
        made.append(mixed_parts(f"{first.name} beside {second.name}", *images, part))
    return made


def clean_and_made(plan: Plan, data: ExperimentData, limit: int, name: str, share: float) -> StageData:
    """The clean examples over and over, source 0, and made inputs, source 1, which are `share` of all."""
    made = [annotated(dataset, source=1) for dataset in made_inputs(plan, data, limit)]
    clean = annotated(data.clean.dataset, source=0)
    size = max(1, round(sum(dataset.size for dataset in made) * (1 - share) / share))
    return StageData(concatenated(name, [repeated(clean, size), *made]), data.clean.flip)


def data_of_stage(plan: Plan, config, data: ExperimentData, limit: int, name: str) -> StageData:
    """What the stages `residual`, `finetune` and `finetune/first` (where it imitates the views) learn from."""
    asked = config[name.split("/")[0]]
    if name != "finetune/first" and not asked.made_penalty > 0:
        return data.clean
    return clean_and_made(plan, data, limit, name, asked.made_share)
