"""The sections of the page that show pictures: the data and its views, the samples, the nearest neighbors."""

from collections.abc import Mapping

import numpy as np

from jaxdiff.report.blocks import Picture, Section, Table, row, section
from jaxdiff.report.images import data_uri, grid, pair_grid
from jaxdiff.report.numbers import ABSENT, count, fixed, number, significant
from jaxdiff.report.numeric import mapping

COLUMNS = 8
Arrays = Mapping[str, np.ndarray]


def usable(arrays: Arrays, key: str, most: int | None = None) -> np.ndarray | None:
    """The first images of `arrays[key]`, or None unless it is a non-empty (n, H, W, C)."""
    images = arrays.get(key)
    if images is None or np.ndim(images) != 4 or 0 in np.shape(images):
        return None
    side = max(np.shape(images)[1:3])
    limit = 64 if side <= 32 else 40 if side <= 64 else 24 if side <= 128 else 16  # to fit into an e-mail
    return np.asarray(images)[: min(limit, most or limit)]


def picture(images: np.ndarray | None, title: str, caption: str) -> Picture | None:
    """A grid of images as a block; None for None."""
    if images is None:
        return None
    drawn = grid(images, COLUMNS)
    broken = int((~np.isfinite(images)).reshape(len(images), -1).any(axis=1).sum())
    if broken:
        caption += f" Images with values that are not finite (magenta): {broken}."
    return Picture(data_uri(drawn), *drawn.size, title, caption, f"{len(images)} images: {title}")


def flat(tree: object, prefix: str = "") -> list[tuple[str, str]]:
    """Nested mappings as (dotted key, value) pairs; a list of up to twenty entries is written out in full."""
    if isinstance(tree, Mapping):
        if not tree:
            return [(prefix, "{}")] if prefix else []
        return [
            pair
            for key, value in tree.items()
            for pair in flat(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if isinstance(tree, list | tuple) and len(tree) > 20:
        shown = ", ".join(map(str, tree[:20]))
        return [(prefix, f"{shown}, … {len(tree) - 20} more")]
    if isinstance(tree, list | tuple) and tree and all(isinstance(value, Mapping) for value in tree):
        return [pair for index, value in enumerate(tree) for pair in flat(value, f"{prefix}.{index}")]
    return [(prefix, ", ".join(map(str, tree)) if isinstance(tree, list | tuple) else str(tree))]


def _size(shape: object) -> str:
    return " × ".join(map(str, shape)) if isinstance(shape, list | tuple) else str(shape)


def _data_tables(data: Mapping, views: Mapping) -> list[Table | None]:
    rows = [["source", str(data["source"])]] if "source" in data else []
    if "image_shape" in data:
        rows.append(["image (height × width × channels)", _size(data["image_shape"])])
    counted = [
        part
        for part in mapping(data, "counts")
        if mapping(views, part.removeprefix("view/")).get("examples") is None
    ]
    rows += [[f"examples: {part}", count(data["counts"][part])] for part in counted]
    rows += [[key, value] for key, value in flat(mapping(data, "report"))]
    heads = ["view", "operator", "measurement", "c", "examples"]
    table = [
        [name, str(view.get("operator", "–")), _size(view.get("shape", "–")), significant(view.get("c"))]
        + [count(view.get("examples"))]
        for name, view in views.items()
    ]
    return [
        Table(
            ["data", ""],
            rows,
            "The parts are disjoint; the held-out part is used for measuring only.",
            (0, 1),
        )
        if rows
        else None,
        Table(
            heads, table, "What a view’s stage receives is the measurement alone. c: A Aᵀ = c I.", (0, 1, 2)
        )
        if table
        else None,
    ]


def data(results: Mapping, arrays: Arrays) -> Section | None:
    """Counts, views with their operators, and example measurements."""
    views = mapping(results, "views")
    names = [
        *views,
        *(k.removeprefix("view/") for k in arrays if k.startswith("view/") and k[5:] not in views),
    ]
    pictures = [
        picture(usable(arrays, "clean", 16), "clean examples", "Complete images from the training part.")
    ]
    for name in names:
        operator = mapping(views, name).get("operator")
        caption = f"Measurements {operator}." if operator else "Measurements."
        pictures.append(picture(usable(arrays, f"view/{name}", 16), f"view {name}", caption))
    lead = "What went in: a few complete images, and many of which only a measurement is known."
    return section("data", "Data", lead, [*_data_tables(mapping(results, "data"), views), row(pictures)])


def samples(results: Mapping, arrays: Arrays) -> Section | None:
    """Samples of every method beside real images."""
    names = [key for key in arrays if key.startswith("samples/")]
    names.sort(key=lambda key: key != "samples/residual")
    grids = [picture(usable(arrays, "real"), "real", "Held-out images, for comparison.")]
    grids += [picture(usable(arrays, key), key[8:], "Samples, not selected.") for key in names]
    if len([item for item in grids if item]) < 2 and not names:
        return None
    return section(
        "samples", "Samples", "Judge shape, stroke and variety against the real images.", [row(grids)]
    )


def closest(upper: np.ndarray, lower: np.ndarray, most: int = 2 * COLUMNS) -> np.ndarray:
    """Indices of the pairs with the smallest Euclidean distance, closest first; not finite last."""
    distance = np.sqrt(((upper - lower).reshape(len(upper), -1) ** 2).sum(axis=1))
    return np.argsort(np.where(np.isfinite(distance), distance, np.inf), kind="stable")[:most]


def _pairs(arrays: Arrays, name: str) -> Picture | None:
    upper, lower = arrays.get(f"neighbors/{name}/samples"), arrays.get(f"neighbors/{name}/nearest")
    if (
        upper is None
        or lower is None
        or np.ndim(upper) != 4
        or np.shape(upper) != np.shape(lower)
        or not np.size(upper)
    ):
        return None
    order = closest(np.asarray(upper), np.asarray(lower))
    drawn = pair_grid(upper[order], lower[order], COLUMNS)
    caption = (
        f"Upper: sample. Lower: its nearest training image. The closest pairs of {len(upper)}, closest first."
    )
    return Picture(
        data_uri(drawn), *drawn.size, name, caption, f"samples of {name} over their nearest training images"
    )


def neighbors(results: Mapping, arrays: Arrays) -> Section | None:
    """The samples that lie closest to a training image, over that image, and mean distances."""
    names = [key.split("/", 1)[1].removesuffix("/samples") for key in arrays if key.startswith("neighbors/")]
    names = dict.fromkeys(name for name in names if not name.endswith("/nearest"))
    entry = mapping(results, "neighbors")
    held_out = entry.get("held_out_distance")
    rows = [
        [name, significant(value), fixed(number(value) / number(held_out), 2) if number(held_out) else ABSENT]
        for name, value in mapping(entry, "sample_distance").items()
    ]
    if held_out is not None:
        rows.append(["held-out images, for scale", significant(held_out), "1.00"])
    head = ["images", "mean distance to the nearest training image", "relative to held-out images"]
    caption = (
        "Euclidean distance over all pixels in [−1, 1]. A ratio near 1: as new as real images are. "
        "Far below 1: the method repeats its training images."
    )
    blocks = [Table(head, rows, caption) if rows else None, row(_pairs(arrays, name) for name in names)]
    return section("neighbors", "Nearest training images", "Are the samples new, or copies?", blocks)
