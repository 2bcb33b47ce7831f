"""The theory in the loop: residuals on clean examples and noisy examples of mixtures, measured against exact."""

import json
import time
from pathlib import Path
from typing import Any

from rich.console import Console

from jaxdiff.evaluation import mixture_fit, residual_theory, theory_rows
from jaxdiff.evaluation.noisy_worth import Pair
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.toy import print_rows
from jaxdiff.progress import StageProgress
from jaxdiff.report.theory import write_theory_report


def measure(theory: Any, seed: int, console: Console) -> tuple[dict, list[dict]]:
    """The dial and the pairs of config.theory, with their exact curves."""
    residual_theory.check_dial(theory.rhos, theory.counts, theory.sigma, theory.width)
    for separation in theory.separations:
        mixture_fit.check(Pair(separation), theory.noise, theory.clean_share, theory.sets, theory.precision)
    total = len(theory.rhos) * (1 + len(theory.counts))
    total += len(theory.separations) * (1 + 2 * len(theory.noise))
    done = 0
    with StageProgress("theory", total, unit="points", console=console) as bar:

        def progress() -> None:
            nonlocal done
            done += 1
            bar.update(done)

        dial = residual_theory.measure_dial(
            theory.rhos,
            theory.counts,
            theory.sigma,
            theory.width,
            theory.repetitions,
            theory.samples,
            seed,
            progress,
        )
        pairs = [
            mixture_fit.measure_pair(
                Pair(separation),
                theory.noise,
                theory.clean_share,
                theory.sets,
                theory.precision,
                (seed, index),
                progress,
            )
            for index, separation in enumerate(theory.separations)
        ]
    dial |= {"curves": theory_rows.dial_curves(dial), "views_curve": theory_rows.views_curve(dial)}
    for pair in pairs:
        pair["curves"] = theory_rows.worth_curves(pair)
    return dial, pairs


def run(config: Any, workdir: Path, console: Console, command_line: list[str]) -> int:
    """Print the table, write results.json and report.html; 0 where every row is within its tolerance, else 1."""
    start = time.monotonic()
    dial, pairs = measure(config.theory, config.seed, console)
    rows = [*theory_rows.dial_rows(dial), *theory_rows.worth_rows(pairs)]
    results = {
        "title": config.title,
        "command": " ".join(command_line),
        "seed": config.seed,
        "seconds": round(time.monotonic() - start, 1),
        "rows": rows,
        "dial": dial,
        "worth": pairs,
    }
    path = workdir / "results.json"
    write_atomically(path, lambda temporary: temporary.write_text(json.dumps(results, indent=1)))
    report = write_theory_report(results, workdir / "report.html")
    print_rows(config.title, rows, console)
    console.print(f"{path}\n{report}", highlight=False)
    return 0 if all(row["ok"] for row in rows) else 1
