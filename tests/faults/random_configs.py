"""Random small configs out of everything that can be combined: each runs two steps of all its stages, or is refused.

`python -m tests.faults.random_configs FIRST COUNT FOLDER` tries the configs FIRST, FIRST + 1, ... and prints one JSON
line for each: {"number", "outcome": ran | refused | stopped | crashed, "reason", "seconds"}. Restorations are planned
and not carried out.
"""

import json
import random
import shutil
import sys
import time
import traceback
from pathlib import Path

import jax
from ml_collections import ConfigDict
from rich.console import Console

from configs import default
from jaxdiff.experiment import checks, pipeline
from jaxdiff.experiment.checks import check_names
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.restore_plan import INPUTS, build_operators, make_restore_plan
from jaxdiff.experiment.stages import Run
from jaxdiff.training import loop
from jaxdiff.training.stopping import StopRequest

SIDE = 8  # of scikit-learn's digits
OPERATORS = {
    "identity": {},
    "avg_pool": {"factor": (2, 4, 2, 3)},
    "grayscale": {},
    "crop": {"top": (0, 4), "left": (0,), "height": (4, 4, 8, 9), "width": (8, 8, 4)},
    "coordinates": {"indices": ((0, 1, 2, 9), (0, 63), (64,))},
    "mask": {"box": ((0, 0, 4, 8), (0, 0, 9, 9)), "hidden_box": (None,)},
    "pixel_mask": {"p": (0.5, 0.2, 0.9, 1.5), "per_channel": (False, True)},
    "box_mask": {"size": (3, 8, (2, 4))},
    "keep_patch": {"size": (4, 6, 0)},
    "scan_lines": {"p": (0.5, 0.0), "axis": ("rows", "columns", "diagonal"), "keep_center": (0, 2)},
    "overlay": {},
    "gaussian_blur": {"std": (1.0, 0.0, -1.0), "boundary": ("periodic", "reflect")},
    "motion_blur": {"length": (3.0,), "angle": (0.0, 30.0)},
    "sensing": {"measurements": (16, 0.5, 100), "matrices": (4,), "orthonormal": (True, False)},
    "fourier": {"acceleration": (2.0, 1.0)},
    "compose": {"operators": ({"0": {"name": "crop", "top": 0, "left": 0, "height": 4, "width": 8}},)},
}
DAMAGES = (
    {"name": "jpeg", "quality": 20},
    {"name": "quantize", "levels": 4},
    {"name": "quantise", "levels": 4},
)
# path: values that are right by themselves, the usual one first
KEYS = {
    "data.tuning": (8, 1, 2),
    "data.clean": (16, 2, 5),
    "data.reference": (0, 8),
    "data.reserved": (0, 30),
    "data.unused_clean": ("none", "views"),
    "data.split_by": ("hash", "slab"),
    "data.flip": (False, True),
    "data.limit": (120, 60),
    "data.channels": (0, 1, 3),
    "network.dropout": (0.0, 0.1),
    "train.batch": (4, 1, 3),
    "train.accumulate": (1, 2, 4),
    "train.decay": ("cosine", "constant"),
    "train.dtype": ("float32", "bfloat16"),
    "train.sharding": ("replicated", "fsdp"),
    "train.clip": (1.0, 0.0),
    "train.weight_decay": (0.0, 0.01),
    "train.warmup": (0, 1, 50),
    "train.ema_halflife": (100.0, 0.0),
    "train.ema_rampup": (0.05, 0.0),
    "train.steps_per_dispatch": (0, 2, 16),
    "train.checkpoint_every": (2, 1, 5),
    "train.tune_every": (2, 1, 3),
    "train.patience": (0, 1),
    "train.max_skipped": (10, 1),
    "train.spike_factor": (30.0, 0.0),
    "train.lr": (1e-3, 1e4),
    "noise.sigma_data": (0.0, 0.5),
    "composition.gaussian": ("ledoit_wolf", "ppca", "empirical"),
    "composition.rank": (0, 3),
    "composition.fusion": ("least_squares", "sum"),
    "composition.weights": ("fitted", "inverse_error", "uniform"),
    "composition.cg_steps": (2, 1),
    "composition.candidates": (("gaussian", "fusion"), ("gaussian",), ("fusion", "anchored")),
    "composition.smooth": (1.0, 0.0),
    "bands.count": (3, 2),
    "bands.tuning_draws": (1, 2),
    "shared.boxes": (0.0, 0.5),
    "shared.em.laps": (1, 2),
    "shared.em.sampler": ("heun", "replacement"),
    "residual.penalty": (0.0, 0.1),
    "residual.jacobian_penalty": (0.0, 0.1),
    "residual.made_penalty": (0.0, 0.1),
    "finetune.start": ("restored", "views_only"),
    "finetune.penalty": (0.0, 0.1),
    "finetune.made_penalty": (0.0, 0.1),
    "finetune.first_steps": (0, 2),
    "clean_only.grid": ((), ((0.0, 0.0), (0.1, 0.01))),
    "sample.sampler": ("heun", "euler", "ddim", "ancestral"),
    "sample.steps": (18, 2),
    "sample.sigma_min": (0.01, 0.5),
    "sample.stop": ("denoised", "noisy"),
    "restore.method": ("mmps", "all", "ddrm,dps", "pinv"),
    "restore.operator.name": ("", "box_mask", "avg_pool", "dust"),
    "restore.sampler": ("heun", "euler", "ddim"),
    "restore.draws": (19, 2),
    "restore.count": (64, 0),
    "restore.sigma_y": (0.05, 0.0),
    "restore.image_size": (0, -1, 8),
    "restore.tile.overlap": (0, 2, 4),
    "restore.input": ("held_out", "tuning", "sklearn_digits"),
}
# Of the U-Net, which has more to choose from.
UNET = {
    "blocks": (1, 2),
    "norm": ("group", "rms", "none"),
    "attention": ((), (0,)),
}
# path: values that are wrong, or strange; three in four configs have one
STRANGE = {
    "data.tuning": (0, -1, 500),
    "data.clean": (0, 1, 500, -3),
    "data.held_out": (0, 1, 5000),
    "data.channels": (2, -1),
    "data.image_size": (-1, 1, 4, 7),
    "data.limit": (1, 12, -5),
    "network.dropout": (1.0, -0.5, 2.0),
    "network.width": (0, -4),
    "network.patch": (3, 0),
    "network.blocks": (0, -1),
    "network.norm": ("batch", ""),
    "network.attention": ((3,), (-1,)),
    "network.channel_mults": ((), (0,)),
    "network.name": ("unett",),
    "train.batch": (0, -4, 500),
    "train.accumulate": (0, -1, 3, 500),
    "train.fsdp_min_size": (0,),
    "train.steps": (0, -1),
    "train.decay": ("linear",),
    "train.dtype": ("float16", "float23"),
    "train.sharding": ("zero",),
    "train.clip": (-1.0,),
    "train.weight_decay": (-1.0,),
    "train.warmup": (-1,),
    "train.ema_halflife": (-1.0,),
    "train.ema_rampup": (-1.0, 5.0),
    "train.steps_per_dispatch": (-1,),
    "train.checkpoint_every": (0, -1),
    "train.tune_every": (0, -2),
    "train.patience": (-1,),
    "train.max_skipped": (0, -1),
    "train.spike_factor": (-1.0,),
    "train.lr": (0.0, -1.0, float("nan"), float("inf")),
    "noise.sigma_data": (-1.0,),
    "noise.P_std": (0.0, -1.0),
    "noise.P_mean": (100.0, -100.0),
    "composition.gaussian": ("gaussian",),
    "composition.rank": (200, -1),
    "composition.fusion": ("plain",),
    "composition.weights": ("best",),
    "composition.cg_steps": (0, -1),
    "composition.candidates": ((), ("shared", "fusion"), ("fusion", "fusion"), ("nothing",)),
    "composition.smooth": (-1.0,),
    "evaluate.level": (95.0, 0.0),
    "bands.count": (1, 0),
    "bands.sigma_min": (0.0, -1.0, 50.0),
    "bands.tuning_draws": (0, -1),
    "shared.clean_weight": (0.0, -1.0),
    "shared.boxes": (2.0,),
    "shared.least_side": (0, 9),
    "shared.em.laps": (0,),
    "residual.penalty": (-0.1,),
    "residual.jacobian_penalty": (-0.1,),
    "clean_only.grid": (((2.0, 0.0),), ((0.0,),)),
    "finetune.view": ("z",),
    "finetune.start": ("views",),
    "residual.made_share": (0.0, 1.0),
    "cascade.view": ("z",),
    "sample.sampler": ("hein",),
    "sample.s_churn": (-1.0,),
    "sample.steps": (1, 0),
    "sample.sigma_min": (0.0, -1.0, 500.0),
    "sample.rho": (0.0, -7.0),
    "sample.stop": ("nowhere",),
    "sample.method": ("residuals",),
    "sample.batch": (0,),
    "sample.shard_size": (0,),
    "restore.method": ("", "mmpss"),
    "restore.sampler": ("hein",),
    "restore.draws": (1, -1),
    "restore.count": (-1,),
    "restore.level": (0.0, 1.0, 2.0),
    "restore.sigma_y": (-0.1,),
    "restore.sigma_min": (0.0, 500.0),
    "restore.rho": (0.0,),
    "restore.settings.mmps.steps": (1, 0),
    "restore.tile.overlap": (-1, 100),
    "restore.priors": (("nobody",), ("cascade",)),
    "restore.operator.name": ("dusk",),
    "restore.input": ("held_in", "folder:/nowhere"),
}
METHODS = ("views_only", "residual", "clean_only", "finetune", "cascade", "shared", "completed")


