"""The report of a run as one HTML file that loads nothing from elsewhere and can be sent by e-mail."""

import os
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import jinja2
import numpy as np
from markupsafe import Markup

from jaxdiff.report import gallery, numeric
from jaxdiff.report.blocks import Folded, Listing, Section, Table, section
from jaxdiff.report.numbers import count, duration, present
from jaxdiff.report.outcome import summary
from jaxdiff.report.palette import css_variables


@cache
def _environment() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def _config(results: Mapping) -> Section | None:
    rows = gallery.flat(numeric.mapping(results, "config"))
    if not rows:
        return None
    label = f"{len(rows)} keys, as they were used"
    return section(
        "config", "Config", "", [Folded(label, Table(["key", "value"], rows, "", (0, 1), mono=True))]
    )


def origin(results: Mapping) -> Section | None:
    """The command, the device and the versions: what is needed to do it again."""
    rows = [[key, str(results[key])] for key in ("seed", "device") if results.get(key) is not None]
    if results.get("seeds"):
        rows.insert(0, ["seeds", ", ".join(map(str, results["seeds"]))])
    rows += [[name, str(version)] for name, version in numeric.mapping(results, "versions").items()]
    command = results.get("command")
    listing = Listing(str(command), "The exact command of this run.") if command else None
    table = Table(["", ""], rows, "", (0, 1)) if rows else None
    return section("origin", "Command and versions", "", [listing, table])


def _facts(results: Mapping) -> list[str]:
    """The line under the summary: source, sizes, seed, time, device."""
    data, cost = numeric.mapping(results, "data"), numeric.mapping(results, "cost")
    counts = numeric.mapping(data, "counts")
    pool = sum(int(value) for part, value in counts.items() if part.startswith("view/"))
    facts = [str(data["source"])] if data.get("source") else []
    if "clean" in counts:
        facts.append(f"{count(counts['clean'])} clean images")
    if pool:
        facts.append(f"{count(pool)} partial ones")
    if results.get("seed") is not None:
        facts.append(f"seed {results['seed']}")
    if cost.get("seconds") is not None:
        facts.append(duration(cost["seconds"]))
    return facts + ([str(results["device"])] if results.get("device") else [])


def sections(results: Mapping, arrays: Mapping[str, np.ndarray]) -> list[Section]:
    """Every section for which there is something to show, in the order of the page."""
    looks, views = numeric.all_looks(results), numeric.all_view_looks(results)
    found = [
        numeric.methods(results, looks),
        gallery.data(results, arrays),
        numeric.errors(results, looks),
        numeric.bands(results, looks),
        numeric.weights(results, looks, views),
        numeric.training(results, looks, views),
        gallery.samples(results, arrays),
        gallery.neighbors(results, arrays),
        numeric.cost(results),
        _config(results),
        origin(results),
    ]
    return [item for item in found if item is not None]


def render(results: Mapping, arrays: Mapping[str, np.ndarray]) -> str:
    """The page as text; the same results give the same text."""
    results = present(results) | {"config": results.get("config")}  # in a config, None is a value
    title = str(results.get("title") or "jaxdiff report")
    return document(title, summary(results), _facts(results), sections(results, arrays))


def document(title: str, said: str, facts: Sequence[str], parts: Sequence[Section]) -> str:
    """The page as text: a title, the outcome in a sentence or two, a line of facts, and sections."""
    light, dark = css_variables()
    text = (
        _environment()
        .get_template("template.html")
        .render(
            title=title,
            summary=said,
            facts=facts,
            sections=parts,
            light=Markup(light),
            dark=Markup(dark),
            svg=Markup,
        )
    )
    return text.lstrip()


def write_report(results: Mapping, arrays: Mapping[str, np.ndarray], path: str | Path) -> Path:
    """Write the report of a run to `path` and return the path.

    Args:
        results: what `results.json` holds: methods, comparisons, stages, data, config and so on. Whatever is
            missing is left out of the page; a number that is not finite is shown as it is.
        arrays: images (n, H, W, C) in [-1, 1] under `real`, `clean`, `samples/<method>`, `view/<name>`,
            `neighbors/<method>/samples` and `neighbors/<method>/nearest`; any may be absent, and what is not
            of that shape is not drawn.
        path: the HTML file.
    """
    return write_page(render(results, arrays), path)


def write_page(text: str, path: str | Path) -> Path:
    """Write a page to `path` in one step, making the folders above it, and return the path."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, path)
    return path
