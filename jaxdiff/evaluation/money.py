"""Where money is best spent: prices of images against what they are worth by the fitted law.

With prices c_clean and c_source, the next nat is cheapest where (dq/dn) / c_clean or (dq/dm) / c_source is
largest; since dq/dm = rate dq/dn, partial images pay while c_source < rate c_clean. Several sources are
compared one at a time: each law was fitted without the others, and what they share is not in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar

from jaxdiff.evaluation.laws import Fit, predict
from jaxdiff.evaluation.worth import Worth, interval, outside, rate, slope


def _check(**amounts: float) -> None:
    for name, amount in amounts.items():
        if not (np.isfinite(amount) and amount > 0):
            raise ValueError(f"{name} must be a positive amount of money, got {amount}")


def allocate(
    fit: Fit, n_clean: float, n_source: float, cost_clean: float, cost_source: float, budget: float
) -> tuple[float, float]:
    """(more clean, more source) images that add most nats for `budget`, along the law: numbers, not rounded.

        max_y q(n + (budget - c_source y) / c_clean, m + y),   0 <= y <= budget / c_source

    A scan of the line, then a bounded search around its best point; the ends are candidates.

    Raises:
        ValueError: a price or the budget is not positive.
    """
    _check(cost_clean=cost_clean, cost_source=cost_source, budget=budget)
    most = budget / cost_source

    def gained(more):
        return predict(fit, n_clean + (budget - cost_source * more) / cost_clean, n_source + more)

    scan = np.linspace(0.0, most, 201)
    index = int(np.argmax(gained(scan)))
    low, high = scan[max(index - 1, 0)], scan[min(index + 1, 200)]
    found = minimize_scalar(
        lambda more: -gained(more), bounds=(low, high), method="bounded", options={"xatol": 1e-7 * most}
    )
    more = max((float(found.x), 0.0, most), key=lambda value: float(gained(value)))
    return (budget - cost_source * more) / cost_clean, more


def money(worths: Mapping[str, Worth], cost_clean: float, costs: Mapping[str, float], budget: float) -> dict:
    """Prices, nats per unit of money and the best use of `budget`, for clean images and every source.

    Args:
        worths: {source: Worth}, all assessed at the same number of clean images.
        cost_clean: of one clean image, in any unit of money.
        costs: {source: cost of one of its images}.
        budget: what is to be spent.

    Returns:
        {'budget', 'one_clean', 'rows': [{'name', 'cost', 'rate', 'break_even', 'nats_per_unit'}],
        'plans': [{'name', 'clean', 'source', 'gain', 'gain_clean_only', 'beyond'}], 'best_buy', 'resolved'}.
        'one_clean' is dq/dn; 'break_even' the price up to which an image pays; 'nats_per_unit' = rate dq/dn /
        cost, its interval that of the rate, as dq/dn is common to all. 'gain' is in nats; 'beyond' says where
        a plan leaves the measured grid; 'best_buy' names the row with the most nats per unit, and 'resolved'
        says whether its interval is clear of all others'.

    Raises:
        ValueError: no source, a source without a cost, or an amount that is not positive.
    """
    missing = [name for name in worths if name not in costs]
    if missing or not worths:
        raise ValueError(f"costs are needed for {missing or 'at least one source'}; got {list(costs)}")
    _check(cost_clean=cost_clean, budget=budget, **{f"costs[{name}]": costs[name] for name in worths})
    # dq/dn where the law predicts best; common to all rows, so that it cannot change their order.
    known = min(worths.values(), key=lambda worth: worth.best.held_out_error)
    one_clean = slope(known, known.best)
    rows = [
        _row("clean", cost_clean, dict.fromkeys(("mean", "low", "high"), 1.0), cost_clean, one_clean["mean"])
    ]
    for name, worth in worths.items():
        rows.append(_row(name, costs[name], rate(worth, worth.best), cost_clean, one_clean["mean"]))
    first, *others = sorted(rows, key=lambda row: -row["nats_per_unit"]["mean"])
    return {
        "budget": budget,
        "one_clean": one_clean,
        "rows": rows,
        "plans": [_plan(name, worth, cost_clean, costs[name], budget) for name, worth in worths.items()],
        "best_buy": first["name"],
        "resolved": all(first["nats_per_unit"]["low"] > row["nats_per_unit"]["high"] for row in others),
    }


def _row(
    name: str, cost: float, price: Mapping[str, float], cost_clean: float, one_clean: float
) -> dict[str, Any]:
    return {
        "name": name,
        "cost": cost,
        "rate": dict(price),
        "break_even": {key: cost_clean * value for key, value in price.items()},
        "nats_per_unit": {key: one_clean * value / cost for key, value in price.items()},
    }


def _plan(name: str, worth: Worth, cost_clean: float, cost: float, budget: float) -> dict[str, Any]:
    n, m = worth.present
    fit = worth.best.fit
    clean, source = allocate(fit, n, m, cost_clean, cost, budget)
    now = predict(fit, n, m)
    return {
        "name": name,
        "clean": float(np.floor(clean + 1e-6)),
        "source": float(np.floor(source + 1e-6)),
        "gain": interval(
            worth.best, worth.runs, lambda f: predict(f, n + clean, m + source) - predict(f, n, m)
        ),
        "gain_clean_only": float(predict(fit, n + budget / cost_clean, m) - now),
        "beyond": outside(worth, n + clean, m + source),
    }
