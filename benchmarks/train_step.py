"""Speed of one training step: the project's own step, EDM's loss, Adam, a moving average. One line of JSON.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --network='{"channels": 128, "channel_mults": [1, 2], "patch": 2}' --batch=64
    python benchmarks/train_step.py --network='{"name": "ddpmpp"}' --dtype=bfloat16 --batch=512 --steps=16   # EDM's

GFLOP/s count three forward passes for a step: forward, and a gradient of twice its cost.
"""

import argparse
import json

import jax
import jax.numpy as jnp
import timing

from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.methods import denoising
from jaxdiff.operators.measurement import Measurement
from jaxdiff.training.sharding import batch_sharding, global_batch, make_mesh
from jaxdiff.training.state import OptimizerSettings, init_state, make_optimizer
from jaxdiff.training.step import make_train_step

NETWORK = {"channels": 128, "channel_mults": (1, 2), "patch": 2}


def training(options: argparse.Namespace) -> timing.Work:
    """Steps of training on the same batch over and over; `options.steps` of them in one call into the device."""
    network, mesh = timing.asked_network(options), make_mesh()
    method = denoising(network, NoiseDistribution(-1.2, 1.2), 0.5)
    optimizer = make_optimizer(OptimizerSettings(lr=1e-4, decay="constant", clip=0.0))
    y = timing.images(options.batch, options.shape)
    batch = Measurement(y, None, jnp.zeros(options.batch))
    state = jax.jit(lambda: init_state(method.init(jax.random.key(0), batch), optimizer))()
    step = make_train_step(
        lambda frozen: method, optimizer, mesh, jax.eval_shape(lambda: state), options.batch, 50_000.0, 0.05
    )
    stacked = jax.tree.map(lambda leaf: jnp.stack([leaf] * options.steps), batch)
    stacked, key = global_batch(stacked, batch_sharding(mesh, 1)), jax.random.key(1)
    costs = timing.forward_costs(network, state.params, options.shape, options.batch)
    program, compile_seconds = timing.compiled(step, state, stacked, None, key)
    carried = {"state": state}

    def run():
        carried["state"], metrics = program(carried["state"], stacked, None, key)
        jax.block_until_ready(metrics)

    done = options.batch * options.steps
    details = {"what": "training", "network": options.network, **costs}
    return timing.Work(run, done, 3 * costs["forward_flops"] * done, compile_seconds, details)


def main() -> None:
    """Print the figures."""
    parser = timing.parser(__doc__.splitlines()[0], NETWORK, (32, 32, 3), 16)
    parser.add_argument("--steps", type=int, default=1, help="steps in one call into the device")
    options = parser.parse_args()
    print(json.dumps(timing.report(training(options), options)), flush=True)


if __name__ == "__main__":
    main()