def drawn(rng, values):
    """The usual value, or one of all."""
    return values[0] if rng.random() < 0.8 else rng.choice(values)


def put(config, path, value):
    """Set a dotted path, where the config has it."""
    *parents, key = path.split(".")
    place = checks.get(config, ".".join(parents))
    if key in place:
        with place.ignore_type():
            place[key] = value


def random_view(rng):
    """A view of a random operator and method; many pairs do not fit, and must be refused."""
    name = rng.choice(sorted(OPERATORS))
    spec = {"name": name} | {key: drawn(rng, values) for key, values in OPERATORS[name].items()}
    method = rng.choice(checks.VIEW_METHODS)
    if rng.random() < 0.7:  # a pair that fits
        method, spec = rng.choice(
            (
                ("denoising", {"name": "avg_pool", "factor": 2}),
                ("shared", {"name": "crop", "top": 0, "left": 0, "height": 4, "width": 8}),
                ("ambient", {"name": "pixel_mask", "p": 0.5}),
                ("tweedie", {"name": "identity"}),
                ("em", {"name": "pixel_mask", "p": 0.5}),
                ("naive", {"name": "gaussian_blur", "std": 1.0}),
                ("omni", {"name": "identity"}),
            )
        )
    noisy = rng.random() < (0.9 if method == "tweedie" else 0.06)
    view = default.view(
        {k: v for k, v in spec.items() if v is not None}, rng.choice((10, 0.3)), method, 0.3 * noisy
    )
    view.with_clean = rng.random() < 0.1
    view.masks = rng.choice((2, 0))
    view.weighting = drawn(rng, ("exact", "unit"))
    view.consistency.weight = drawn(rng, (0.0, 1.0))
    view.consistency.update(steps=2)
    view.em.update(laps=rng.choice((1, 2)), gaussian_laps=1, rank=4, examples=4, batch=4, steps=2, cg_steps=1)
    if method == "omni" and rng.random() < 0.8:
        view.sigma_min = rng.choice((0.1, 0.1, -1.0))
    if rng.random() < (0.4 if method in ("omni", "naive") else 0.02):
        view.damage = ConfigDict(rng.choice(DAMAGES))
    if rng.random() < (0.3 if method == "naive" else 0.02):
        view.restored_by = "wavelet"
        view.wavelet.steps = 2
    return view


