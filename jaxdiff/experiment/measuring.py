"""One cell of a comparison: trained, and measured on the held-out images."""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from jaxdiff.composition import band_edges
from jaxdiff.experiment import model
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.cost import denoiser_flops
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.entries import method_entries, stage_entries
from jaxdiff.experiment.learners import cascade_method, learnt_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.pipeline import train
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.results import device_name, held_out_errors
from jaxdiff.experiment.sampling import draw_samples, write_samples
from jaxdiff.experiment.sharing import shared_stages
from jaxdiff.experiment.stages import Run
from jaxdiff.training.stopping import StopRequest


def evaluation_flops(run: Run, parts: Parts, name: str) -> float:
    """Operations of one evaluation of a method's denoiser for one image; a cascade's is the sum of its two."""
    plan, config = run.plan, run.config
    if name != "cascade":
        return denoiser_flops(
            lambda p, x, s: model.method_denoiser(plan, p, config, name)(x, s), parts, plan.image_shape
        )
    view = plan.view(plan.cascade_view)
    of_view = denoiser_flops(lambda p, x, s: learnt_denoiser(view, p)(x, s), parts, view.operator.out_shape)

    def given_view(p, x, s):
        known = p.operators[view.name](x)
        return cascade_method(plan, p).denoiser(p.params["cascade"])(known)(x, s)

    return of_view + denoiser_flops(given_view, parts, plan.image_shape)


def measure_cell(config: Any, directory: Path, root: Path, asked: dict, console: Console) -> None:
    """Train and measure; see `cells` for what is left in `directory`."""
    began = time.monotonic()
    data = load_data(config, console)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    elsewhere = shared_stages(config, plan, data, root / "shared")
    run = Run(plan, config, data, directory, console, StopRequest(), elsewhere)
    parts = train(run)
    bands = config.bands
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)
    errors = held_out_errors(run, parts, sigmas)
    stages = stage_entries(run, parts)
    methods = method_entries(run, parts, errors, sigmas, stages)
    for name in methods:
        if methods[name]["kind"] == "method":
            methods[name]["denoiser_flops"] = evaluation_flops(run, parts, name)
    for name in asked["samples"]:
        images = draw_samples(plan, parts, config, name, config.sample.count, console)
        write_samples(images, directory / "samples", name.replace("/", "_"))
    write_atomically(
        directory / "errors.npz",
        lambda path: np.savez(
            path, sigmas=sigmas, **{name.replace("/", "|"): e for name, e in errors.items()}
        ),
    )
    measured = {
        "request": asked,
        "stages": stages,
        "methods": methods,
        "data": {"counts": data.counts, "image_shape": list(data.image_shape)},
        "seconds": time.monotonic() - began,
        "device": device_name(),
    }
    text = json.dumps(measured, indent=1)
    write_atomically(directory / "measured.json", lambda path: path.write_text(text))
