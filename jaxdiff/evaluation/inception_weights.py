"""The weights of the FID Inception network: what must be in their file, where to get them, reading.

Arrays are named as in Flax, 'params/Mixed_5b/branch1x1/conv/kernel'. `inception_convert` makes the file out of a
public one.
"""

from functools import cache
from pathlib import Path
from typing import NamedTuple

import flax
import jax
import jax.numpy as jnp

from jaxdiff.evaluation.inception_network import InceptionV3
from jaxdiff.evaluation.weight_file import digest, read_weights

NETWORK = "FID Inception"
TORCH_FILE = "pt_inception-2015-12-05-6726825d.pth"
TENSORFLOW_FILE = "classify_image_graph_def.pb"
HOW_TO_GET = (
    f"download {TORCH_FILE} (release 'fid_weights' of github.com/mseitzer/pytorch-fid) or {TENSORFLOW_FILE} "
    "(in inception-2015-12-05.tgz of download.tensorflow.org), then: "
    "python -m jaxdiff.evaluation.inception convert FILE {path}"
)


class Weights(NamedTuple):
    """The variables of `InceptionV3`, and the sha256 of their names, shapes and values (not of the file)."""

    variables: dict
    sha256: str


@cache
def expected_shapes() -> dict[str, tuple[int, ...]]:
    """Shape of each of the 472 arrays of the network, by its name in Flax: 'collection/layer/.../array'."""
    variables = jax.eval_shape(InceptionV3().init, jax.random.key(0), jnp.zeros((1, 75, 75, 3)))
    flat = flax.traverse_util.flatten_dict(variables, sep="/")
    return {name: leaf.shape for name, leaf in sorted(flat.items())}


def load_weights(path: str | Path) -> Weights:
    """The weights in a converted file.

    Raises:
        FileNotFoundError, ValueError: as `weight_file.read_weights`.
    """
    arrays = read_weights(path, expected_shapes(), NETWORK, HOW_TO_GET)
    return Weights(flax.traverse_util.unflatten_dict(arrays, sep="/"), digest(arrays))
