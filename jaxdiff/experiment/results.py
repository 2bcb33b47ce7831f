"""Evaluation of a trained experiment on the held-out images: results.json, arrays, report."""

import json
import platform
import resource
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff import __version__
from jaxdiff.composition import band_edges
from jaxdiff.evaluation import certificate
from jaxdiff.evaluation.bootstrap import bootstrap_mean
from jaxdiff.evaluation.neighbors import nearest_neighbors
from jaxdiff.experiment import model
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.model import Parts
from jaxdiff.experiment.sampling import draw_samples, write_samples
from jaxdiff.experiment.stages import Run, stage_directory
from jaxdiff.operators import describe
from jaxdiff.report.page import write_report
from jaxdiff.training.loop import steps_done
from jaxdiff.training.metrics import read_metrics
from jaxdiff.training.progress import StageProgress

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn", "grain")
METHODS = ("gaussian", "views_only", "clean_only", "residual")
DESCRIPTIONS = {
    "gaussian": "Gaussian denoiser fitted to the clean examples; the reference of the nats",
    "views_only": "fused views without a network on clean data: Gaussian, fusion and anchored fusion, stacked",
    "clean_only": "network on the clean examples alone, with early stopping, gated against the Gaussian",
    "residual": "views_only plus the residual network, stacked: the composed model",
}


def finished(workdir: Path, config: Any) -> dict | None:
    """The results of `workdir` where they are complete and belong to this config, else None."""
    path = workdir / "results.json"
    if not path.exists() or not (workdir / "report.html").exists():
        return None
    results = json.loads(path.read_text())
    return results if results["config"] == _plain(config) else None


def read_results(workdir: Path) -> tuple[dict, dict[str, np.ndarray]]:
    """What `evaluate` wrote.

    Raises:
      FileNotFoundError: nothing was evaluated yet.
    """
    path = workdir / "results.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{path}: nothing to report yet; run with --mode=all or --mode=evaluate first"
        )
    with np.load(workdir / "arrays.npz", allow_pickle=False) as stored:
        return json.loads(path.read_text()), dict(stored)


def write_page(results: dict, arrays: dict[str, np.ndarray], workdir: Path) -> Path:
    """report.html of the workdir."""
    return write_report(results, arrays, workdir / "report.html")


def _plain(config: Any) -> dict:
    return json.loads(json.dumps(config.to_dict()))


def _thinned(values: list[float], most: int = 500) -> list[float]:
    """Means over blocks of a long series, so that results.json and the page stay small."""
    return [float(np.mean(block)) for block in np.array_split(values, most)] if len(values) > most else values


def _stage_entries(run: Run, parts: Parts) -> dict[str, dict]:
    """Cost and history of every stage, from its metrics file."""
    networks = {f"view/{v.name}": (v.stage, parts.view_params[v.name]) for v in run.plan.views}
    networks |= {"residual": (run.plan.residual, parts.residual_params)}
    networks |= {"clean_only": (run.plan.clean_only, parts.clean_params)}
    entries = {}
    for name, (plan, params) in networks.items():
        records = read_metrics(stage_directory(run.workdir, name) / "metrics.jsonl")
        losses = [r for r in records if "loss" in r]
        tuned = [r for r in records if "tuning_score" in r]
        best = max(tuned, key=lambda r: r["tuning_score"])["step"] if tuned else plan.settings.steps
        seconds = sum(r["seconds"] for r in losses)
        compile_seconds = sum(r.get("compile_seconds", 0.0) for r in losses)
        images = (steps_done(stage_directory(run.workdir, name)) or 0) * plan.settings.batch
        entries[name] = {
            "history": {key: _thinned([r[key] for r in losses]) for key in ("step", "loss", "grad_norm")},
            "tuning": {"step": [r["step"] for r in tuned], "score": [r["tuning_score"] for r in tuned]},
            "best_step": best,
            "seconds": seconds,
            "compile_seconds": compile_seconds,
            "images_seen": images,
            "parameters": int(sum(leaf.size for leaf in jax.tree.leaves(params))),
            "images_per_second": images / max(seconds - compile_seconds, 1e-9),
        }
    return entries


