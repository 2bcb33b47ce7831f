"""What a distillation lost, in nats on the held-out images, and what it saved; the model as a directory of its own."""

import json
import shlex
import time
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from jaxdiff.composition import band_edges
from jaxdiff.evaluation import certificate
from jaxdiff.evaluation.bootstrap import bootstrap_mean
from jaxdiff.experiment import model
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.card import write_card
from jaxdiff.experiment.distilling import DistillPlan, Student, train_student
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.results import device_name
from jaxdiff.experiment.sampling import draw_samples
from jaxdiff.experiment.stages import Run
from jaxdiff.export import CONFIG, Model, SamplerDefaults, load, save
from jaxdiff.progress import StageProgress
from jaxdiff.report.images import pair_grid, save_grid, save_picture
from jaxdiff.report.numbers import duration, interval_heading
from jaxdiff.sample import draw_images
from jaxdiff.training.loop import steps_done
from jaxdiff.training.metrics import read_metrics

RESULTS = "distill.json"
TIMED_BATCH, TIMED_CALLS = 64, 10


def parameter_count(params: Any) -> int:
    """Numbers in a pytree."""
    return int(sum(np.size(leaf) for leaf in jax.tree.leaves(params)))


def teacher_parameters(run: Run, parts: Parts, method: str) -> int:
    """Parameters of all networks that one evaluation of the teacher goes through, each counted once."""
    own = parts.clean_only if method == "clean_only" else method
    composed = method in ("views_only", *model.RESIDUALS)
    views = [view.stage_name for view in run.plan.views] if composed else []
    # Views that share a network name the same stage.
    stages = dict.fromkeys([*views, own])
    return parameter_count([parts.params[name] for name in stages if name in parts.params])


def seconds_per_image(apply: Callable, params: Any, shape: tuple[int, ...]) -> float:
    """Time of one forward pass, an image's share of a batch of 64: the median of 10 calls after the first."""
    x, sigma = jnp.zeros((TIMED_BATCH, *shape)), jnp.ones((TIMED_BATCH,))
    call, times = jax.jit(apply), []
    call(params, x, sigma).block_until_ready()
    for _ in range(TIMED_CALLS):
        begin = time.perf_counter()
        call(params, x, sigma).block_until_ready()
        times.append(time.perf_counter() - begin)
    return float(np.median(times)) / TIMED_BATCH


