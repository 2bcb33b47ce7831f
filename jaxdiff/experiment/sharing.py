"""View models that several runs have in common, trained once.

A stage may be shared where all that it depends on is the same: data, seed, network, budget, the tuning images that stop
it. Its directory is named by a hash of these.
"""

import fcntl
import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaxdiff.experiment.data import ExperimentData
from jaxdiff.experiment.plan import Plan
from jaxdiff.files import is_remote
from jaxdiff.training.processes import is_first

# What these learn depends on their own measurements and on the tuning images alone.
SHAREABLE = ("denoising", "ambient", "tweedie", "gsure", "naive")
DATA_KEYS = ("source", "split", "image_size", "channels", "resize", "center_crop", "limit", "flip", "coils")


def shared_stages(config: Any, plan: Plan, data: ExperimentData, root: Path) -> dict[str, Path]:
    """Directories under `root` for the view stages that another run with the same data and settings can use."""
    found = {}
    for view in plan.views:
        if view.method not in SHAREABLE or view.with_clean or config.views[view.name].source:
            continue
        depends = {
            "data": {key: config.data[key] for key in DATA_KEYS},
            "rows": [data.digests.get(part) for part in (f"view/{view.name}", "tuning")],
            "view": config.views[view.name].to_dict(),
            "stage": repr(view.stage),
            "bands": config.bands.to_dict(),
            "seed": config.seed,
        }
        text = json.dumps(depends, sort_keys=True, default=str)
        found[view.stage_name] = root / hashlib.sha256(text.encode()).hexdigest()[:16] / view.stage_name
    return found


@contextmanager
def alone(directory: Path) -> Iterator[None]:
    """No other run is in this block for the same directory; waits where one is.

    Of the processes of one run the first alone takes the lock. Object stores have no locks: nothing is taken there.
    """
    if is_remote(directory) or not is_first():
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    with open(directory / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
