"""Which examples of the source are held out, clean, or a view's."""

from typing import Any

import numpy as np

from jaxdiff.data.split import hash_split, slab_split
from jaxdiff.experiment.checks import ConfigError


def split_sizes(config: Any, total: int) -> dict[str, int]:
    """Sizes of the parts; what is left after held-out, reference, tuning and clean is the pool of the views.

    With `data.reserved` the pool begins after so many examples for tuning and clean, used or not: the views are then
    the same whatever the number of clean examples.

    Raises:
      ConfigError: the parts ask for more examples than there are.
    """
    data = config.data
    sizes = {part: data[part] for part in ("held_out", "reference", "tuning", "clean")}
    given = sizes["tuning"] + sizes["clean"]
    if data.reserved:
        if data.reserved < given:
            raise ConfigError(
                f"config.data.reserved: {data.reserved} examples are kept for tuning and clean, which ask for {given}"
            )
        sizes["unused"] = data.reserved - given
    pool = total - sum(sizes.values())
    if pool < 0:
        asked = " + ".join(part for part, size in sizes.items() if size)
        raise ConfigError(
            f"config.data: {asked} = {sum(sizes.values())} examples are asked for, '{data.source}' has {total}"
        )
    for name, view in config.views.items():
        if view.source:
            continue
        share = view.examples
        sizes[f"view/{name}"] = int(pool * share + 1e-6) if share <= 1 else int(share)
        if sizes[f"view/{name}"] < 1:
            raise ConfigError(
                f"config: the part 'view/{name}' is empty ({total} examples in '{data.source}')"
            )
    asked = sum(size for name, size in sizes.items() if name.startswith("view/"))
    if asked > pool:
        raise ConfigError(
            f"config.views: the views ask for {asked} examples in all, the pool has {pool} (of {total}, after "
            f"held_out, reference, tuning and clean); lower config.views.<name>.examples"
        )
    return sizes


def split_parts(config: Any, total: int) -> dict[str, np.ndarray]:
    """The parts by name: random, or runs of neighbours."""
    data = config.data
    if data.split_by == "hash":
        return hash_split(total, data.split_seed, split_sizes(config, total))
    named = sum(data[part] > 0 for part in ("held_out", "reference", "tuning", "clean"))
    named += sum(not view.source for view in config.views.values()) + (data.reserved > 0)
    try:
        return slab_split(total, split_sizes(config, total - data.gap * named), data.gap)
    except ValueError as error:
        raise ConfigError(f"config.data: {error}") from None
