"""Speed of the networks on this machine, one JSON line for each case.

    python benchmarks/networks.py                       # the table of docs/networks.md
    python benchmarks/networks.py --case=digits --rounds=5

A training step is a denoising loss, its gradient and Adam, jitted, with donated state; a sampling step is
one evaluation without gradient. All cases of a group run in turn (A B C A B C ...), `--rounds` times, and
each reports its cheapest round. `_per_s` is by the clock, with all cores; `_per_core_s` is by the processor
time of all threads, which other work on the machine disturbs much less.
"""

import argparse
import json
import os
import platform
import time
from functools import partial

import jax
import jax.numpy as jnp
import optax

from jaxdiff.networks import build_network, init_key

BATCH = 128
STEPS = 8

CASES = {
    "digits": {
        "plain": ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2)}),
        "plain, 16 channels": ((16, 16, 1), {"channels": 16, "channel_mults": (1, 2, 4)}),
        "patch 2": ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2}),
        "patch 2, 48 channels": ((16, 16, 1), {"channels": 48, "channel_mults": (1, 2), "patch": 2}),
        "patch 2, 64 channels": ((16, 16, 1), {"channels": 64, "channel_mults": (1, 2), "patch": 2}),
        "patch 4, 64 channels": ((16, 16, 1), {"channels": 64, "channel_mults": (1, 2), "patch": 4}),
    },
    "norm": {
        norm: ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2, "norm": norm})
        for norm in ("group", "rms", "none")
    },
    "parts": {
        "patch 2": ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2}),
        "attention at 4x4": (
            (16, 16, 1),
            {"channels": 32, "channel_mults": (1, 2), "patch": 2, "attention": (1,)},
        ),
        "dropout": ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2, "dropout": 0.1}),
        "bfloat16": ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2, "dtype": "bfloat16"}),
        "two blocks": ((16, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2, "blocks": 2}),
    },
    "views": {
        "8x8": ((8, 8, 1), {"channels": 32, "channel_mults": (1, 2)}),
        "8x8, patch 2": ((8, 8, 1), {"channels": 64, "channel_mults": (1, 2), "patch": 2}),
        "8x16": ((8, 16, 1), {"channels": 32, "channel_mults": (1, 2), "patch": 2}),
    },
    "28x28x1": {
        "plain": ((28, 28, 1), {"channels": 32, "channel_mults": (1, 2, 2)}),
        "patch 2": ((28, 28, 1), {"channels": 32, "channel_mults": (1, 2, 2), "patch": 2}),
        "patch 4": ((28, 28, 1), {"channels": 64, "channel_mults": (1, 2), "patch": 4}),
    },
    "32x32x3": {
        "plain": ((32, 32, 3), {"channels": 32, "channel_mults": (1, 2, 2)}),
        "patch 2": ((32, 32, 3), {"channels": 32, "channel_mults": (1, 2, 2), "patch": 2}),
        "patch 4": ((32, 32, 3), {"channels": 64, "channel_mults": (1, 2), "patch": 4}),
    },
}


def clocks():
    """Now, by the clock on the wall and in processor time of all threads of this process."""
    return {"s": time.perf_counter(), "core_s": time.process_time()}


def train_step(network, optimizer, state, batch):
    """One step of Adam on the denoising error; state is (params, optimizer state, key)."""
    params, opt_state, key = state
    key, key_sigma, key_noise, key_dropout = jax.random.split(key, 4)
    c_noise = 0.3 * jax.random.normal(key_sigma, (batch.shape[0],)) - 0.3
    noisy = batch + jnp.exp(4 * c_noise)[:, None, None, None] * jax.random.normal(key_noise, batch.shape)

    def loss(params):
        out = network.apply({"params": params}, noisy, c_noise, train=True, rngs={"dropout": key_dropout})
        return jnp.mean((out - batch) ** 2)

    value, gradient = jax.value_and_grad(loss)(params)
    updates, opt_state = optimizer.update(gradient, opt_state, params)
    return (optax.apply_updates(params, updates), opt_state, key), value


