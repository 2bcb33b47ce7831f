"""The same work by this project and by two others, in turn: images/s, GFLOP/s, memory, and ratios. Lines of JSON.

    pip install -e ".[bench]"            # torch (its CPU build is enough), diffusers, azula
    python benchmarks/peers.py --rounds=12

Everybody trains on the same images of 32 x 32 x 3 with EDM's loss, Adam and a moving average, batch 16, float32, and
draws with 18 steps of Heun (35 evaluations), on the same `--threads` cores. Each is a process of its own that stays
alive and works only when told to, so that thread pools do not meet; a round asks all of them in turn, A B C D A B C D.
Each peer is there with the channels last in memory and with the channels first: which is faster depends on the machine.
Figures are medians over rounds; a ratio compares GFLOP/s, since the networks differ a little in size.
"""

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

SHAPE, BATCH, SAMPLING_STEPS = (32, 32, 3), 16, 18
OURS = {
    "jaxdiff, patches of 2": {"channels": 128, "channel_mults": [1, 2], "patch": 2},
    "jaxdiff, no patches": {"channels": 64, "channel_mults": [1, 1, 3], "patch": 1},
}
PEERS = tuple(f"{who}, channels {order}" for who in ("diffusers", "azula") for order in ("last", "first"))
WORK = ("training", "sampling")


def our_work(name: str) -> dict:
    """Training and sampling by this project, a `timing.Work` each."""
    import sample
    import train_step

    options = argparse.Namespace(
        network=OURS[name], shape=SHAPE, batch=BATCH, dtype="float32", steps=1, sampler="heun"
    )
    options.sampling_steps = SAMPLING_STEPS
    return {"training": train_step.training(options), "sampling": sample.sampling(options)}


def serve(name: str, threads: int) -> None:
    """The other end of `Worker`: says what a run costs, then answers 'WORK RUNS' with the seconds of each run."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    from timing import peak_memory_mb, seconds_of

    if name in OURS:
        work = our_work(name)
    else:
        from peers_torch import their_work

        work = their_work(name, SHAPE, BATCH, SAMPLING_STEPS, threads)
    for one in work.values():
        one.run()
    hello = {kind: {"flops": one.flops, "images": one.images, **one.details} for kind, one in work.items()}
    print(json.dumps(hello), flush=True)
    for line in sys.stdin:
        kind, runs = line.split()
        answer = {"seconds": seconds_of(work[kind].run, int(runs)), "peak_memory_mb": peak_memory_mb()}
        print(json.dumps(answer), flush=True)


class Worker:
    """A process that works when told to."""

    def __init__(self, name: str, threads: int):
        command = [sys.executable, str(Path(__file__).resolve()), f"--serve={name}", f"--threads={threads}"]
        pipe, limit = subprocess.PIPE, str(threads)
        environment = {**os.environ, "OMP_NUM_THREADS": limit, "TF_CPP_MIN_LOG_LEVEL": "2"}
        self.process = subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=environment)
        self.costs = self._answer()
        self.seconds, self.memory = {kind: [] for kind in WORK}, 0.0

    def _answer(self) -> dict:
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args}: ended with code {self.process.wait()}")
        return json.loads(line)

    def work(self, kind: str, runs: int) -> None:
        """Do `kind` so many times; what it took is kept in `seconds`."""
        print(kind, runs, file=self.process.stdin, flush=True)
        answer = self._answer()
        self.seconds[kind] += answer["seconds"]
        self.memory = answer["peak_memory_mb"]

    def figures(self, kind: str) -> dict:
        """Rates of one kind of work."""
        cost, median = self.costs[kind], float(np.median(self.seconds[kind]))
        slow = float(np.percentile(self.seconds[kind], 90))
        return {
            "forward_mflop": round(cost["forward_flops"] / 1e6, 1),
            "parameters": cost["parameters"],
            "images_per_s": round(cost["images"] / median, 2),
            "images_per_s_p10": round(cost["images"] / slow, 2),
            "gflop_per_s": round(cost["flops"] / median / 1e9, 1),
            "peak_memory_mb": self.memory,
        }


def main() -> None:
    """Print the machine, every worker's figures, and the ratios to the best peer."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=10, help="how often each is asked")
    parser.add_argument("--runs", type=int, default=3, help="training steps of one round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--only", nargs="*", default=[*OURS, *PEERS], choices=[*OURS, *PEERS])
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        return serve(options.serve, options.threads)
    workers = {name: Worker(name, options.threads) for name in options.only}
    for _ in range(options.rounds):
        for kind, runs in (("training", options.runs), ("sampling", 1)):
            for worker in workers.values():
                worker.work(kind, runs)
    from timing import machine

    print(json.dumps({**machine(), "threads": options.threads, "batch": BATCH, "shape": SHAPE}))
    figures = {name: {kind: worker.figures(kind) for kind in WORK} for name, worker in workers.items()}
    for name, kinds in figures.items():
        for kind, row in kinds.items():
            print(json.dumps({"who": name, "what": kind, **row}))
    print(json.dumps({"ratios of GFLOP/s to the best peer": ratios(figures)}))
    for worker in workers.values():
        worker.process.stdin.close()
        worker.process.wait()


def ratios(figures: dict) -> dict:
    """Of each of our networks to the better of the peers, by kind of work; empty without peers."""
    peers = [name for name in figures if name in PEERS]
    found = {}
    for name in (name for name in figures if name in OURS and peers):
        best = {kind: max(figures[peer][kind]["gflop_per_s"] for peer in peers) for kind in WORK}
        found[name] = {kind: round(figures[name][kind]["gflop_per_s"] / best[kind], 2) for kind in WORK}
    return found


if __name__ == "__main__":
    main()
