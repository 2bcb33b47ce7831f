"""What `launch.py` runs: one mode of one experiment, with errors a person can act on."""

import json
import logging
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
from absl import logging as absl_logging
from ml_collections import ConfigDict
from rich.console import Console
from rich.logging import RichHandler

from jaxdiff.experiment import compare, crosstable, dry_run, theory, toy, worth
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.cells import CellFailed
from jaxdiff.experiment.checks import ConfigError, check_names, choose
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.distill_results import run_distill
from jaxdiff.experiment.distilling import make_distill_plan
from jaxdiff.experiment.pipeline import train
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.restore_input import open_input
from jaxdiff.experiment.restore_plan import make_restore_plan
from jaxdiff.experiment.restore_results import run_restore
from jaxdiff.experiment.results import evaluate, finished, read_results, write_page
from jaxdiff.experiment.sampling import draw_samples, sampled_methods, write_samples
from jaxdiff.experiment.stages import Run, unfinished
from jaxdiff.experiment.streaming import stream_samples
from jaxdiff.report.terminal import print_summary
from jaxdiff.training.checkpoint import DamagedCheckpoints
from jaxdiff.training.loop import Interrupted, NonFiniteLoss, StopRequest
from jaxdiff.training.paths import is_remote, open_workdir
from jaxdiff.training.processes import is_first, start

# Keys that say how a trained run is looked at; they may change between runs of one workdir.
FREE_KEYS = ("title", "evaluate.", "sample.", "distill.", "restore.")
LOCAL_MODES = ("compare", "worth", "crosstable", "distill", "restore")
INTERRUPTED = 75  # EX_TEMPFAIL: run the same command again


def main(
    config: ConfigDict,
    config_name: str,
    workdir: str | None,
    mode: str,
    distributed: str,
    command_line: list[str],
    dry: bool = False,
) -> int:
    """Run `mode`, or say what it would do (`dry`).

    Returns the exit code: 0 done, 2 wrong input, 75 stopped on request with everything saved.
    """
    console = Console()
    # absl (and with it Orbax and JAX) logs every detail at INFO; a person at a terminal wants warnings only.
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = RichHandler(console=console, show_path=False, show_time=False)
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)
    workdir_path = open_workdir(workdir or Path("runs") / default_name(config_name))
    try:
        check_names(config)
        prepare_jax(distributed)
        console.quiet = not is_first()
        check_reach(mode, workdir_path)
        if dry:
            return dry_run.run(config, config_name, workdir_path, mode, console)
        if mode == "worth":
            return worth.run(config, config_name, workdir_path, console, command_line)
        if mode == "crosstable":
            return crosstable.run(config, config_name, workdir_path, console, command_line)
        if mode == "compare":
            return compare.run(config, config_name, workdir_path, console, command_line)
        if config.task == "gaussian_toy":
            return toy.run(config, workdir_path, console, command_line)
        if config.task == "gaussian_theory":
            return theory.run(config, workdir_path, console, command_line)
        return run_images(config, workdir_path, mode, console, command_line)
    except (ConfigError, FileNotFoundError, PermissionError, DamagedCheckpoints, ValueError) as error:
        if os.environ.get("JAXDIFF_TRACEBACK"):
            raise
        print(f"error: {error}", file=sys.stderr)
        return 2
    except (NonFiniteLoss, CellFailed) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except Interrupted as stopped:
        console.print(f"{stopped}. Run the same command again to go on.", highlight=False)
        return INTERRUPTED
    except KeyboardInterrupt:
        console.print("Interrupted. What is saved stays; run the same command again to go on.")
        return 130


def default_name(config_name: str) -> str:
    """configs/digits_residual.py:tiny -> digits_residual-tiny."""
    file, _, variant = config_name.partition(":")
    return Path(file).stem + (f"-{variant}" if variant else "")


def prepare_jax(distributed: str) -> None:
    """Processes, and the persistent compile cache ($JAXDIFF_CACHE, default ~/.cache/jaxdiff)."""
    start(distributed)
    cache = Path(os.environ.get("JAXDIFF_CACHE", Path.home() / ".cache" / "jaxdiff")) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def check_reach(mode: str, workdir: Path) -> None:
    """Modes that start processes of their own, or hand over a directory, need one process and a local workdir.

    Raises:
      ConfigError: says what is in the way.
    """
    if mode not in LOCAL_MODES:
        return
    if jax.process_count() > 1:
        raise ConfigError(
            f"--mode={mode} runs in one process, not in {jax.process_count()}: --distributed=off"
        )
    if is_remote(workdir):
        raise ConfigError(
            f"--mode={mode} needs a local --workdir, got {workdir}; copy what it makes afterwards"
        )


