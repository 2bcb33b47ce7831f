"""What sampling the composed digits model costs, against sampling one full-size network. Lines of JSON.

    python benchmarks/compose.py
    python benchmarks/compose.py --config=configs/digits_everything.py --batch=64 --repeat=5
    python benchmarks/compose.py --workdir=runs/digits_residual

The plan, the fusion and the sampler are those of the config; the networks' parameters are random, the Gaussian is
fitted to random smooth images, and in the stacking every candidate has a weight at every noise level (the residual
below `--residual_below`): the most that the composition can cost. With `--workdir` all of it is that of a trained run,
in which a candidate is not computed at noise levels where it has no weight; `clean_only` is its network alone, at every
level. Each method is sampled in turn (A B C A B C ...). 'ratio' is time over that of `clean_only`, one full-size
network; 'flops_ratio' the same of products, as if every candidate were computed: what the composition would cost if all
its networks ran as fast as that one. From the same products come 'gflop_per_s' and 'mfu', the share of the peak (null
where that is not known, as of CPUs; both null with `--workdir`, where not all products are computed). The first line
says what machine it was; then there is one for each method.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import timing
from rich.console import Console

from jaxdiff.composition import BandTable, band_edges
from jaxdiff.diffusion.gaussian import fit_gaussian
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.cost import denoiser_flops
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.dry_run import look_at_data
from jaxdiff.experiment.learners import clean_method, view_method
from jaxdiff.experiment.model import Z, method_denoiser, residual_method
from jaxdiff.experiment.overrides import load_config
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.pipeline import train
from jaxdiff.experiment.plan import Plan, make_plan
from jaxdiff.experiment.sampling import make_sampler
from jaxdiff.experiment.stages import Run, unfinished
from jaxdiff.operators.measurement import Measurement
from jaxdiff.sampling import evaluations, image_keys
from jaxdiff.training.stopping import StopRequest

sys.path.insert(0, str(Path(__file__).parents[1]))  # config files import their neighbours as `configs`


def table(values: np.ndarray, config) -> BandTable:
    """A table over the config's bands of these columns, one row for all bands or one each."""
    sigmas = band_edges(config.bands.sigma_min, config.bands.sigma_max, config.bands.count)
    return BandTable(
        jnp.asarray(sigmas), jnp.asarray(np.broadcast_to(values, (len(sigmas), values.shape[-1])))
    )


def stacked(plan: Plan, config, residual_below: float) -> dict[str, BandTable]:
    """Stacking weights with every candidate alive, but the residual from `residual_below` up."""
    views, every = len(plan.candidates), len(plan.candidates) + 1
    sigmas = band_edges(config.bands.sigma_min, config.bands.sigma_max, config.bands.count)
    weights = np.where(sigmas[:, None] < residual_below, np.full(every, 1 / every), np.eye(every)[0])
    weights[:, :views] += (sigmas[:, None] >= residual_below) * (1 / views - weights[:, :views])
    return {
        **dict.fromkeys(("views_only", Z), table(np.full(views, 1 / views, np.float32), config)),
        "residual": table(weights.astype(np.float32), config),
        "clean_only": table(np.array([0.5, 0.5], np.float32), config),
    }


def random_like(params, key: jax.Array):
    """Small random values in place of zeros, so that no layer's output is zero."""
    leaves, tree = jax.tree.flatten(params)
    keys = jax.random.split(key, len(leaves))
    return tree.unflatten(
        [v + 0.02 * jax.random.normal(k, v.shape) for v, k in zip(leaves, keys, strict=True)]
    )


def make_parts(plan: Plan, config, residual_below: float) -> Parts:
    """Parts as after training: Gaussians, fusion and stacking tables, parameters."""
    noise = np.random.default_rng(0).standard_normal((400, *plan.image_shape))
    smooth = sum(np.roll(noise, (i, j), (1, 2)) for i in range(3) for j in range(3)) / 6
    gaussian = fit_gaussian(smooth.astype(np.float32))
    marginals = {
        v.name: gaussian.marginal(v.operator, v.operator.c, v.operator.out_shape) for v in plan.views
    }
    parts = Parts(gaussian, gaussian, {v.name: v.operator for v in plan.views}, marginals)
    scales = {name: 0.5 for name in (*plan.stages, *(v.stage_name for v in plan.views))}
    weights = np.linspace(0.5, 1.0, len(plan.views), dtype=np.float32)
    parts = parts.with_sigma_data(**scales).replace(
        fusion=table(weights, config), stacking=stacked(plan, config, residual_below)
    )

    def initialized(method, shape):
        batch = Measurement(jnp.zeros((2, *shape)), None, jnp.zeros(2))
        return random_like(jax.jit(method.init)(jax.random.key(0), batch), jax.random.key(1))

    for view in plan.views:
        shape = plan.image_shape if view.of_images else view.operator.out_shape
        parts = parts.with_params(view.stage_name, initialized(view_method(view, parts), shape))
    parts = parts.with_params("residual", initialized(residual_method(plan, parts, config), plan.image_shape))
    return parts.with_params(
        "clean_only", initialized(clean_method(plan, "clean_only", parts), plan.image_shape)
    )