def _errors(run: Run, parts: Parts, sigmas: np.ndarray) -> dict[str, np.ndarray]:
    """Squared errors (N, S) of methods and candidates: the same noise for all, shared parts evaluated once."""
    names = list(run.plan.candidates)

    def candidates(parts, x, sigma):
        every = model.residual_candidates(run.plan, parts, run.config)(x, sigma)
        z = model.composition.stack(every[:-1], parts.stacking["views_only"], sigma)
        full = model.composition.stack(every, parts.stacking["residual"], sigma)
        clean = model.method_denoiser(run.plan, parts, run.config, "clean_only")(x, sigma)
        gaussian = parts.gaussian.denoiser(x, sigma)
        return jax.numpy.stack([gaussian, z, clean, full, every[-1], *every[:-1]])

    settings = run.config.evaluate
    x0 = run.data.held_out[: settings.max_images]
    calls = -(-len(x0) // settings.batch) * len(sigmas)
    with StageProgress("evaluate", calls, per_step=settings.batch, unit="images", console=run.console) as bar:
        errors = certificate.candidate_errors(
            candidates, parts, x0, sigmas, settings.seed, settings.batch, lambda done, total: bar.update(done)
        )
    labels = [*METHODS, "views + residual", *(f"candidate {name}" for name in names)]
    return dict(zip(labels, errors, strict=True))


def _share(stages: dict[str, dict], names: list[str], key: str) -> float:
    return sum(stages[name][key] for name in names)


def _method_entries(
    run: Run, errors: dict[str, np.ndarray], sigmas: np.ndarray, stages: dict
) -> dict[str, dict]:
    """Nats, denoising curve and cost of every method and candidate."""
    settings, values = run.config.evaluate, int(np.prod(run.plan.image_shape))
    views = [f"view/{view.name}" for view in run.plan.views]
    used = {
        "gaussian": [],
        "views_only": views,
        "clean_only": ["clean_only"],
        "residual": [*views, "residual"],
    }
    entries = {}
    for name, error in errors.items():
        stage_names = used.get(name, [*views, "residual"] if "residual" in name else views)
        if name == "candidate gaussian":
            continue
        nats = certificate.nats(errors["gaussian"], error, sigmas)
        entries[name] = {
            "nats_over_gaussian": bootstrap_mean(nats, settings.seed, settings.level, settings.resamples),
            "denoising": {"sigma": sigmas.tolist(), "mse": (error.mean(axis=0) / values).tolist()},
            "seconds": _share(stages, stage_names, "seconds"),
            "images_seen": _share(stages, stage_names, "images_seen"),
            "parameters": _share(stages, stage_names, "parameters"),
            "kind": "method" if name in METHODS else "candidate",
            "description": DESCRIPTIONS.get(name, "one of the candidates that stacking chooses from"),
        }
    return entries


def _comparisons(run: Run, errors: dict[str, np.ndarray], sigmas: np.ndarray) -> dict[str, dict]:
    """Paired differences in nats, bootstrapped over the held-out images."""
    settings = run.config.evaluate
    pairs = [("residual", "views_only"), ("residual", "clean_only"), ("views_only", "clean_only")]
    return {
        f"{a}_minus_{b}": bootstrap_mean(
            certificate.nats(errors[b], errors[a], sigmas), settings.seed, settings.level, settings.resamples
        )
        for a, b in pairs
    }


def _table(table: Any, names: list[str]) -> dict:
    values = np.asarray(table.values)
    return {
        "sigma": np.asarray(table.sigmas).tolist(),
        "weights": {name: values[:, k].tolist() for k, name in enumerate(names)},
    }


def _versions() -> dict[str, str]:
    found = {"jaxdiff": __version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in PACKAGES}


def _device() -> str:
    device = jax.devices()[0]
    return f"{jax.device_count()} x {device.device_kind} ({device.platform})"


def peak_memory_mb() -> float:
    """Largest resident set of this process so far, in MB."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (2**20 if sys.platform == "darwin" else 2**10)


def _data_entry(run: Run) -> dict:
    return {
        "source": run.config.data.source,
        "image_shape": list(run.plan.image_shape),
        "counts": run.data.counts,
        "report": run.data.report,
    }


def _pictures(run: Run, parts: Parts) -> tuple[dict[str, np.ndarray], dict[str, dict]]:
    """Sample grids, real images, example measurements, nearest training neighbours."""
    count = run.config.sample.count
    clean, held_out = run.data.clean_images(), run.data.held_out
    arrays = {"real": held_out[:count], "clean": clean[:count]}
    for view in run.plan.views:
        arrays[f"view/{view.name}"] = np.asarray(run.data.views[view.name].example(16).y)
    entry: dict[str, dict] = {"sample_distance": {}}
    for name in METHODS:
        images = draw_samples(run.plan, parts, run.config, name, count, run.console)
        write_samples(images, run.workdir / "samples", name)
        arrays[f"samples/{name}"] = images
        near = nearest_neighbors(images, clean)
        entry["sample_distance"][name] = float(near.distances.mean())
        arrays[f"neighbors/{name}/samples"], arrays[f"neighbors/{name}/nearest"] = (
            images,
            clean[near.indices[:, 0]],
        )
    entry["held_out_distance"] = float(nearest_neighbors(held_out[:count], clean).distances.mean())
    return arrays, entry


def evaluate(run: Run, parts: Parts, command_line: list[str]) -> tuple[dict, dict[str, np.ndarray]]:
    """Certificate, curves, samples and neighbours on the held-out images; writes results.json and arrays.npz."""
    bands = run.config.bands
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)
    stages = _stage_entries(run, parts)
    errors = _errors(run, parts, sigmas)
    methods = _method_entries(run, errors, sigmas, stages)
    arrays, neighbor_entry = _pictures(run, parts)
    names = list(run.plan.candidates)
    stacking = {
        "views_only": names,
        "residual": [*names, "views + residual"],
        "clean_only": ["gaussian", "clean_only"],
    }
    gate = parts.stacking["residual"]
    results = {
        "title": run.config.title,
        "command": " ".join(command_line),
        "seed": run.config.seed,
        "device": _device(),
        "versions": _versions(),
        "config": _plain(run.config),
        "data": _data_entry(run),
        "views": {
            v.name: {
                "operator": describe(v.operator),
                "shape": list(v.operator.out_shape),
                "c": v.operator.c,
                "examples": run.data.counts[f"view/{v.name}"],
            }
            for v in run.plan.views
        },
        "methods": methods,
        "comparisons": _comparisons(run, errors, sigmas),
        "stacking": {m: _table(parts.stacking[m], stacking[m]) for m in stacking},
        "gate": {"sigma": np.asarray(gate.sigmas).tolist(), "g": np.asarray(gate.values)[:, -1].tolist()},
        "bands": _bands(errors, sigmas),
        "stages": stages,
        "cost": {
            "seconds": sum(s["seconds"] for s in stages.values()),
            "images_seen": sum(s["images_seen"] for s in stages.values()),
            "peak_memory_mb": peak_memory_mb(),
        },
        "neighbors": neighbor_entry,
    }
    if parts.fusion is not None:
        results["fusion_weights"] = _table(parts.fusion, [v.name for v in run.plan.views])
    write_atomically(run.workdir / "arrays.npz", lambda path: np.savez_compressed(path, **arrays))
    text = json.dumps(results, indent=1)
    write_atomically(run.workdir / "results.json", lambda path: path.write_text(text))
    return results, arrays


def _bands(errors: Mapping[str, np.ndarray], sigmas: np.ndarray) -> dict:
    """What each band contributes to the nats of each method, mean over the images."""
    nats = {
        name: certificate.band_contributions(errors["gaussian"], errors[name], sigmas).mean(axis=0).tolist()
        for name in METHODS
    }
    return {"sigma": sigmas.tolist(), "nats": nats}