def flat(config: Mapping, prefix: str = "") -> dict[str, Any]:
    """Dotted keys to values."""
    found = {}
    for key, value in config.items():
        if isinstance(value, Mapping):
            found.update(flat(value, f"{prefix}{key}."))
        else:
            found[f"{prefix}{key}"] = list(value) if isinstance(value, tuple) else value
    return found


def check_same_config(config: ConfigDict, workdir: Path) -> None:
    """The workdir's stages belong to the config that started them.

    Raises:
      ConfigError: the config differs in a key that the stages depend on; every difference is listed.
    """
    path, now = workdir / "config.json", flat(config.to_dict())
    if not path.exists():
        return
    before = json.loads(path.read_text())
    changed = [
        k for k in sorted({*before, *now}) if before.get(k) != now.get(k) and not k.startswith(FREE_KEYS)
    ]
    if changed:
        lines = [f"  config.{key}: {before.get(key)!r} -> {now.get(key)!r}" for key in changed]
        raise ConfigError(
            f"{workdir} holds a run of another config:\n" + "\n".join(lines[:20]) + "\nUse another --workdir "
            f"(such as --workdir={workdir}-2), or remove {workdir} to start again"
        )


def claim(config: ConfigDict, workdir: Path) -> None:
    """Write the config into a workdir that has none; only once data and plan are sound, so that a run which
    could not start (missing data, say) does not stand in the way of the corrected one."""
    path = workdir / "config.json"
    if not path.exists():
        text = json.dumps(flat(config.to_dict()), indent=1)
        write_atomically(path, lambda temporary: temporary.write_text(text))


def run_images(
    config: ConfigDict, workdir: Path, mode: str, console: Console, command_line: list[str]
) -> int:
    """The modes of an experiment on images."""
    check_same_config(config, workdir)
    results = finished(workdir, config)
    if results is not None and mode in ("all", "evaluate"):
        console.print(f"All stages of {workdir} are done.", highlight=False)
        print_summary(results, workdir / "report.html", console)
        return 0
    if mode == "report":
        results, arrays = read_results(workdir)
        console.print(f"report: {write_page(results, arrays, workdir)}", highlight=False)
        return 0
    data = load_data(config, console)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    run = Run(plan, config, data, workdir, console, StopRequest())
    distilled = make_distill_plan(config, plan, workdir) if mode == "distill" else None
    restoration = make_restore_plan(config, plan) if mode == "restore" else None
    if mode in ("sample", "evaluate", "distill", "restore") and (missing := unfinished(run)):
        raise ConfigError(f"{workdir}: not trained yet: {', '.join(missing)}; run with --mode=train first")
    claim(config, workdir)
    if restoration is not None:
        given = open_input(config, plan, data, restoration)
        run_restore(run, train(run), given, restoration, command_line)
        return 0
    parts = train(run)
    if distilled is not None:
        run_distill(run, parts, distilled, command_line)
        return 0
    if mode == "sample":
        method = config.sample.method or sampled_methods(plan)[-1]
        choose("sample.method", method, sampled_methods(plan))
        settings = config.sample
        name = f"{method.replace('/', '_')}_{settings.count}_seed{settings.seed}"
        noisy = settings.stop == "noisy"
        if settings.count > settings.shard_size:
            folder = stream_samples(run, parts, method, workdir / "samples" / (name + "_noisy" * noisy))
            console.print(f"{folder}", highlight=False, soft_wrap=True)
            return 0
        images = draw_samples(plan, parts, config, method, settings.count, console, settings.stop)
        grid, arrays = write_samples(
            images,
            workdir / "samples",
            name + "_noisy" * noisy,
            sigma=settings.sigma_min if noisy else 0.0,
        )
        console.print(f"{grid}\n{arrays}", highlight=False)
        return 0
    if mode in ("all", "evaluate"):
        results, arrays = evaluate(run, parts, command_line)
        print_summary(results, write_page(results, arrays, workdir), console)
    return 0
