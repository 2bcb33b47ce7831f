"""Run an experiment: `python launch.py --config=configs/digits_residual.py`.

Flags, devices and the mode; everything else is in jaxdiff.experiment.
"""

import os
import sys

from absl import app, flags
from ml_collections import config_flags

MODES = (
    "all",
    "train",
    "sample",
    "restore",
    "memorization",
    "evaluate",
    "report",
    "distill",
    "compare",
    "worth",
    "crosstable",
)
_CONFIG = config_flags.DEFINE_config_file("config", None, "configs/NAME.py[:variant]", lock_config=True)
_WORKDIR = flags.DEFINE_string("workdir", None, "where the run is kept (default: runs/<config>)")
_MODE = flags.DEFINE_enum("mode", "all", MODES, "which part of the experiment to run")
_DRY_RUN = flags.DEFINE_bool("dry-run", False, "say what would happen; train and write nothing")

_ALLOW_CONFIG_CHANGE = flags.DEFINE_bool(
    "allow_config_change", False, "go on in a workdir that holds a run of another config"
)


class _Distributed(flags.ArgumentParser):
    """auto, on or off; also as a switch: --distributed, --nodistributed."""

    def parse(self, argument):
        words = {"true": "on", "1": "on", "false": "off", "0": "off"}
        text = words.get(str(argument).lower(), str(argument))
        if text not in ("auto", "on", "off"):
            raise ValueError("should be auto, on or off")
        return text


_SWITCH = flags.Flag(
    _Distributed(),
    flags.ArgumentSerializer(),
    "distributed",
    "auto",
    "join the other processes of the job: auto (where JAX finds a TPU pod, GKE, SLURM), on or off",
    boolean=True,
)
_DISTRIBUTED = flags.DEFINE_flag(_SWITCH)


def main(argv: list[str]) -> int:
    if len(argv) > 1:
        print(f"error: unexpected arguments: {' '.join(argv[1:])}", file=sys.stderr)
        return 2
    from jaxdiff.experiment import command

    return command.main(
        config=_CONFIG.value,
        config_name=config_flags.get_config_filename(flags.FLAGS["config"]),
        workdir=_WORKDIR.value,
        mode=_MODE.value,
        distributed=_DISTRIBUTED.value,
        command_line=["python", *sys.argv],
        dry=_DRY_RUN.value,
        allow_config_change=_ALLOW_CONFIG_CHANGE.value,
    )


def parse(argv: list[str]) -> list[str]:
    """Flags as absl reads them; a wrong one is one message that says what would be right, and no traceback."""
    from jaxdiff.experiment.overrides import explain

    try:
        rest = flags.FLAGS(argv)
        # A config file that could not be loaded raises only when it is looked at.
        getattr(_CONFIG.value, "task", None)
        return rest
    except (flags.Error, KeyError, AttributeError, TypeError, ValueError, OSError) as error:
        print(f"error: {explain(error, argv)}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    # XLA prints machine-feature notes about its own compile cache at the default level.
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    flags.mark_flag_as_required("config")
    app.run(main, flags_parser=parse)
