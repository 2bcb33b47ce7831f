"""The other configs of a config file: runs of a comparison, with the command line's changes in all of them."""

from typing import Any

from ml_collections import ConfigDict

from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.overrides import load_config

OF_ALL_RUNS = ("compare.", "worth.")


def load_variant(path: str, variant: str) -> ConfigDict:
    """`get_config(variant)` of the config file.

    Raises:
      ConfigError: the file has no such variant.
    """
    try:
        return load_config(f"{path}:{variant}")
    except ValueError as error:
        raise ConfigError(f"{path}:{variant}: {error}") from None


def changes(config: ConfigDict, base: ConfigDict, prefix: str = "") -> dict[str, Any]:
    """Dotted keys of `config` whose values differ from `base`."""
    found = {}
    for key in config:
        path, value = f"{prefix}{key}", config[key]
        if key not in base:
            found[path] = value
        elif isinstance(value, ConfigDict):
            found |= changes(value, base[key], f"{path}.")
        elif value != base[key]:
            found[path] = value
    return found


def reaching_runs(changed: dict[str, Any]) -> dict[str, Any]:
    """The changes that a run can depend on: not those of what is made of all runs, which leave each run done."""
    return {path: value for path, value in changed.items() if not path.startswith(OF_ALL_RUNS)}


def with_changes(config: ConfigDict, changed: dict[str, Any]) -> ConfigDict:
    """A copy of `config` with those of the changed keys that it has."""
    config = config.copy_and_resolve_references()
    for path, value in changed.items():
        *parents, key = path.split(".")
        place = config
        for parent in parents:
            place = place[parent] if isinstance(place, ConfigDict) and parent in place else None
        if place is not None and key in place:
            with place.ignore_type():
                place[key] = value
    return config
