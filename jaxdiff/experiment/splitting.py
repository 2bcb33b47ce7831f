"""Which example is clean, which is whose view, and which is held out: the parts of one source."""

from typing import Any

import numpy as np

from jaxdiff.data.split import hash_split, require_disjoint, slab_split
from jaxdiff.experiment.checks import ConfigError, at


def split_parts(config: Any, total: int) -> dict[str, np.ndarray]:
    """Disjoint parts of `range(total)` by name, by hash of the index, or runs of neighbours (`data.split_by`).

    With `data.unused_clean` = 'views' the reserved examples that no clean part takes are dealt to the views, to each
    with the probability that is its share of the pool (views that ask for a count have it already). They are counted
    from the end of the reserved ones, so that a view with fewer clean examples beside it holds all that it holds with
    more, and further ones. Held-out and reference examples are what they are without.

    Raises:
      ConfigError: the parts ask for more examples than there are.
      ValueError: an example is in two parts.
    """
    if config.data.split_by == "slab":
        return _slabs(config, total)
    parts = hash_split(total, config.data.split_seed, split_sizes(config, total))
    if config.data.unused_clean == "views" and "unused" in parts:
        unused = parts["unused"][::-1]
        shares = {
            f"view/{name}": float(view.examples)
            for name, view in config.views.items()
            if not view.source and view.examples <= 1
        }
        try:
            dealt = hash_split(len(unused), config.data.split_seed, shares)
        except ValueError as error:
            raise at("views.<name>.examples", error) from None
        parts |= {name: np.concatenate([parts[name], unused[places]]) for name, places in dealt.items()}
        left = np.setdiff1d(np.arange(len(unused)), np.concatenate([np.empty(0, int), *dealt.values()]))
        parts["unused"] = unused[left]
    require_disjoint(parts)
    return parts


def split_sizes(config: Any, total: int) -> dict[str, int]:
    """Sizes of the parts; what is left after held-out, reference, tuning and clean is the pool of the views.

    With `data.reserved` the pool begins after so many examples for tuning and clean, used or not ('unused'): the views
    are then the same whatever the number of clean examples, but for what `split_parts` adds to them.

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


def _slabs(config: Any, total: int) -> dict[str, np.ndarray]:
    data = config.data
    if data.unused_clean != "none":
        raise ConfigError(
            f"config.data.unused_clean: '{data.unused_clean}' scatters reserved examples over the views; with "
            "split_by = 'slab' leave it 'none'"
        )
    named = sum(data[part] > 0 for part in ("held_out", "reference", "tuning", "clean"))
    named += sum(not view.source for view in config.views.values()) + (data.reserved > 0)
    try:
        parts = slab_split(total, split_sizes(config, total - data.gap * named), data.gap)
    except ConfigError:
        raise
    except ValueError as error:
        raise at("data", error) from None
    require_disjoint(parts)
    return parts
