"""One process of `python -m jaxdiff.training.distributed_check`: a small experiment, by the code of every experiment.

Trains the stages of a config, evaluates, samples, and leaves in OUT (.npz) the numbers that must not depend on how many
processes there are. Run by that command, in as many processes as it asks for.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxdiff.composition import band_edges
from jaxdiff.experiment import command, learners
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.checks import check_names
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.overrides import load_config
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.pipeline import train
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.results import held_out_errors
from jaxdiff.experiment.sampling import draw_samples
from jaxdiff.experiment.stages import Run
from jaxdiff.training.metrics import read_metrics
from jaxdiff.training.processes import on_this_host
from jaxdiff.training.sharding import batch_sharding, global_batch, make_mesh
from jaxdiff.training.stopping import StopRequest

STAGE = "clean_only"


def small_config(spec: str, rule: str) -> Any:
    """The config with one stage, on the clean examples, and every array of its network split where the rule is fsdp."""
    config = load_config(spec)
    config.methods = (STAGE,)
    for name in list(config.views):
        del config.views[name]
    config.train.update(sharding=rule, fsdp_min_size=16)
    config.network.dropout = 0.1
    return config


def gradient(run: Run, parts: Parts) -> tuple[jax.Array, Any]:
    """Loss and gradient of the stage on its first batch, at the parameters that it ended with."""
    mesh, settings = make_mesh(), run.plan.stages[STAGE].settings
    with run.data.clean.batches(settings.batch, 0, 0, 1) as batches:
        batch = global_batch(next(batches), batch_sharding(mesh, 1))

    @jax.jit
    def value_and_grad(params, batch):
        loss = learners.clean_method(run.plan, STAGE, Parts(sigma_data=parts.sigma_data)).loss
        one = jax.tree.map(lambda leaf: leaf[0], batch)
        return jax.value_and_grad(lambda p: loss(p, one, jax.random.key(3))[0])(params)

    return value_and_grad(parts.params[STAGE], batch)


def measure(run: Run) -> dict[str, np.ndarray]:
    """What is compared, by name."""
    parts, bands = train(run), run.config.bands
    sigmas = band_edges(bands.sigma_min, bands.sigma_max, bands.count)
    found = {f"errors/{name}": e for name, e in held_out_errors(run, parts, sigmas).items()}
    found["samples"] = draw_samples(run.plan, parts, run.config, STAGE, run.config.sample.count)
    split = [not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(parts.params[STAGE])]
    found["split"] = np.array(sum(split))
    loss, grads = gradient(run, parts)
    found["loss of a batch"] = np.asarray(on_this_host(loss))
    for group, tree in (("gradient", grads), ("parameters", parts.params[STAGE])):
        for number, leaf in enumerate(jax.tree.leaves(on_this_host(tree))):
            found[f"{group}/{number}"] = np.asarray(leaf)
    records = [r for r in read_metrics(run.directory(STAGE) / "metrics.jsonl") if "loss" in r]
    found["losses in training"] = np.array([record["loss"] for record in records])
    found["gradient norms in training"] = np.array([record["grad_norm"] for record in records])
    return found


def main(argv: list[str]) -> int:
    """Exit code 0; what goes wrong is raised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--config", required=True)
    parser.add_argument("--rule", required=True)
    args = parser.parse_args(argv)
    command.prepare_jax("auto")
    config = small_config(args.config, args.rule)
    check_names(config)
    console = Console(quiet=True)
    data = load_data(config, console)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    found = measure(Run(plan, config, data, args.out.with_suffix(""), console, StopRequest()))
    found["processes"], found["devices"] = np.array(jax.process_count()), np.array(jax.device_count())
    write_atomically(args.out, lambda path: np.savez(path, **found))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
