"""Read the two public files that hold the weights of the FID Inception network.

`pt_inception-2015-12-05-6726825d.pth` (PyTorch, a port of the other) and `classify_image_graph_def.pb` (the frozen
TensorFlow graph, also passed on as `inception-2015-12-05.pb`). The graph is read without TensorFlow.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from google.protobuf.message import DecodeError
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.tensor_pb2 import TensorProto
from tensorboardX.proto.types_pb2 import DT_FLOAT

from jaxdiff.evaluation.inception_network import EPSILON
from jaxdiff.evaluation.inception_weights import (
    HOW_TO_GET,
    NETWORK,
    TENSORFLOW_FILE,
    expected_shapes,
)
from jaxdiff.evaluation.weight_file import (
    Arrays,
    Layout,
    Summary,
    read_torch,
    renamed,
    save_weights,
)


def convert_weights(source: str | Path, output: str | Path) -> Summary:
    """Read a public weight file, check every array, write our .npz.

    Args:
        source: a PyTorch checkpoint (.pth, .pt) or a frozen TensorFlow graph (.pb).
        output: the file to write; it must not exist.

    Returns:
        What was mapped.

    Raises:
        FileNotFoundError, FileExistsError: no `source`; something at `output`.
        ModuleNotFoundError: a PyTorch checkpoint, and PyTorch is not installed.
        ValueError: a damaged file; arrays that are missing, left over, of another shape or not finite.
    """
    source, output = Path(source).expanduser(), Path(output).expanduser()
    if not source.is_file():
        raise FileNotFoundError(f"no file {source}; {HOW_TO_GET.format(path=output)}")
    if output.exists():  # before the reading, which takes longer
        raise FileExistsError(f"{output} exists; nothing is overwritten")
    readers: dict[str, Callable[[Path], Arrays]] = {
        ".pth": _read_torch,
        ".pt": _read_torch,
        ".pb": _read_graph,
    }
    if source.suffix not in readers:
        raise ValueError(f"{source}: expected a file that ends in {', '.join(readers)}")
    return save_weights(output, readers[source.suffix](source))


def from_torch(state: Mapping[str, np.ndarray], where: str | Path = "state dict") -> Arrays:
    """Arrays named and laid out as in Flax, from a state dict named as in PyTorch.

    Convolutions turn from (out, in, h, w) to (h, w, in, out). `num_batches_tracked` is no weight and is skipped.

    Raises:
        ValueError: arrays are missing, left over, of another shape or not finite; the first of each are named.
    """
    layouts = {name: _torch_layout(name) for name in expected_shapes()}
    state = {name: value for name, value in state.items() if not name.endswith(".num_batches_tracked")}
    return renamed(where, state, layouts, expected_shapes(), NETWORK)


def from_graph(graph: GraphDef, where: str | Path = "graph") -> Arrays:
    """Arrays named as in Flax, from the constants of the frozen TensorFlow graph.

    Only constants called as weights are (.../conv2d_params, .../batchnorm/*, softmax/*) are looked at. A batch
    normalization that says it does not scale (scale_after_normalization = false) gets gamma = 1.

    Raises:
        ValueError: as `from_torch`, or the graph normalizes with another epsilon than 1e-3.
    """
    kind = re.compile(
        r"/conv2d_params$|/batchnorm/(beta|gamma|moving_mean|moving_variance)$|^softmax/(weights|biases)$"
    )
    constants = {
        node.name: _constant(where, node.name, node.attr["value"].tensor)
        for node in graph.node
        if node.op == "Const" and kind.search(node.name)
    }
    for node in graph.node:
        if node.op != "BatchNormWithGlobalNormalization":
            continue
        epsilon = node.attr["variance_epsilon"].f
        if not np.isclose(epsilon, EPSILON):
            raise ValueError(f"{where}: {node.name} has epsilon {epsilon:g}; the FID network has {EPSILON:g}")
        gamma = f"{node.name}/gamma"
        if not node.attr["scale_after_normalization"].b and gamma in constants:
            constants[gamma] = np.ones_like(constants[gamma])
    layouts = {name: _graph_layout(name) for name in expected_shapes()}
    return renamed(where, constants, layouts, expected_shapes(), NETWORK)


def _read_torch(path: Path) -> Arrays:
    return from_torch(
        read_torch(path, f", or convert {TENSORFLOW_FILE} instead, which needs nothing more"), path
    )


def _read_graph(path: Path) -> Arrays:
    graph = GraphDef()
    try:
        graph.ParseFromString(path.read_bytes())
    except DecodeError as error:
        raise ValueError(f"{path} cannot be read as a frozen TensorFlow graph: {error}") from error
    return from_graph(graph, path)


def _constant(where: str | Path, name: str, tensor: TensorProto) -> np.ndarray:
    """The array of a constant: raw little-endian bytes, or a list of which the last number is repeated."""
    shape = tuple(dim.size for dim in tensor.tensor_shape.dim)
    count = int(np.prod(shape))
    values = (
        np.frombuffer(tensor.tensor_content, "<f4")
        if tensor.tensor_content
        else np.array(tensor.float_val, np.float32)
    )
    if tensor.dtype != DT_FLOAT or not 0 < len(values) <= count:
        raise ValueError(f"{where}: {name} is not a float32 array of shape {shape}")
    return np.pad(values, (0, count - len(values)), "edge").reshape(shape)


def _torch_layout(name: str) -> Layout:
    path, array = _split(name)
    known = {
        "conv/kernel": Layout("conv.weight", (2, 3, 1, 0)),
        "bn/scale": Layout("bn.weight"),
        "bn/bias": Layout("bn.bias"),
        "bn/mean": Layout("bn.running_mean"),
        "bn/var": Layout("bn.running_var"),
        "fc/kernel": Layout("fc.weight", (1, 0)),
        "fc/bias": Layout("fc.bias"),
    }[array]
    return known._replace(name=".".join([*path, known.name]))


def _graph_layout(name: str) -> Layout:
    path, array = _split(name)
    known = {
        "conv/kernel": "conv2d_params",
        "bn/scale": "batchnorm/gamma",
        "bn/bias": "batchnorm/beta",
        "bn/mean": "batchnorm/moving_mean",
        "bn/var": "batchnorm/moving_variance",
        "fc/kernel": "softmax/weights",
        "fc/bias": "softmax/biases",
    }[array]
    return Layout("/".join([*_graph_path(path), known]))


def _split(name: str) -> tuple[list[str], str]:
    """'params/Mixed_5b/branch1x1/conv/kernel' -> (['Mixed_5b', 'branch1x1'], 'conv/kernel')."""
    path = name.split("/")[1:]
    return path[:-2], "/".join(path[-2:])


# The graph numbers convolutions, blocks and towers (branches of more than one layer) in the order of their making.
STEM = ("Conv2d_1a_3x3", "Conv2d_2a_3x3", "Conv2d_2b_3x3", "Conv2d_3b_1x1", "Conv2d_4a_3x3")
MIXED = ("5b", "5c", "5d", "6a", "6b", "6c", "6d", "6e", "7a", "7b", "7c")
TOWERS = {
    "5": ("branch5x5", "branch3x3dbl", "branch_pool"),
    "6a": ("branch3x3dbl",),
    "6": ("branch7x7", "branch7x7dbl", "branch_pool"),
    "7a": ("branch3x3", "branch7x7x3"),
    "7": ("branch3x3", "branch3x3dbl", "branch_pool"),
}


def _graph_path(path: list[str]) -> list[str]:
    """['Mixed_7b', 'branch3x3_2a'] -> ['mixed_9', 'tower', 'mixed', 'conv']."""
    if not path:
        return []  # the classifier
    if len(path) == 1:
        return [_numbered("conv", STEM.index(path[0]))]
    block = path[0].removeprefix("Mixed_")
    towers = TOWERS.get(block, TOWERS[block[0]])
    branch, place, fork = re.fullmatch(r"(branch_pool|branch[^_]+)(?:_(\d)([ab]?))?", path[1]).groups()
    scope = [_numbered("mixed", MIXED.index(block))]
    if branch in towers:
        scope.append(_numbered("tower", towers.index(branch)))
    if fork:
        return [*scope, "mixed", _numbered("conv", "ab".index(fork))]
    return [*scope, _numbered("conv", int(place or 1) - 1)]


def _numbered(word: str, index: int) -> str:
    return f"{word}_{index}" if index else word