def measure(
    run: Run, parts: Parts, teacher: str, student: Model, images: np.ndarray, name: str
) -> dict[str, Any]:
    """Nats over the Gaussian of teacher and student on `images`, their paired difference, the share lost, the bands."""
    bands, settings = run.config.bands, run.config.evaluate
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)

    def candidates(arrays, x, sigma):
        parts, params = arrays
        taught = model.method_denoiser(run.plan, parts, run.config, teacher)(x, sigma)
        return jnp.stack([parts.reference.denoiser(x, sigma), taught, student.apply(params, x, sigma)])

    calls = -(-len(images) // settings.batch) * len(sigmas)
    with StageProgress(name, calls, per_step=settings.batch, unit="images", console=run.console) as bar:
        gaussian, taught, learnt = certificate.candidate_errors(
            candidates,
            (parts, student.params),
            images,
            sigmas,
            settings.seed,
            settings.batch,
            lambda done, total: bar.update(done),
        )

    def interval(reference, errors):
        nats = certificate.nats(reference, errors, sigmas)
        return bootstrap_mean(nats, settings.seed, settings.level, settings.resamples)

    before, difference = interval(gaussian, taught), interval(taught, learnt)
    return {
        "images": len(images),
        "teacher": before,
        "student": interval(gaussian, learnt),
        "student_minus_teacher": difference,
        # Nothing to lose where the teacher is no better than the Gaussian.
        "share_lost": -difference["mean"] / before["mean"] if before["mean"] > 0 else None,
        "bands": {
            "sigma": sigmas.tolist(),
            "student_minus_teacher": certificate.band_contributions(taught, learnt, sigmas)
            .mean(axis=0)
            .tolist(),
        },
    }


def _stage_entry(run: Run, student: Student, distilled: DistillPlan) -> dict[str, Any]:
    directory = run.directory(student.stage_name)
    records = read_metrics(directory / "metrics.jsonl")
    tuned = [r for r in records if "tuning_score" in r]
    steps = steps_done(directory) or 0
    return {
        "name": student.stage_name,
        "start": student.start or "scratch",
        "steps": steps,
        "best_step": max(tuned, key=lambda r: r["tuning_score"])["step"] if tuned else steps,
        "images_seen": steps * distilled.stage.settings.batch,
        "seconds": sum(r.get("seconds", 0.0) for r in records),
        "teacher_samples": distilled.samples,
    }


def _asked(config: Any) -> dict:
    """What the results depend on, of what may change between runs of one workdir."""
    return json.loads(json.dumps({key: config[key].to_dict() for key in ("distill", "evaluate", "sample")}))


def print_results(results: dict, run: Run) -> None:
    """The table and the sentence at the end."""
    entry = results["held_out"]
    title = f"Nats over the Gaussian denoiser, {entry['images']} held-out images"
    table = Table(title=title, title_justify="left", box=None, pad_edge=False)
    ends = interval_heading(run.config.evaluate.level)
    for column in ("", "nats", ends, "parameters", "ms per image"):
        table.add_column(column, justify="left" if not column else "right")
    for who, label in (("teacher", results["method"]), ("student", "distilled")):
        nats, cost = entry[who], results["cost"][who]
        table.add_row(
            label,
            f"{nats['mean']:.1f}",
            f"{nats['low']:.1f} to {nats['high']:.1f}",
            f"{cost['parameters']:,}",
            f"{1e3 * cost['seconds_per_image']:.3f}",
        )
    difference, share = entry["student_minus_teacher"], entry["share_lost"]
    lost = "" if share is None else f"; lost: {100 * max(share, 0.0):.2f} % of the teacher's nats"
    run.console.print(table)
    run.console.print(
        f"distilled - {results['method']} = {difference['mean']:+.2f} ({difference['low']:.2f} to "
        f"{difference['high']:.2f}){lost}; trained in {duration(results['stage']['seconds'])}",
        highlight=False,
        soft_wrap=True,
    )
    for path in (results["grid"], results["model"]):
        run.console.print(path, highlight=False, soft_wrap=True)


def _pictures(
    run: Run, parts: Parts, distilled: DistillPlan, student: Model, name: str
) -> tuple[np.ndarray, str]:
    """Samples of the student, and the path of a grid with each under the teacher's from the same noise."""
    settings = run.config.sample
    taught = draw_samples(run.plan, parts, run.config, distilled.method, settings.count, run.console)
    with StageProgress("sample distilled", settings.count, unit="images", console=run.console) as bar:
        learnt = draw_images(
            student, settings.count, student.sampler, settings.seed, settings.batch, bar.update
        )
    path = run.workdir / "samples" / f"{name}.png"
    # A divisor of the count, so that every row is full.
    divisors = [k for k in range(1, settings.count + 1) if settings.count % k == 0]
    columns = min(divisors, key=lambda k: abs(k - np.sqrt(2 * settings.count)))
    save_picture(path, pair_grid(taught, learnt, columns))
    return learnt, str(path)


def run_distill(run: Run, parts: Parts, distilled: DistillPlan, command_line: list[str]) -> dict[str, Any]:
    """Train (or go on with) the student, measure it, write distill.json and the model; returns the results."""
    path, asked = run.workdir / RESULTS, _asked(run.config)
    if path.exists():
        results = json.loads(path.read_text())
        if results["asked"] == asked and (distilled.out / CONFIG).exists():
            print_results(results, run)
            return results
    student = train_student(run, parts, distilled)
    sampler = SamplerDefaults(**{name: run.config.sample[name] for name in SamplerDefaults._fields})
    save(
        distilled.out,
        distilled.stage.network,
        student.params,
        run.plan.image_shape,
        student.sigma_data,
        distilled.noise_range,
        sampler,
        student.told,
    )
    # From here on the model is what was written, not what was trained.
    exported = load(distilled.out)
    apply = {
        "teacher": lambda p, x, s: model.method_denoiser(run.plan, p, run.config, distilled.method)(x, s),
        "student": exported.apply,
    }
    held_out = run.data.held_out[: run.config.evaluate.max_images]
    results = {
        "title": run.config.title,
        "command": shlex.join(command_line),
        "seed": run.config.seed,
        "device": device_name(),
        "asked": asked,
        "method": distilled.method,
        "noise_range": list(distilled.noise_range),
        "held_out": measure(run, parts, distilled.method, exported, held_out, "evaluate"),
        "cost": {
            "teacher": {
                "parameters": teacher_parameters(run, parts, distilled.method),
                "seconds_per_image": seconds_per_image(apply["teacher"], parts, run.plan.image_shape),
            },
            "student": {
                "parameters": parameter_count(exported.params),
                "seconds_per_image": seconds_per_image(
                    apply["student"], exported.params, run.plan.image_shape
                ),
            },
        },
        "stage": _stage_entry(run, student, distilled),
        "model": str(distilled.out),
    }
    if len(run.data.tuning) > 1:
        results["tuning"] = measure(
            run, parts, distilled.method, exported, run.data.tuning, "evaluate tuning"
        )
    images, results["grid"] = _pictures(run, parts, distilled, exported, student.stage_name.replace("/", "_"))
    save_grid(distilled.out / "samples.png", images[:400])
    write_card(distilled.out, run, results, exported)
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(results, indent=1)))
    print_results(results, run)
    return results