def random_config(number):
    """The config of this number: the same always."""
    rng = random.Random(number)
    config = default.get_config()
    config.data.source, config.data.held_out = "sklearn_digits", 4
    if rng.random() < 0.7:
        config.network = ConfigDict({"name": "mlp", "width": 4, "blocks": 1, "dropout": 0.0})
    else:
        config.network.update(channels=4, channel_mults=rng.choice(((1,), (1, 1))), patch=rng.choice((1, 2)))
        config.network.update({key: drawn(rng, values) for key, values in UNET.items()})
    config.train.steps = 2
    config.classifier.train.steps = 2
    for path, values in KEYS.items():
        put(config, path, drawn(rng, values))
    for part in (config.shared, config.completed):
        part.em.update(laps=min(part.em.laps, 2), examples=4, batch=4, steps=2, cg_steps=1)
    for name in "abc"[: rng.choice((0, 1, 1, 1, 1, 2))]:
        config.views[name] = random_view(rng)
    methods = [m for m in METHODS if rng.random() < 0.02 or _fits(m, config)]
    config.methods = tuple(rng.sample(methods, min(len(methods), rng.choice((0, 1, 1, 1, 2)))))
    if not len(config.views) and rng.random() < 0.9:
        config.methods = ("clean_only",)
    if rng.random() < 0.75:
        path = rng.choice(sorted(STRANGE))
        put(config, path, rng.choice(STRANGE[path]))
    return config


