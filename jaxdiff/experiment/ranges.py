"""Which numbers a config's keys may have, so that a wrong one is named before anything is compiled."""

import math
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ml_collections import ConfigDict


class Range(NamedTuple):
    """From `low` to `high`; `above`: `low` itself is too little, `below`: `high` itself is too much."""

    low: float
    high: float = math.inf
    above: bool = False
    below: bool = False

    def holds(self, value: float) -> bool:
        """Whether the value lies in the range; NaN and infinity lie in none."""
        over = value > self.low if self.above else value >= self.low
        under = value < self.high if self.below else value <= self.high
        return over and under and math.isfinite(value)

    def describe(self) -> str:
        """Such as 'above 0' or 'at least 0 and at most 1'."""
        words = [f"{'above' if self.above else 'at least'} {self.low:g}"]
        if math.isfinite(self.high):
            words.append(f"{'below' if self.below else 'at most'} {self.high:g}")
        return " and ".join(words) + ("" if math.isfinite(self.high) else " and finite")


POSITIVE, NOT_NEGATIVE, SHARE, ONE = Range(0, above=True), Range(0), Range(0, 1), Range(1)
TRAIN = {
    **dict.fromkeys(("steps", "batch", "checkpoint_every", "tune_every", "max_skipped"), ONE),
    **dict.fromkeys(("accumulate", "fsdp_min_size"), ONE),
    **dict.fromkeys(("max_steps", "warmup", "steps_per_dispatch", "patience", "spike_factor"), NOT_NEGATIVE),
    **dict.fromkeys(("weight_decay", "clip", "ema_halflife"), NOT_NEGATIVE),
    "lr": POSITIVE,
    "ema_rampup": SHARE,
}
NETWORK = {"dropout": Range(0, 1, below=True), "channels": ONE, "width": ONE, "blocks": ONE, "patch": ONE}
EM = {
    **dict.fromkeys(("laps", "rank", "examples", "batch", "steps", "cg_steps"), ONE),
    "gaussian_laps": NOT_NEGATIVE,
    **dict.fromkeys(("sigma_min", "sigma_max", "rho"), POSITIVE),
}
PRICES = {"penalty": NOT_NEGATIVE, "jacobian_penalty": NOT_NEGATIVE}
MADE = {"made_penalty": NOT_NEGATIVE, "made_share": Range(0, 1, above=True, below=True)}
LAW = {**dict.fromkeys(("components", "rank"), ONE), "laps": NOT_NEGATIVE, "prior": NOT_NEGATIVE}
PARTS = {
    "data": {
        **dict.fromkeys(
            ("tuning", "clean", "reference", "reserved", "limit", "gap", "cache_gib"), NOT_NEGATIVE
        ),
        "max_bad_share": SHARE,
        "coils": ONE,
    },
    "noise": {"P_std": POSITIVE, "sigma_data": NOT_NEGATIVE, "P_mean": Range(-30, 30)},
    "composition": {"tolerance": NOT_NEGATIVE, "rank": NOT_NEGATIVE, "cg_steps": ONE, "smooth": NOT_NEGATIVE},
    "bands": {"sigma_min": POSITIVE, "sigma_max": POSITIVE, "count": Range(2), "tuning_draws": ONE},
    "evaluate": {"level": Range(0, 1, above=True, below=True)},
    "residual": {**PRICES, **MADE},
    "finetune": {"penalty": NOT_NEGATIVE, "first_steps": NOT_NEGATIVE, **MADE},
    "completed": PRICES,
    "sample": {**dict.fromkeys(("sigma_min", "sigma_max", "rho"), POSITIVE), "s_churn": NOT_NEGATIVE},
}
STAGES = (
    "shared",
    "shared.later",
    "residual",
    "completed",
    "clean_only",
    "finetune",
    "cascade",
    "distill",
    "classifier",
)
VIEW = {
    "delta": SHARE,
    "masks": NOT_NEGATIVE,
    "shown": SHARE,
    "max_gain": POSITIVE,
    "tolerance": POSITIVE,
    "sigma_max": NOT_NEGATIVE,
}


def _parts(config: ConfigDict) -> Iterator[tuple[str, Mapping[str, Any], Mapping[str, Range]]]:
    """(path, what the config has there, the ranges of its keys)."""
    views = [f"views.{name}" for name in config.views]
    for path in ("", *STAGES, *views):
        yield f"{path}.train".lstrip("."), _at(config, f"{path}.train"), TRAIN
        yield f"{path}.network".lstrip("."), _at(config, f"{path}.network"), NETWORK
    for path in ("shared.em", "completed.em", *(f"{view}.em" for view in views)):
        yield path, _at(config, path), EM
    yield "shared.law", config.shared.law, LAW
    for path in views:
        yield path, _at(config, path), VIEW
    for path, ranges in PARTS.items():
        yield path, config[path], ranges


def _at(config: Mapping[str, Any], path: str) -> Mapping[str, Any]:
    for part in filter(None, path.split(".")):
        config = config[part]
    return config


def wrong_numbers(config: ConfigDict) -> list[str]:
    """One message for every number that its key cannot have; a key that a stage leaves unset is inherited."""
    found = []
    for path, part, ranges in _parts(config):
        for key, allowed in ranges.items():
            value = part.get(key)
            if value is not None and not allowed.holds(value):
                found.append(f"config.{path}.{key}: must be {allowed.describe()}, got {value}")
    low, high = config.bands.sigma_min, config.bands.sigma_max
    if not found and not low < high:
        found.append(f"config.bands.sigma_min: must be below config.bands.sigma_max = {high}, got {low}")
    return found + _wrong_grid(config.clean_only.grid)


def _wrong_grid(grid: Any) -> list[str]:
    found = []
    for number, pair in enumerate(grid):
        sound = isinstance(pair, list | tuple) and len(pair) == 2
        if not sound or not (NETWORK["dropout"].holds(pair[0]) and TRAIN["weight_decay"].holds(pair[1])):
            found.append(
                f"config.clean_only.grid[{number}]: must be (dropout in [0, 1), weight decay from 0 up), got {pair}"
            )
    return found
