"""Many samples, straight to disk: one file after another, each whole or not there, resumable.

    samples/NAME/request.json                    what they are samples of
    samples/NAME/shard-00000-of-00050.npz        `images`, uint8 (with stop 'noisy' float32 and `sigma`)

Process p of P makes the shards p, p + P, ... on its own devices and writes them itself: no process waits for another.
An image is a function of (seed, its number), so that neither the number of processes and devices nor the size of a
shard or a batch changes it (but for rounding: a value of a pixel by one at most).
"""

import hashlib
import json
import signal
import zipfile
import zlib
from pathlib import Path
from typing import Any

import jax
import numpy as np

from jaxdiff.experiment.arrays import is_there, load_arrays, write_atomically
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.sampling import make_drawer, packed, say_if_untaught
from jaxdiff.experiment.stages import Run
from jaxdiff.progress import StageProgress
from jaxdiff.report.images import save_grid
from jaxdiff.training.processes import on_this_host, wait_for_all
from jaxdiff.training.sharding import make_mesh
from jaxdiff.training.stopping import Interrupted

# Keys of config.sample that change no image.
HOW = ("batch", "shard_size", "count", "method")
BROKEN = (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error)


def fingerprint(parts: Parts) -> str:
    """Of every array that the samples depend on."""
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(parts):
        digest.update(np.asarray(leaf).tobytes())
    return digest.hexdigest()[:16]


def request(run: Run, parts: Parts, method: str) -> dict[str, Any]:
    """What request.json says; samples of another request are not mixed with these."""
    settings = run.config.sample.to_dict()
    asked = {key: value for key, value in settings.items() if key not in HOW}
    sizes = {"count": settings["count"], "shard_size": settings["shard_size"]}
    return {"method": method, "model": fingerprint(parts), **sizes, "sample": asked}


def claim(directory: Path, asked: dict[str, Any]) -> None:
    """Write request.json, or see that it is the same.

    Raises:
      ConfigError: the directory holds samples of something else.
    """
    path = directory / "request.json"
    if not is_there(path):
        text = json.dumps(asked, indent=1)
        write_atomically(path, lambda temporary: temporary.write_text(text))
        wait_for_all(f"{path} is written")
        return
    before, now = json.loads(path.read_text()), json.loads(json.dumps(asked))
    changed = [key for key in now if before.get(key) != now[key]]
    if changed:
        raise ConfigError(
            f"{directory} holds samples of another {' and '.join(changed)}; set config.sample.seed to another number, "
            "or remove the directory"
        )


def shard_path(directory: Path, number: int, count: int) -> Path:
    """Of shard `number` of `count`."""
    return directory / f"shard-{number:05d}-of-{count:05d}.npz"


def is_whole(path: Path, length: int) -> bool:
    """Whether a shard is there with all its images; reading them checks the file's own checksums."""
    try:
        return path.exists() and len(load_arrays(path)["images"]) == length
    except BROKEN:
        return False


def stream_samples(run: Run, parts: Parts, method: str, directory: Path) -> Path:
    """Draw `config.sample.count` images of a method into shards below `directory`; those that are whole are kept.

    Raises:
      ConfigError: the directory holds samples of other settings or of another model.
      Interrupted: stopped on request; what is written stays.
    """
    settings, parts = run.config.sample, on_this_host(parts)
    claim(directory, request(run, parts, method))
    say_if_untaught(run.plan, parts, run.config, method, run.console)
    size, count = settings.shard_size, settings.count
    total = -(-count // size)
    mine = range(jax.process_index(), total, jax.process_count())
    mesh = make_mesh(jax.local_devices())
    draw = make_drawer(run.plan, run.config, method, mesh, size, settings.stop)
    progress = StageProgress(f"sample {method}", len(mine), per_step=size, unit="images", console=run.console)
    with run.stop.listening(alone=True), progress as bar:
        for done, number in enumerate(mine, start=1):
            first, last = number * size, min((number + 1) * size, count)
            path = shard_path(directory, number, total)
            if not is_whole(path, last - first):
                batches = []
                for images in draw(parts, first, last):
                    batches.append(images)
                    if run.stop:
                        name = signal.Signals(run.stop.signal).name
                        raise Interrupted(
                            f"{name}: {number} of {total} shards of {directory} are looked through"
                        )
                _write(path, np.concatenate(batches), settings, directory if number == 0 else None)
            bar.update(done)
    wait_for_all(f"{directory} is complete")
    return directory


def _write(path: Path, images: np.ndarray, settings: Any, pictured: Path | None) -> None:
    """A shard; with `pictured` a grid of its first images beside it."""
    kept = packed(images, settings.sigma_min if settings.stop == "noisy" else 0.0)
    write_atomically(path, lambda temporary: np.savez_compressed(temporary, **kept), everywhere=True)
    if pictured is not None:
        write_atomically(pictured / "first.png", lambda temporary: save_grid(temporary, images[:100], 10))
