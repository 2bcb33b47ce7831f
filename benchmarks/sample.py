"""Speed of sampling: the project's own sampler and denoiser, 18 steps of Heun. One line of JSON.

python benchmarks/sample.py
python benchmarks/sample.py --network='{"channels": 32, "channel_mults": [1, 2], "patch": 2}' --shape 16 16 1
"""

import argparse
import json

import jax
import jax.numpy as jnp
import timing

from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import raw_network
from jaxdiff.networks import init_key
from jaxdiff.sampling import evaluations, image_keys, sample_images

NETWORK = {"channels": 128, "channel_mults": (1, 2), "patch": 2}


def sampling(options: argparse.Namespace) -> timing.Work:
    """Batches of samples of a network with random parameters; what they show costs nothing."""
    network, shape, batch = timing.asked_network(options), tuple(options.shape), options.batch
    x, sigma = jnp.zeros((batch, *shape)), jnp.ones(batch)
    params = jax.jit(network.init)(init_key(jax.random.key(0)), x, sigma)["params"]
    grid = karras_schedule(options.sampling_steps)

    @jax.jit
    def draw(params, keys):
        return sample_images(
            precondition(raw_network(network, params), 0.5), keys, shape, grid, options.sampler
        )

    keys = image_keys(0, 0, batch)
    program, compile_seconds = timing.compiled(draw, params, keys)
    costs = timing.forward_costs(network, params, shape, batch)
    calls = int(evaluations(options.sampler, grid))
    details = {"what": "sampling", "network": options.network, "evaluations": calls, **costs}
    return timing.Work(
        lambda: jax.block_until_ready(program(params, keys)),
        batch,
        calls * costs["forward_flops"] * batch,
        compile_seconds,
        details,
    )


def main() -> None:
    """Print the figures."""
    parser = timing.parser(__doc__.splitlines()[0], NETWORK, (32, 32, 3), 16)
    parser.add_argument("--sampling_steps", type=int, default=18)
    parser.add_argument("--sampler", default="heun")
    options = parser.parse_args()
    print(json.dumps(timing.report(sampling(options), options)), flush=True)


if __name__ == "__main__":
    main()