def trained_parts(plan: Plan, config, workdir: Path) -> Parts:
    """The parts of a run of this config that is done."""
    console = Console(stderr=True)
    run = Run(plan, config, load_data(config, console), workdir, console, StopRequest())
    if missing := unfinished(run):
        raise SystemExit(f"{workdir}: not trained yet: {', '.join(missing)}")
    parts = train(run)
    alone = table(np.array([0.0, 1.0], np.float32), config)  # the base: one network, at every noise level
    return parts.replace(stacking={**parts.stacking, "clean_only": alone})


def load(options: argparse.Namespace):
    """Plan, config and parts; the config's own sampler with `--sampling_steps`."""
    config = load_config(options.config)
    config.sample.steps = options.sampling_steps
    plan = make_plan(config, look_at_data(config).shape)
    if options.workdir:
        return plan, config, trained_parts(plan, config, options.workdir)
    return plan, config, make_parts(plan, config, options.residual_below)


def main() -> None:
    """Print times, ratios, and what of them is products."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--config", default="configs/digits_residual.py")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--sampling_steps", type=int, default=18)
    parser.add_argument(
        "--workdir", type=Path, help="of a run that is done: its parts instead of random ones"
    )
    parser.add_argument("--residual_below", type=float, default=10.0, help="the residual's weight is 0 above")
    parser.add_argument("--repeat", type=int, default=10)
    parser.add_argument("--methods", nargs="*", default=["residual", "views_only", "clean_only"])
    parser.add_argument("--profile", type=Path, help="write a trace of the first method into this directory")
    options = parser.parse_args()
    plan, config, parts = load(options)
    keys, programs, compile_seconds, flops = image_keys(0, 0, options.batch), {}, {}, {}
    for name in options.methods:
        draw = make_sampler(plan, config, name)
        programs[name], compile_seconds[name] = timing.compiled(draw, parts, keys)

        def denoise(arrays, x, sigma, name=name):
            return method_denoiser(plan, arrays, config, name)(x, sigma)

        flops[name] = denoiser_flops(denoise, parts, plan.image_shape)
        jax.block_until_ready(programs[name](parts, keys))
    clock, core = {n: [] for n in programs}, {n: [] for n in programs}
    for _ in range(options.repeat):
        for name, program in programs.items():
            start = time.perf_counter(), time.process_time()
            jax.block_until_ready(program(parts, keys))
            clock[name].append(time.perf_counter() - start[0])
            core[name].append(time.process_time() - start[1])
    if options.profile:
        with jax.profiler.trace(str(options.profile)):
            jax.block_until_ready(programs[options.methods[0]](parts, keys))
    s = config.sample
    calls = int(evaluations(s.sampler, karras_schedule(s.steps, s.sigma_min, s.sigma_max, s.rho)))
    print(json.dumps(timing.machine() | {"evaluations": calls, "batch": options.batch}))
    base = options.methods[-1]
    for name in options.methods:
        work = timing.Work(
            None, options.batch, flops[name] * calls * options.batch, compile_seconds[name], {}
        )
        row = {"method": name, **timing.rates(work, clock[name], config.train.dtype)}
        if options.workdir:
            row |= {"gflop_per_s": None, "mfu": None}
        row["images_per_core_s"] = round(options.batch / min(core[name]), 2)
        row["ratio"] = round(float(np.median(clock[name]) / np.median(clock[base])), 3)
        row["core_ratio"] = round(min(core[name]) / min(core[base]), 3)
        row["mflop_per_evaluation"] = round(flops[name] / 1e6, 4)
        row["flops_ratio"] = round(flops[name] / flops[base], 3)
        row |= {"compile_seconds": round(compile_seconds[name], 2), "peak_memory_mb": timing.peak_memory_mb()}
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