class Case:
    """One network, compiled; `dispatch` is 'step' (one step a call), 'scan' or 'unrolled' (STEPS of them)."""

    def __init__(self, name, shape, args, dispatch="step"):
        self.name, self.shape, self.args, self.dispatch = name, shape, args, dispatch
        network = build_network("unet", out_channels=shape[-1], **args)
        optimizer = optax.adam(1e-3)
        x = jax.random.normal(jax.random.key(0), (BATCH, *shape))
        params = jax.jit(network.init)(init_key(jax.random.key(1)), x, jnp.zeros(BATCH))["params"]
        self.parameters = sum(leaf.size for leaf in jax.tree.leaves(params))
        step = partial(train_step, network, optimizer)
        self.steps_per_call = 1 if dispatch == "step" else STEPS
        if dispatch == "step":
            many, self.batch = step, x
        else:
            many = partial(jax.lax.scan, step, unroll=STEPS if dispatch == "unrolled" else 1)
            self.batch = jnp.stack([x] * STEPS)
        self.state = (params, optimizer.init(params), jax.random.key(2))
        start = clocks()
        self.train = jax.jit(many, donate_argnums=0).lower(self.state, self.batch).compile()
        self.compile = {clock: end - start[clock] for clock, end in clocks().items()}
        apply = jax.jit(lambda params, x, c: network.apply({"params": params}, x, c))
        self.sample = apply.lower(params, x, jnp.zeros(BATCH)).compile()
        self.mflop = self.sample.cost_analysis().get("flops", float("nan")) / BATCH / 1e6
        self.x, self.fastest = x, {}

    def round(self):
        """Times 8 training steps and 8 evaluations."""
        start = clocks()
        for _ in range(STEPS // self.steps_per_call):
            self.state, value = self.train(self.state, self.batch)
        jax.block_until_ready(value)
        self._keep("train", start)
        params, c_noise = self.state[0], jnp.zeros(BATCH)
        start = clocks()
        for _ in range(STEPS):
            out = self.sample(params, self.x, c_noise)
        jax.block_until_ready(out)
        self._keep("sample", start)

    def _keep(self, kind, start):
        for clock, end in clocks().items():
            rate = round(BATCH * STEPS / (end - start[clock]))
            name = f"{kind}_images_per_{clock}"
            self.fastest[name] = max(self.fastest.get(name, 0), rate)

    def result(self, group):
        """The case as a dictionary for JSON."""
        return {
            "group": group,
            "case": self.name,
            "shape": self.shape,
            "dispatch": self.dispatch,
            "args": self.args,
            "parameters": self.parameters,
            "forward_mflop": round(self.mflop, 2),
            **self.fastest,
            **{f"compile_{clock}": round(seconds, 1) for clock, seconds in self.compile.items()},
        }


def machine():
    """What the figures depend on."""
    return {
        "machine": platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "device": jax.devices()[0].device_kind,
        "jax": jax.__version__,
        "batch": BATCH,
    }


def main():
    """Prints the machine, then one line for each case of the chosen groups."""
    groups = [*CASES, "dispatch"]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", choices=groups, nargs="*", default=groups, help="which groups to run")
    parser.add_argument("--rounds", type=int, default=4, help="how many times each case is timed")
    options = parser.parse_args()
    print(json.dumps(machine()), flush=True)
    for group in options.case:
        if group == "dispatch":
            args = {"channels": 32, "channel_mults": (1, 2), "patch": 2}
            cases = [Case(kind, (16, 16, 1), args, kind) for kind in ("step", "scan", "unrolled")]
        else:
            cases = [Case(name, shape, args) for name, (shape, args) in CASES[group].items()]
        for case in cases:
            case.round()
        for _ in range(options.rounds):
            for case in cases:
                case.round()
        for case in cases:
            print(json.dumps(case.result(group)), flush=True)


if __name__ == "__main__":
    main()
