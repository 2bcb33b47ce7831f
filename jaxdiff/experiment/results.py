"""Evaluation of a trained experiment on the held-out images: results.json, arrays, report."""

import json
import platform
import resource
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff import __version__
from jaxdiff.composition import band_edges
from jaxdiff.evaluation import certificate
from jaxdiff.evaluation.neighbors import nearest_neighbors
from jaxdiff.experiment import model
from jaxdiff.experiment.arrays import load_arrays, write_atomically
from jaxdiff.experiment.chain import cascade_errors
from jaxdiff.experiment.entries import band_entries, comparisons, method_entries, place, stage_entries
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.sampling import draw_samples, sampled_methods, write_samples
from jaxdiff.experiment.stages import Run
from jaxdiff.operators import describe
from jaxdiff.progress import StageProgress
from jaxdiff.report.page import write_report
from jaxdiff.training.sharding import make_mesh

PACKAGES = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy", "scipy", "scikit-learn", "grain")


def finished(workdir: Path, config: Any) -> dict | None:
    """The results of `workdir` where they are complete and belong to this config, else None."""
    path = workdir / "results.json"
    if not path.exists() or not (workdir / "report.html").exists():
        return None
    results = json.loads(path.read_text())
    stored, asked = results["config"], _plain(config)
    for key in ("distill", "restore", "memorization"):  # they change nothing here
        stored[key] = asked.get(key)
    return results if stored == asked else None


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
    return json.loads(path.read_text()), load_arrays(workdir / "arrays.npz")


def write_page(results: dict, arrays: dict[str, np.ndarray], workdir: Path) -> Path:
    """report.html of the workdir."""
    path = workdir / "report.html"
    write_atomically(path, lambda temporary: write_report(results, arrays, temporary))
    return path


def _plain(config: Any) -> dict:
    return json.loads(json.dumps(config.to_dict()))


def held_out_errors(run: Run, parts: Parts, sigmas: np.ndarray) -> dict[str, np.ndarray]:
    """Squared errors (N, S) of methods and candidates: the same noise for all, shared parts evaluated once."""

    def every(parts, x, sigma):
        return model.every_denoised(run.plan, parts, run.config)(x, sigma)

    def stacked(parts, x, sigma):
        outputs = every(parts, x, sigma)
        return jax.numpy.stack([outputs[name] for name in sorted(outputs)])

    settings = run.config.evaluate
    x0 = run.data.held_out[: settings.max_images]
    names = sorted(jax.eval_shape(every, parts, x0[:1], np.ones(1, np.float32)))
    calls = -(-len(x0) // settings.batch) * len(sigmas)
    with StageProgress("evaluate", calls, per_step=settings.batch, unit="images", console=run.console) as bar:
        errors = certificate.candidate_errors(
            stacked,
            parts,
            x0,
            sigmas,
            settings.seed,
            settings.batch,
            lambda done, total: bar.update(done),
            mesh=make_mesh(),
        )
    found = dict(zip(names, errors, strict=True))
    if "cascade" in run.plan.methods:
        found["cascade"] = cascade_errors(run, parts, x0, sigmas, found["gaussian"])
    return {name: found[name] for name in sorted(found, key=place)}


def _table(table: Any, names: list[str]) -> dict:
    values = np.asarray(table.values)
    return {
        "sigma": np.asarray(table.sigmas).tolist(),
        "weights": {name: values[:, k].tolist() for k, name in enumerate(names)},
    }


def versions() -> dict[str, str]:
    """Of this package and of those that results depend on."""
    found = {"jaxdiff": __version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in PACKAGES}


def device_name() -> str:
    """Number and kind of the devices."""
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
    known = clean if len(clean) else run.data.reference
    arrays = {"real": held_out[:count], "clean": known[:count]}
    for view in run.plan.views:
        arrays[f"view/{view.name}"] = np.asarray(run.data.views[view.name].example(16).y)
    entry: dict[str, dict] = {"sample_distance": {}}
    for name in sampled_methods(run.plan):
        images = draw_samples(run.plan, parts, run.config, name, count, run.console)
        write_samples(images, run.workdir / "samples", name.replace("/", "_"))
        arrays[f"samples/{name}"] = images
        near = nearest_neighbors(images, known)
        entry["sample_distance"][name] = float(near.distances.mean())
        arrays[f"neighbors/{name}/samples"] = images
        arrays[f"neighbors/{name}/nearest"] = known[near.indices[:, 0]]
    entry["held_out_distance"] = float(nearest_neighbors(held_out[:count], known).distances.mean())
    return arrays, entry


def evaluate(run: Run, parts: Parts, command_line: list[str]) -> tuple[dict, dict[str, np.ndarray]]:
    """Certificate, curves, samples and neighbours on the held-out images; writes results.json and arrays.npz."""
    bands = run.config.bands
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)
    stages = stage_entries(run, parts)
    errors = held_out_errors(run, parts, sigmas)
    methods = method_entries(run, parts, errors, sigmas, stages)
    arrays, neighbor_entry = _pictures(run, parts)
    names = list(run.plan.candidates)
    stacking = {
        "views_only": names,
        "residual": [*names, "views + residual"],
        "completed": [*names, "views + completed"],
        "shared": ["gaussian", "shared"],
        "clean_only": ["gaussian", "clean_only"],
        "finetune": ["gaussian", "finetune"],
    }
    stacking = {name: columns for name, columns in stacking.items() if name in parts.stacking}
    results = {
        "title": run.config.title,
        "command": " ".join(command_line),
        "seed": run.config.seed,
        "device": device_name(),
        "versions": versions(),
        "config": _plain(run.config),
        "data": _data_entry(run),
        "views": {
            v.name: {
                "operator": describe(v.operator),
                "method": v.method,
                "shape": list(v.operator.out_shape),
                "c": v.operator.c,
                "sigma_y": v.sigma_y,
                "sigma_min": parts.sigma_min.get(v.name, 0.0),
                "examples": run.data.counts[f"view/{v.name}"],
            }
            for v in run.plan.views
        },
        "methods": methods,
        "comparisons": comparisons(run, errors, sigmas),
        "stacking": {m: _table(parts.stacking[m], stacking[m]) for m in stacking},
        "bands": band_entries(errors, sigmas),
        "stages": stages,
        "cost": {
            "seconds": sum(s["seconds"] for s in stages.values()),
            "images_seen": sum(s["images_seen"] for s in stages.values()),
            "peak_memory_mb": peak_memory_mb(),
        },
        "neighbors": neighbor_entry,
    }
    if "residual" in parts.stacking:
        gate = parts.stacking["residual"]
        results["gate"] = {
            "sigma": np.asarray(gate.sigmas).tolist(),
            "g": np.asarray(gate.values)[:, -1].tolist(),
        }
    if len(run.plan.stages) and "clean_only" in run.plan.methods and run.config.clean_only.grid:
        number = int(parts.clean_only.split("/")[1])
        results["clean_only_regularisation"] = list(run.config.clean_only.grid[number])
    if parts.fusion is not None:
        results["fusion_weights"] = _table(parts.fusion, [v.name for v in run.plan.views])
    write_atomically(run.workdir / "arrays.npz", lambda path: np.savez_compressed(path, **arrays))
    text = json.dumps(results, indent=1)
    write_atomically(run.workdir / "results.json", lambda path: path.write_text(text))
    return results, arrays
