"""The feature network: a small classifier whose last layer but one gives the features, and its file.

features = Dense(h), h = what 3 x 3 convolutions, each followed by 2 x 2 max pooling, leave of the image
logits   = Dense(relu(features))
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import unflatten_dict

from jaxdiff.data.pixels import to_unit
from jaxdiff.evaluation.devices import split_locally
from jaxdiff.evaluation.features import FeatureExtractor
from jaxdiff.evaluation.stored import read_stored
from jaxdiff.networks.convolution import Conv

KIND = "jaxdiff classifier"
BATCH = 256  # images a call of the extractor
SMALLEST = 4  # pixels a side that are not pooled any more
INPUT = "uint8 v as v / 127.5 - 1, size as it is"


class Network(nn.Module):
    """(B, H, W, C) in [-1, 1] -> features (B, dimension), logits (B, classes)."""

    classes: int
    width: int
    dimension: int

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        channels = self.width
        while min(x.shape[1:3]) > SMALLEST:
            x = nn.relu(nn.LayerNorm()(Conv(channels)(x)))
            x = _max_pool(x)
            channels = min(2 * channels, 4 * self.width)
        x = nn.relu(nn.LayerNorm()(Conv(channels)(x)))
        features = nn.Dense(self.dimension)(x.reshape(len(x), -1))
        return features, nn.Dense(self.classes)(nn.relu(features))


def classifier_features(path: str | Path) -> FeatureExtractor:
    """The extractor `classifier_<dataset>` of a file of `classifier.train`, or the only one in a directory.

    Its `features` raise a ValueError for images of another size, number of channels or dtype than it was
    trained on: nothing is resized in silence.

    Raises:
        FileNotFoundError: no such file, or none in the directory.
        ValueError: several in the directory, or a damaged file.
    """
    path = _only_file(Path(path).expanduser())
    arrays, metadata = read_stored(path, KIND)
    if weights_digest(arrays) != metadata["weights_sha256"]:
        raise ValueError(f"{path}: damaged: the weights are not those that its metadata names")
    shape, recipe = tuple(metadata["shape"]), metadata["recipe"]
    network = Network(len(metadata["classes"]), recipe["width"], recipe["dimension"])
    params = jax.tree.map(jnp.asarray, unflatten_dict(arrays, sep="/"))
    forward = jax.jit(lambda params, x: network.apply({"params": params}, x)[0])

    def features(images: np.ndarray) -> np.ndarray:
        images = np.asarray(images)
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise ValueError(
                f"{path.name} takes uint8 images (N, {', '.join(map(str, shape))}), got {images.dtype} {images.shape}"
            )
        return np.concatenate(
            [np.empty((0, network.dimension), np.float32), *in_batches(partial(forward, params), images)]
        )

    preprocessing = {"input": INPUT, "height": shape[0], "width": shape[1], "channels": shape[2]}
    preprocessing["weights_sha256"] = metadata["weights_sha256"]
    return FeatureExtractor(f"classifier_{metadata['dataset']}", recipe["dimension"], preprocessing, features)


def in_batches(function: Callable, images: np.ndarray) -> Iterator[np.ndarray]:
    """function of every image; the last batch is filled up and cut: one shape, one compilation."""
    for start in range(0, len(images), BATCH):
        batch = to_unit(images[start : start + BATCH])
        filled = np.concatenate([batch, np.repeat(batch[-1:], BATCH - len(batch), axis=0)])
        yield np.asarray(function(split_locally(filled)))[: len(batch)]


def weights_digest(arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 over names, shapes and values of all parameters."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].shape} ".encode() + np.asarray(arrays[name], "<f4").tobytes())
    return digest.hexdigest()


def _max_pool(x: jax.Array) -> jax.Array:
    """2 x 2, as a maximum over axes: a pooling window's gradient is slow on the CPU. An odd edge is cut."""
    batch, height, width, channels = x.shape
    x = x[:, : height // 2 * 2, : width // 2 * 2]
    return x.reshape(batch, height // 2, 2, width // 2, 2, channels).max(axis=(2, 4))


def _only_file(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = sorted(path.glob("classifier_*.npz"))
    if not found:
        raise FileNotFoundError(
            f"{path}: no classifier_*.npz there; python -m jaxdiff.evaluation.classifier train SOURCE {path}"
        )
    if len(found) > 1:
        raise ValueError(f"{path}: several classifiers, name one: {', '.join(file.name for file in found)}")
    return found[0]