def _fits(method, config):
    """Whether there is a view that the method is for."""
    learnt = {view.method for view in config.views.values()}
    return {"shared": "shared" in learnt, "cascade": "denoising" in learnt}.get(method, True)


def attempt(config, workdir):
    """'ran'; 'refused' before a step was compiled or 'stopped' by what training showed; else a crash."""
    stepped = []
    made = loop.make_train_step

    def counted(*arguments, **settings):
        stepped.append(1)
        return made(*arguments, **settings)

    loop.make_train_step = counted
    console = Console(file=open(workdir / "log.txt", "w"))  # noqa: SIM115 (as long as the process)
    try:
        check_names(config)
        data = load_data(config, console)
        plan = make_plan(config, data.image_shape, data.operators, data.noise)
        restoration = make_restore_plan(config, plan)
        if restoration.input in INPUTS:
            build_operators(restoration, plan.image_shape)
        pipeline.train(Run(plan, config, data, workdir, console, StopRequest()))
        return "ran", f"{len(stepped)} stages"
    except checks.FoundInTraining as error:  # that a classifier tells a view from clean data, say
        return "stopped", str(error)
    except ValueError as error:
        if stepped or not str(error).startswith("config."):  # too late, or it does not say where
            return "crashed", "".join(traceback.format_exception(error)[-4:])
        return "refused", str(error)
    except loop.NonFiniteLoss as error:  # a learning rate of 10,000
        return "stopped", str(error)
    finally:
        loop.make_train_step = made
        console.file.close()


def main(first, count, folder):
    """Print what becomes of each config."""
    for option, value in {
        "jax_disable_most_optimizations": True,  # compiling is nearly all of the time
        "jax_compilation_cache_dir": str(folder / "compiled"),
        "jax_persistent_cache_min_compile_time_secs": 0.1,
    }.items():
        jax.config.update(option, value)
    for number in range(first, first + count):
        began, workdir = time.monotonic(), folder / str(number)
        workdir.mkdir(parents=True)
        try:
            outcome, reason = attempt(random_config(number), workdir)
        except Exception as error:  # what must not happen; the test shows it
            outcome, reason = "crashed", "".join(traceback.format_exception(error)[-4:])
        shutil.rmtree(workdir)
        seconds = round(time.monotonic() - began, 2)
        line = {"number": number, "outcome": outcome, "reason": reason, "seconds": seconds}
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
