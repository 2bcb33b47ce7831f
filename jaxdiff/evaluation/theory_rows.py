"""Measured against exact: the dial of `residual_theory` and the noisy examples of `noisy_worth`, as rows of a table.

Every measured point is checked, with four of its standard errors as tolerance; of a series, the row shows the point
that is furthest off in standard errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from jaxdiff.evaluation.mixture_fit import fit_rate
from jaxdiff.evaluation.noisy_worth import (
    NAMES,
    RATES,
    Pair,
    least_information,
    log_slope,
    marginal_worth,
    mixed_size,
    worth,
)
from jaxdiff.evaluation.residual_theory import parallel, scratch_power, views_nats, views_power
from jaxdiff.evaluation.toy import Row, row

WITHIN = 4.0  # standard errors
SMALL_RHO = 0.25  # up to here the slope of ln R0 is 2 to within 3 %
TAIL = 3  # noise levels, the largest ones, of a fitted rate
SLOPE = "slope of ln R0 in ln rho, rho to {:g} (limit 2)"


def _checked(label: str, entry: Mapping) -> Row:
    return row(label, entry["mean"], entry["exact"], WITHIN * entry["se"])


def _worst(label: str, entries: Sequence[tuple[str, Mapping]]) -> Row:
    """The row of the entry (where, {'mean', 'se', 'exact'}) that is furthest off."""
    where, entry = max(entries, key=lambda item: abs(item[1]["mean"] - item[1]["exact"]) / item[1]["se"])
    return _checked(f"{label}, worst: {where}", entry)


def slope_of_views(dial: Mapping) -> dict[str, float] | None:
    """{'mean', 'se', 'exact', 'upto'} of d ln R0 / d ln rho over the small rho; None with fewer than two of them.

    `exact` is the same fit to the exact R0, which is a little above the limit 2.
    """
    small = [entry for entry in dial["views"] if entry["rho"] <= SMALL_RHO]
    if len(small) < 2:
        return None
    rhos, mean, se, exact = (
        np.array(column)
        for column in zip(
            *[(e["rho"], *(e["power"][k] for k in ("mean", "se", "exact"))) for e in small], strict=True
        )
    )
    measured, error = fit_rate(rhos, mean, se)
    return {"mean": -measured, "se": error, "exact": -fit_rate(rhos, exact, se)[0], "upto": float(rhos.max())}


def dial_rows(dial: Mapping) -> list[Row]:
    """Views alone, their slope and budget; fits from scratch; the parallel law."""
    rows = []
    for entry in dial["views"]:
        rows.append(_checked(f"R0, error of the views alone, rho = {entry['rho']:g}", entry["power"]))
        rows.append(_checked(f"budget in nats, rho = {entry['rho']:g}", entry["nats"]))
    slope = slope_of_views(dial)
    if slope is not None:
        rows.append(_checked(SLOPE.format(slope["upto"]), slope))
    for entry in dial["views"]:
        rho = entry["rho"]
        cells = [cell for cell in dial["cells"] if cell["rho"] == rho]
        for key, label in (
            ("scratch", "V(n), fit from scratch"),
            ("shrunk", "parallel law, shrunk residual"),
        ):
            rows.append(
                _worst(f"{label}, rho = {rho:g}", [(f"n = {cell['n']}", cell[key]) for cell in cells])
            )
    most = max(cell["n"] for cell in dial["cells"])
    last = [cell for cell in dial["cells"] if cell["n"] == most]  # the exact side is the leading order in 1/n
    for key, label in (("all_draws", "V(n)"), ("all_draws_shrunk", "parallel law")):
        found = [(f"rho = {cell['rho']:g}", cell[key]) for cell in last]
        rows.append(_worst(f"every noise draw, {label}, n = {most}", found))
    return rows


def dial_curves(dial: Mapping, points: int = 60) -> list[dict]:
    """Exact {'rho', 'n', 'scratch', 'shrunk', 'views'} for each rho over the range of n."""
    counts = [cell["n"] for cell in dial["cells"]]
    n = np.geomspace(min(counts), max(counts), points)
    curves = []
    for entry in dial["views"]:
        own = entry["rho"], dial["sigma"]
        views, scratch = views_power(*own, dial["width"]), scratch_power(*own, n, dial["width"])
        curve = {"n": n, "scratch": scratch, "shrunk": parallel(views, scratch)}
        curves.append(
            {"rho": entry["rho"], "views": views} | {key: value.tolist() for key, value in curve.items()}
        )
    return curves


def views_curve(dial: Mapping, points: int = 60) -> dict[str, list[float]]:
    """Exact {'rho', 'power', 'nats'} over the range of rho."""
    rhos = [entry["rho"] for entry in dial["views"]]
    rhos = np.geomspace(min(rhos), max(rhos), points).tolist()
    power = [views_power(rho, dial["sigma"], dial["width"]) for rho in rhos]
    return {"rho": rhos, "power": power, "nats": [views_nats(rho, dial["width"]) for rho in rhos]}


def fitted_rates(found: Mapping) -> dict[str, dict[str, float]]:
    """{name: {'mean', 'se', 'exact'}}: exponents of worth ~ sigma^-a over the `TAIL` largest noise levels.

    `exact` is the same fit to the exact worth at those levels.
    """
    order = np.argsort(found["sigma"])[-TAIL:]
    sigmas = np.array(found["sigma"])[order]
    rates = {}
    for name, entry in found["alone"].items():
        mean, se, exact = (np.array(entry[key])[order] for key in ("mean", "se", "exact"))
        measured, error = fit_rate(sigmas, mean, se)
        rates[name] = {"mean": measured, "se": error, "exact": fit_rate(sigmas, exact, se)[0]}
    return rates


def worth_rows(pairs: Sequence[Mapping], components: int = 4) -> list[Row]:
    """Worth alone and beside clean examples, fitted exponents, and the exponents for sigma -> infinity."""
    rows = []
    for found in pairs:
        gap = f"separation {found['separation']:g}"
        share = f"{found['clean_share']:.0%} clean"
        for kind, label in (("alone", "worth of a noisy example"), ("mixed", f"relative size, {share}")):
            for name, entry in found[kind].items():
                each = [dict(zip(entry, values, strict=True)) for values in zip(*entry.values(), strict=True)]
                where = [f"sigma = {sigma:g}" for sigma in found["sigma"]]
                rows.append(_worst(f"{label}, {name}, {gap}", list(zip(where, each, strict=True))))
        tail = sorted(found["sigma"])[-TAIL:]
        if len(tail) >= 2:
            for name, rate in fitted_rates(found).items():
                rows.append(_checked(f"exponent of {name}, sigma {tail[0]:g} to {tail[-1]:g}, {gap}", rate))
    for found in pairs:
        pair = Pair(found["separation"])
        far = 30 * (pair.separation + pair.std)
        slopes = log_slope(lambda sigma, pair=pair: worth(pair, sigma), far)
        for name, slope, rate in zip(NAMES, slopes, RATES, strict=True):
            label = f"exponent of {name}, quadrature at sigma = {far:g}, separation {pair.separation:g}"
            rows.append(row(label, slope, rate, 0.02))
    for k in range(1, components + 1):
        slope = log_slope(lambda sigma, k=k: least_information(k, sigma), 100.0)
        rows.append(row(f"exponent of the worst direction, {k} components", slope, 4 * k - 2, 0.05))
    return rows


def worth_curves(found: Mapping, points: int = 48) -> dict:
    """Exact curves: over 'sigma', {name: [...]} for 'alone', 'mixed' and 'apart'; over 'far', up to where the powers of
    sigma are reached, the local exponents 'exponent' and, for the first noisy example beside clean ones, 'marginal'.

    'apart' is s + (1 - s) worth, what clean and noisy examples would be worth if they did not help each other.
    """
    pair, share = Pair(found["separation"]), found["clean_share"]
    sigmas = np.geomspace(0.5 * min(found["sigma"]), 2 * max(found["sigma"]), points)
    far = np.geomspace(sigmas[0], 20 * (pair.separation + pair.std), points)
    alone = np.array([worth(pair, s) for s in sigmas])
    tables = {
        "alone": alone,
        "mixed": np.array([mixed_size(pair, s, share) for s in sigmas]),
        "apart": share + (1 - share) * alone,
        "exponent": np.array([log_slope(lambda s: worth(pair, s), sigma) for sigma in far]),
        "marginal": np.array([log_slope(lambda s: marginal_worth(pair, s), sigma) for sigma in far]),
    }
    return {"sigma": sigmas.tolist(), "far": far.tolist()} | {
        key: {name: table[:, i].tolist() for i, name in enumerate(NAMES)} for key, table in tables.items()
    }
