"""What `launch.py` runs: one mode of one experiment, with errors a person can act on."""

import logging
import os
import sys
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import jax
from absl import logging as absl_logging
from ml_collections import ConfigDict
from rich.console import Console
from rich.logging import RichHandler

from jaxdiff.experiment import compare, crosstable, dry_run, theory, toy, worth
from jaxdiff.experiment.cells import CellFailed
from jaxdiff.experiment.checks import ConfigError, check_names, choose
from jaxdiff.experiment.completing import check_law
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.distill_results import run_distill
from jaxdiff.experiment.distilling import make_distill_plan
from jaxdiff.experiment.entries import check_batches
from jaxdiff.experiment.lock import WorkdirInUse, locked_unless_read_only
from jaxdiff.experiment.memorization_plan import make_memorization_plan
from jaxdiff.experiment.memorizing import run_memorization
from jaxdiff.experiment.pipeline import train
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.restore_input import open_input
from jaxdiff.experiment.restore_plan import make_restore_plan
from jaxdiff.experiment.restore_results import run_restore
from jaxdiff.experiment.results import evaluate, finished, read_results, write_page
from jaxdiff.experiment.same_config import ALLOW, check_same_config, claim
from jaxdiff.experiment.sampling import draw_samples, sampled_methods, write_samples
from jaxdiff.experiment.stages import Run, unfinished
from jaxdiff.experiment.streaming import stream_samples
from jaxdiff.files import CannotWrite, is_remote, open_workdir, why_not_written
from jaxdiff.gpu_flags import set_gpu_flags
from jaxdiff.report.terminal import print_summary
from jaxdiff.training.checkpoint import DamagedCheckpoints
from jaxdiff.training.loop import NonFiniteLoss
from jaxdiff.training.processes import is_first, start
from jaxdiff.training.sharding import make_mesh
from jaxdiff.training.stopping import Interrupted, StopRequest

LOCAL_MODES = ("compare", "worth", "crosstable", "distill", "restore", "memorization")
OF_TRAINED = ("sample", "evaluate", "distill", "restore", "memorization")  # modes that need all stages done
# Exit codes, as of sysexits.h: docs/faults.md
CANNOT_WRITE = 74  # EX_IOERR: the disk is full or read-only
INTERRUPTED = 75  # EX_TEMPFAIL: run the same command again, now or when another run is over


def main(
    config: ConfigDict,
    config_name: str,
    workdir: str | None,
    mode: str,
    distributed: str,
    command_line: list[str],
    dry: bool = False,
    allow_config_change: bool = False,
) -> int:
    """Run `mode`, or say what it would do (`dry`); returns the exit code.

    0 done, 1 a stage or a run of a comparison failed, 2 wrong input, 74 the disk is full or read-only, 75 stopped on
    request with everything saved, or the workdir is in use.
    """
    console = Console()
    log_to(console)
    workdir_path = open_workdir(workdir or Path("runs") / default_name(config_name))
    try:
        check_names(config)
        if allow_config_change:
            os.environ[ALLOW] = "1"  # for the processes of a comparison, too
        prepare_jax(distributed)
        console.quiet = not is_first()
        check_reach(mode, workdir_path)
        if dry:
            return dry_run.run(config, config_name, workdir_path, mode, console)
        with lock_of(workdir_path):
            return run_mode(config, config_name, workdir_path, mode, console, command_line)
    except CannotWrite as error:
        print(f"error: {error}", file=sys.stderr)
        return CANNOT_WRITE
    except WorkdirInUse as error:
        print(f"error: {error}", file=sys.stderr)
        return INTERRUPTED
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
    except OSError as error:  # of whatever else writes: samples, pages
        reason = why_not_written(error)
        if reason is None or os.environ.get("JAXDIFF_TRACEBACK"):
            raise
        print(f"error: {error.filename or workdir_path}: {reason}", file=sys.stderr)
        return CANNOT_WRITE


def run_mode(
    config: ConfigDict, config_name: str, workdir: Path, mode: str, console: Console, command_line: list[str]
) -> int:
    """The mode, or what the config's task has in place of modes."""
    modes = {"worth": worth.run, "crosstable": crosstable.run, "compare": compare.run}
    if mode in modes:
        return modes[mode](config, config_name, workdir, console, command_line)
    tasks = {"gaussian_toy": toy.run, "gaussian_theory": theory.run}
    if config.task in tasks:
        return tasks[config.task](config, workdir, console, command_line)
    return run_images(config, workdir, mode, console, command_line)


def log_to(console: Console) -> None:
    """Warnings and errors, in words; what is raised as an error anyway is not told twice."""
    # absl (and with it Orbax and JAX) logs every detail at INFO; a person at a terminal wants warnings only.
    absl_logging.set_verbosity(absl_logging.WARNING)
    handler = RichHandler(console=console, show_path=False, show_time=False)
    # Orbax logs the traceback of a failed save in each of its threads, and raises it too.
    handler.addFilter(lambda record: not (record.exc_info and why_not_written(record.exc_info[1])))
    logging.basicConfig(level=logging.WARNING, format="%(message)s", handlers=[handler], force=True)

    def unraisable(arguments):
        # After a failed save TensorStore still calls back into an event loop that is gone.
        if "Event loop is closed" not in str(arguments.exc_value):
            sys.__unraisablehook__(arguments)

    sys.unraisablehook = unraisable


def default_name(config_name: str) -> str:
    """configs/digits_residual.py:tiny -> digits_residual-tiny."""
    file, _, variant = config_name.partition(":")
    return Path(file).stem + (f"-{variant}" if variant else "")


def prepare_jax(distributed: str) -> None:
    """Flags of XLA, processes, and the persistent compile cache ($JAXDIFF_CACHE, default ~/.cache/jaxdiff)."""
    set_gpu_flags()
    start(distributed)
    cache = Path(os.environ.get("JAXDIFF_CACHE", Path.home() / ".cache" / "jaxdiff")) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)


def lock_of(workdir: Path) -> AbstractContextManager:
    """The lock of a workdir; taken by the first process alone, and not in object stores, which have none."""
    return locked_unless_read_only(workdir) if is_first() and not is_remote(workdir) else nullcontext()


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


def run_images(
    config: ConfigDict, workdir: Path, mode: str, console: Console, command_line: list[str]
) -> int:
    """The modes of an experiment on images."""
    check_same_config(config, workdir)
    results = finished(workdir, config)
    if results is not None and mode in ("all", "evaluate"):
        console.print(f"All stages of {workdir} are done.", highlight=False, soft_wrap=True)
        print_summary(results, workdir / "report.html", console)
        return 0
    if mode == "report":
        results, arrays = read_results(workdir)
        console.print(f"report: {write_page(results, arrays, workdir)}", highlight=False, soft_wrap=True)
        return 0
    data = load_data(config, console)
    check_law(config, data.counts)
    plan = make_plan(config, data.image_shape, data.operators, data.noise)
    run = Run(plan, config, data, workdir, console, StopRequest())
    check_batches(plan, make_mesh(), unfinished(run))
    distilled = make_distill_plan(config, plan, workdir) if mode == "distill" else None
    restoration = make_restore_plan(config, plan) if mode == "restore" else None
    memorization = make_memorization_plan(config, plan) if mode == "memorization" else None
    if mode in OF_TRAINED and (missing := unfinished(run)):
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
    if memorization is not None:
        run_memorization(run, parts, memorization, command_line)
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
