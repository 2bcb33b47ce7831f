"""A workdir's stages belong to the config that started them: config.json in it, and what may change without harm."""

import json
import logging
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ml_collections import ConfigDict

from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.training.processes import is_first

log = logging.getLogger("jaxdiff")
ALLOW = "JAXDIFF_ALLOW_CONFIG_CHANGE"  # set by --allow_config_change
# Keys that say how a trained run is looked at or reported; they may change between runs of one workdir.
FREE_KEYS = (
    "title",
    "evaluate.",
    "sample.",
    "distill.",
    "restore.",
    "memorization.",
    "compare.",
    "worth.",
    "crosstable.",
    "data.cache_gib",
)
# So may those that say when a run gives up or what it writes down of itself, in whatever stage.
FREE_NAMES = (".train.max_skipped", ".train.spike_factor")
SHOWN = 20  # differences in a message


def may_change(key: str) -> bool:
    """Whether a trained stage does not depend on the key."""
    return key.startswith(FREE_KEYS) or f".{key}".endswith(FREE_NAMES)


def flat(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """One line for every key that must not change and did."""
    changed = [k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and not may_change(k)]
    return [f"  config.{key}: {before.get(key)!r} -> {now.get(key)!r}" for key in changed]


def _read(path: Path) -> dict[str, Any]:
    try:
        before = json.loads(path.read_text())
    except ValueError as error:
        raise ConfigError(
            f"{path} is damaged ({error}), so nobody can say whether this run is of the same config; put back a copy, "
            f"or use another --workdir (such as --workdir={path.parent}-2)"
        ) from None
    if not isinstance(before, dict):
        raise ConfigError(f"{path} is damaged: it holds no keys")
    return before


def changed_keys(config: ConfigDict, workdir: Path) -> list[str]:
    """The keys in which a workdir's config differs, a line each, where `--allow_config_change` lets them; nothing is
    written.

    Raises:
      ConfigError: the config differs in a key that the stages depend on, and may not; every difference is listed.
    """
    path, now = workdir / "config.json", json.loads(json.dumps(flat(config.to_dict())))
    if not path.exists():
        return []
    lines = differences(_read(path), now)
    more = [f"  and {len(lines) - SHOWN} more"] if len(lines) > SHOWN else []
    shown = lines[:SHOWN] + more
    listed = "\n".join(shown)
    if lines and not os.environ.get(ALLOW):
        raise ConfigError(
            f"{workdir} holds a run of another config:\n{listed}\nUse another --workdir (such as "
            f"--workdir={workdir}-2), remove {workdir} to start again, or go on with --allow_config_change: stages "
            "that are done stay as they are"
        )
    return shown


def check_same_config(config: ConfigDict, workdir: Path) -> None:
    """The workdir's stages belong to the config that started them.

    With `--allow_config_change` the differences are logged, the config of before is kept as config.before.json, and
    the new one takes its place.

    Raises:
      ConfigError: as `changed_keys`.
    """
    lines, path = changed_keys(config, workdir), workdir / "config.json"
    if not lines:
        return
    listed = "\n".join(lines)
    log.warning("%s goes on with another config (--allow_config_change):\n%s", workdir, listed)
    write_atomically(workdir / "config.before.json", lambda temporary: temporary.write_text(path.read_text()))
    if is_first():
        path.unlink(missing_ok=True)


def claim(config: ConfigDict, workdir: Path) -> None:
    """Write the config into a workdir that has none; only once data and plan are sound, so that a run which
    could not start (missing data, say) does not stand in the way of the corrected one."""
    path = workdir / "config.json"
    if not path.exists():
        text = json.dumps(flat(config.to_dict()), indent=1)
        write_atomically(path, lambda temporary: temporary.write_text(text))
