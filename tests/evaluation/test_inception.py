"""Parts against numpy, Pillow and closed forms; test_inception_torch.py has the whole network against PyTorch."""

import hashlib
import sys
from types import SimpleNamespace

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from tensorboardX.proto.graph_pb2 import GraphDef
from tensorboardX.proto.types_pb2 import DT_FLOAT

from jaxdiff.evaluation import inception
from jaxdiff.evaluation.inception import PREPROCESSINGS, inception_features, preprocess, resized
from jaxdiff.evaluation.inception_convert import from_graph, from_torch
from jaxdiff.evaluation.inception_network import (
    BLOCKS,
    Convolution,
    InceptionV3,
    Mixed,
    average_pool,
    max_pool,
)
from jaxdiff.evaluation.inception_weights import expected_shapes, load_weights
from jaxdiff.evaluation.weight_file import save_weights

# sha256 of the sorted "name shape" lines of the state dict of pytorch-fid's fid_inception_v3(), version 0.3.0
PYTORCH_FID = "d84f693f2abd7fea61cb31c87d3b2f268bf707c1bae1db219afdad3363959cb0"

# What the frozen graph calls the layers of each kind of block, under mixed, mixed_1, ...
BRANCHES_5 = {
    "branch1x1": "conv",
    "branch5x5_1": "tower/conv",
    "branch5x5_2": "tower/conv_1",
    "branch3x3dbl_1": "tower_1/conv",
    "branch3x3dbl_2": "tower_1/conv_1",
    "branch3x3dbl_3": "tower_1/conv_2",
    "branch_pool": "tower_2/conv",
}
BRANCHES_6 = {
    "branch1x1": "conv",
    "branch7x7_1": "tower/conv",
    "branch7x7_2": "tower/conv_1",
    "branch7x7_3": "tower/conv_2",
    "branch7x7dbl_1": "tower_1/conv",
    "branch7x7dbl_2": "tower_1/conv_1",
    "branch7x7dbl_3": "tower_1/conv_2",
    "branch7x7dbl_4": "tower_1/conv_3",
    "branch7x7dbl_5": "tower_1/conv_4",
    "branch_pool": "tower_2/conv",
}
BRANCHES_7 = {
    "branch1x1": "conv",
    "branch3x3_1": "tower/conv",
    "branch3x3_2a": "tower/mixed/conv",
    "branch3x3_2b": "tower/mixed/conv_1",
    "branch3x3dbl_1": "tower_1/conv",
    "branch3x3dbl_2": "tower_1/conv_1",
    "branch3x3dbl_3a": "tower_1/mixed/conv",
    "branch3x3dbl_3b": "tower_1/mixed/conv_1",
    "branch_pool": "tower_2/conv",
}
GRAPH_BLOCKS = {
    "Mixed_5b": ("mixed", BRANCHES_5),
    "Mixed_5c": ("mixed_1", BRANCHES_5),
    "Mixed_5d": ("mixed_2", BRANCHES_5),
    "Mixed_6a": (
        "mixed_3",
        {
            "branch3x3": "conv",
            "branch3x3dbl_1": "tower/conv",
            "branch3x3dbl_2": "tower/conv_1",
            "branch3x3dbl_3": "tower/conv_2",
        },
    ),
    "Mixed_6b": ("mixed_4", BRANCHES_6),
    "Mixed_6c": ("mixed_5", BRANCHES_6),
    "Mixed_6d": ("mixed_6", BRANCHES_6),
    "Mixed_6e": ("mixed_7", BRANCHES_6),
    "Mixed_7a": (
        "mixed_8",
        {
            "branch3x3_1": "tower/conv",
            "branch3x3_2": "tower/conv_1",
            "branch7x7x3_1": "tower_1/conv",
            "branch7x7x3_2": "tower_1/conv_1",
            "branch7x7x3_3": "tower_1/conv_2",
            "branch7x7x3_4": "tower_1/conv_3",
        },
    ),
    "Mixed_7b": ("mixed_9", BRANCHES_7),
    "Mixed_7c": ("mixed_10", BRANCHES_7),
}
GRAPH_LAYERS = {
    "Conv2d_1a_3x3": "conv",
    "Conv2d_2a_3x3": "conv_1",
    "Conv2d_2b_3x3": "conv_2",
    "Conv2d_3b_1x1": "conv_3",
    "Conv2d_4a_3x3": "conv_4",
} | {
    f"{block}/{branch}": f"{scope}/{layer}"
    for block, (scope, layers) in GRAPH_BLOCKS.items()
    for branch, layer in layers.items()
}
GRAPH_ARRAYS = {
    "conv/kernel": "conv2d_params",
    "bn/scale": "batchnorm/gamma",
    "bn/bias": "batchnorm/beta",
    "bn/mean": "batchnorm/moving_mean",
    "bn/var": "batchnorm/moving_variance",
}
TORCH_ARRAYS = {
    "conv/kernel": "conv.weight",
    "bn/scale": "bn.weight",
    "bn/bias": "bn.bias",
    "bn/mean": "bn.running_mean",
    "bn/var": "bn.running_var",
}


def graph_name(name):
    if "/fc/" in name:
        return "softmax/weights" if name.endswith("kernel") else "softmax/biases"
    layer, array = "/".join(name.split("/")[1:-2]), "/".join(name.split("/")[-2:])
    return f"{GRAPH_LAYERS[layer]}/{GRAPH_ARRAYS[array]}"


def torch_name(name):
    if "/fc/" in name:
        return "fc.weight" if name.endswith("kernel") else "fc.bias"
    layer, array = ".".join(name.split("/")[1:-2]), "/".join(name.split("/")[-2:])
    return f"{layer}.{TORCH_ARRAYS[array]}"


def turned(shape):
    """The shape in PyTorch of an array that has this one in Flax."""
    return tuple(shape[axis] for axis in {4: (3, 2, 0, 1), 2: (1, 0), 1: (0,)}[len(shape)])


def value(name):
    """A number of its own for each array."""
    return np.float32(int(hashlib.sha256(name.encode()).hexdigest()[:4], 16) / 65536)


@pytest.fixture(scope="module")
def state():
    """A state dict as PyTorch has it: every array constant, without taking the memory."""
    result = {}
    for name, shape in expected_shapes().items():
        result[torch_name(name)] = np.broadcast_to(value(name), turned(shape))
        if name.endswith("/bn/mean"):
            result[torch_name(name).replace("running_mean", "num_batches_tracked")] = np.array(7)
    return result


@pytest.fixture
def graph():
    """The frozen graph: constants (one number each, repeated), normalizations, and nodes that are no weights."""
    result = GraphDef()
    for name, shape in expected_shapes().items():
        node = constant(result, graph_name(name), shape)
        node.float_val.append(value(name))
        if name.endswith("bn/mean"):
            normalization = result.node.add()
            normalization.name = graph_name(name).removesuffix("/moving_mean")
            normalization.op = "BatchNormWithGlobalNormalization"
            normalization.attr["variance_epsilon"].f = 1e-3
            normalization.attr["scale_after_normalization"].b = True
    constant(result, "Sub/y", ()).float_val.append(128)
    return result


def constant(graph, name, shape):
    node = graph.node.add()
    node.name, node.op = name, "Const"
    tensor = node.attr["value"].tensor
    tensor.dtype = DT_FLOAT
    for size in shape:
        tensor.tensor_shape.dim.add().size = size
    return tensor


def tensor_of(graph, name):
    return next(node for node in graph.node if node.name == name).attr["value"].tensor


# The network


@pytest.mark.parametrize(("stride", "padding"), [(1, "SAME"), (2, "VALID")])
def test_convolution_is_the_normalized_rectified_correlation(stride, padding):
    rng = np.random.default_rng(0)
    x, kernel = rng.normal(size=(2, 7, 9, 3)), rng.normal(size=(3, 1, 3, 4))
    scale, bias, mean = rng.normal(size=(3, 4))
    var = rng.uniform(1e-4, 1e-2, 4)  # small, so that the 1e-3 beside it counts
    variables = {
        "params": {"conv": {"kernel": kernel}, "bn": {"scale": scale, "bias": bias}},
        "batch_stats": {"bn": {"mean": mean, "var": var}},
    }
    got = Convolution(4, (3, 1), stride, padding).apply(jax.tree.map(jnp.float32, variables), jnp.float32(x))

    padded = np.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0))) if padding == "SAME" else x
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 1), axis=(1, 2))[:, ::stride, ::stride]
    y = np.einsum("bhwiyx,yxio->bhwo", windows, kernel)
    want = np.maximum(scale * (y - mean) / np.sqrt(var + 1e-3) + bias, 0)
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert (want == 0).mean() > 0.1 and (want > 0).mean() > 0.1


def neighbors(x, reduce):
    """`reduce` over the up to 3 x 3 neighbors of each pixel of a (H, W) array."""
    rows, columns = range(x.shape[0]), range(x.shape[1])
    return np.array(
        [[reduce(x[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2]) for j in columns] for i in rows]
    )


def test_pools_count_no_padding():
    x = np.random.default_rng(0).normal(size=(4, 5)) - 5  # negative, so that padding with zeros would show
    np.testing.assert_allclose(average_pool(x[None, ..., None])[0, ..., 0], neighbors(x, np.mean), rtol=1e-6)
    np.testing.assert_allclose(max_pool(x[None, ..., None])[0, ..., 0], neighbors(x, np.max), rtol=1e-6)


def test_which_pool_a_block_has():
    """A pool branch that passes one channel on gives the pooled channel; max only in Mixed_7c."""
    x = np.random.default_rng(0).uniform(size=(1, 4, 5, 2)).astype(np.float32)
    names = [name for name in BLOCKS if name not in ("Mixed_6a", "Mixed_7a")]
    passing = {name: zeros(Mixed(BLOCKS[name]), x) for name in names}
    for variables in passing.values():
        variables["params"]["branch_pool"]["conv"]["kernel"][0, 0, 1, 0] = 1
        variables["params"]["branch_pool"]["bn"]["scale"][0] = np.sqrt(1.001)
        variables["batch_stats"]["branch_pool"]["bn"]["var"][0] = 1

    @jax.jit
    def first_of_pool_branch(x):
        widths = {name: len(passing[name]["params"]["branch_pool"]["bn"]["scale"]) for name in names}
        return {name: Mixed(BLOCKS[name]).apply(passing[name], x)[0, ..., -widths[name]] for name in names}

    for name, got in first_of_pool_branch(x).items():
        want = neighbors(x[0, ..., 1], np.max if name == "Mixed_7c" else np.mean)
        np.testing.assert_allclose(got, want, rtol=1e-5, err_msg=name)


def test_reducing_blocks_end_in_the_max_of_whole_windows():
    x = np.random.default_rng(0).uniform(size=(1, 7, 9, 2)).astype(np.float32)
    want = [[x[0, i : i + 3, j : j + 3].max((0, 1)) for j in range(0, 7, 2)] for i in range(0, 5, 2)]
    for name in ("Mixed_6a", "Mixed_7a"):
        block = Mixed(BLOCKS[name])
        got = jax.jit(lambda x, block=block: block.apply(zeros(block, x), x)[0, ..., -2:])(x)
        np.testing.assert_array_equal(got, want)


@pytest.mark.parametrize(
    ("block", "order"),
    [
        ("Mixed_5c", ["branch1x1", "branch5x5_2", "branch3x3dbl_3", "branch_pool"]),
        ("Mixed_6a", ["branch3x3", "branch3x3dbl_3"]),
        ("Mixed_6b", ["branch1x1", "branch7x7_3", "branch7x7dbl_5", "branch_pool"]),
        ("Mixed_7a", ["branch3x3_2", "branch7x7x3_4"]),
        (
            "Mixed_7c",
            [
                "branch1x1",
                "branch3x3_2a",
                "branch3x3_2b",
                "branch3x3dbl_3a",
                "branch3x3dbl_3b",
                "branch_pool",
            ],
        ),
    ],
)
def test_order_of_the_branches(block, order):
    """Each convolution gives its own number everywhere, which shows where its channels end up."""
    numbers = {}

    def number(next_call, args, kwargs, context):
        if not isinstance(context.module, Convolution):
            return next_call(*args, **kwargs)
        layer, x = context.module, args[0]
        numbers[layer.name] = len(numbers) + 1
        x = x[:, 1:-1:2, 1:-1:2] if layer.stride == 2 else x
        return np.full((*x.shape[:3], layer.features), numbers[layer.name], np.float32)

    with flax.linen.intercept_methods(number):
        y = np.asarray(Mixed(BLOCKS[block]).apply({}, np.zeros((1, 5, 5, 2), np.float32)))
    runs = [int(value) for i, value in enumerate(y[0, 0, 0]) if i == 0 or value != y[0, 0, 0, i - 1]]
    reducing = block in ("Mixed_6a", "Mixed_7a")  # they end in the pooled x
    assert runs == [numbers[name] for name in order] + [0] * reducing


def zeros(module, x):
    return jax.tree.map(
        lambda leaf: np.zeros(leaf.shape, np.float32), jax.eval_shape(module.init, jax.random.key(0), x)
    )


def test_size_of_the_network():
    shapes = expected_shapes()
    assert len(shapes) == 94 * 5 + 2
    listed = sorted(f"{torch_name(name)} {turned(shape)}" for name, shape in shapes.items())
    assert hashlib.sha256("\n".join(listed).encode()).hexdigest() == PYTORCH_FID
    weights = [shape for name, shape in shapes.items() if name.startswith("params")]
    assert sum(map(np.prod, weights)) == 23_850_960

    def outputs(key, x):
        variables = InceptionV3().init(key, x)
        return InceptionV3().apply(variables, x, capture_intermediates=True, mutable=["intermediates"])

    images = np.zeros((2, 299, 299, 3), np.float32)
    (features, logits), variables = jax.eval_shape(outputs, jax.random.key(0), images)
    assert features.shape == (2, 2048) and logits.shape == (2, 1008)
    seen = {name: variables["intermediates"][name]["__call__"][0].shape[1:] for name in BLOCKS}
    assert seen == {
        "Mixed_5b": (35, 35, 256),
        "Mixed_5c": (35, 35, 288),
        "Mixed_5d": (35, 35, 288),
        "Mixed_6a": (17, 17, 768),
        "Mixed_6b": (17, 17, 768),
        "Mixed_6c": (17, 17, 768),
        "Mixed_6d": (17, 17, 768),
        "Mixed_6e": (17, 17, 768),
        "Mixed_7a": (8, 8, 1280),
        "Mixed_7b": (8, 8, 2048),
        "Mixed_7c": (8, 8, 2048),
    }


# Preprocessing


@pytest.mark.parametrize(
    ("resize", "want"),
    [
        ("bilinear", [0, 25, 75, 100]),  # at -1/4, 1/4, 3/4, 5/4
        ("bilinear_tf1", [0, 50, 100, 100]),  # at 0, 1/2, 1, 3/2
    ],
)
def test_enlarging_two_pixels(resize, want):
    images = np.array([[[0], [100]]], np.float32)[None].repeat(2, axis=1)
    got = resized(jnp.asarray(images), PREPROCESSINGS[resize], 4)[0, :, :, 0]
    np.testing.assert_allclose(got, [want] * 4, atol=1e-4)
    turned = resized(jnp.asarray(images.swapaxes(1, 2)), PREPROCESSINGS[resize], 4)[0, :, :, 0]
    np.testing.assert_allclose(turned, np.transpose([want] * 4), atol=1e-4)


@pytest.mark.parametrize(
    ("resize", "want"),
    [
        ("bilinear", [25 / 3, 35, 185 / 3]),  # at 5/6, 7/2, 37/6
        ("bilinear_tf1", [0, 80 / 3, 160 / 3]),  # at 0, 8/3, 16/3
    ],
)
def test_shrinking_without_antialiasing(resize, want):
    ramp = np.broadcast_to(10 * np.arange(8, dtype=np.float32), (8, 8))[None, ..., None].copy()
    ramp[:, :, 0] = 40  # of this pixel an antialiased filter would see something
    got = resized(jnp.asarray(ramp), PREPROCESSINGS[resize], 3)[0, 0, :, 0]
    want = [want[0] + 40 * (resize == "bilinear") / 6 + 40 * (resize == "bilinear_tf1"), *want[1:]]
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("shape", [(9, 13), (40, 17)])
def test_bicubic_is_that_of_pillow_clipped(shape):
    image = np.random.default_rng(0).choice([0, 90, 255], shape).astype(np.float32)
    want = np.asarray(Image.fromarray(image).resize((21, 21), Image.Resampling.BICUBIC))
    got = resized(jnp.asarray(image[None, ..., None]), PREPROCESSINGS["bicubic_antialias"], 21)[0, ..., 0]
    assert want.max() > 256 and want.min() < -1  # it overshoots
    np.testing.assert_allclose(got, want.clip(0, 255), atol=1e-3)


@pytest.mark.parametrize(("resize", "ends"), [("bilinear", (-1, 1)), ("bilinear_tf1", (-1, 127 / 128))])
def test_values_fed_to_the_network(resize, ends):
    images = np.stack([np.zeros((5, 5, 1)), np.full((5, 5, 1), 255)]).astype(np.uint8)
    got = preprocess(jnp.asarray(images), PREPROCESSINGS[resize])
    assert got.shape == (2, 299, 299, 3) and got.dtype == np.float32
    for image, end in zip(got, ends, strict=True):
        np.testing.assert_allclose(image, end, rtol=1e-5)


def test_gray_is_repeated():
    image = np.random.default_rng(0).integers(0, 256, (1, 6, 7, 1)).astype(np.uint8)
    for how in PREPROCESSINGS.values():
        gray, color = (
            preprocess(jnp.asarray(image), how, 9),
            preprocess(jnp.asarray(image.repeat(3, -1)), how, 9),
        )
        np.testing.assert_array_equal(gray, color)


# The weight files


def test_torch_axes_are_turned(state):
    kernel = np.arange(64 * 48 * 5 * 5, dtype=np.float32).reshape(64, 48, 5, 5)
    classes = np.arange(1008 * 2048, dtype=np.float32).reshape(1008, 2048)
    arrays = from_torch(state | {"Mixed_5b.branch5x5_2.conv.weight": kernel, "fc.weight": classes})
    got = arrays["params/Mixed_5b/branch5x5_2/conv/kernel"]
    assert got.shape == (5, 5, 48, 64) and got[4, 1, 47, 3] == kernel[3, 47, 4, 1]
    np.testing.assert_array_equal(arrays["params/fc/kernel"], classes.T)
    variance = arrays["batch_stats/Mixed_7c/branch_pool/bn/var"]
    assert (variance == value("batch_stats/Mixed_7c/branch_pool/bn/var")).all()


def test_graph_and_torch_give_the_same_file(state, graph, tmp_path, capsys):
    """Through the command, the file and back: every array where it belongs, one sha256 for both."""
    raw = tensor_of(graph, "mixed_9/tower/mixed/conv_1/batchnorm/beta")  # once as raw bytes
    raw.tensor_content = np.array(raw.float_val, "<f4").repeat(384).tobytes()
    del raw.float_val[:]
    (tmp_path / "graph.pb").write_bytes(graph.SerializeToString())
    out = tmp_path / "inception.npz"
    assert inception.main(["convert", str(tmp_path / "graph.pb"), str(out)]) == 0
    said = capsys.readouterr().out
    weights = load_weights(out)
    for name, array in flax.traverse_util.flatten_dict(weights.variables, sep="/").items():
        assert array.shape == expected_shapes()[name] and (array == value(name)).all(), name
    assert "472 tensors mapped" in said and weights.sha256 in said
    assert save_weights(tmp_path / "other.npz", from_torch(state)).sha256 == weights.sha256

    assert inception.main(["convert", str(tmp_path / "graph.pb"), str(out)]) == 2
    assert "nothing is overwritten" in capsys.readouterr().err


def test_graph_that_does_not_scale(graph):
    node = next(node for node in graph.node if node.name == "conv_1/batchnorm")
    node.attr["scale_after_normalization"].b = False
    arrays = from_graph(graph)
    assert (arrays["params/Conv2d_2a_3x3/bn/scale"] == 1).all()
    assert (arrays["params/Conv2d_2b_3x3/bn/scale"] != 1).all()
    node.attr["variance_epsilon"].f = 1e-5
    with pytest.raises(ValueError, match="conv_1/batchnorm has epsilon 1e-05.*0.001"):
        from_graph(graph)


def test_what_is_missing_left_over_or_misshapen_is_named(state, graph):
    fewer = {name: array for name, array in state.items() if name != "Mixed_6c.branch7x7_2.conv.weight"}
    with pytest.raises(ValueError, match=r"1 missing: Mixed_6c\.branch7x7_2\.conv\.weight$"):
        from_torch(fewer)
    with pytest.raises(ValueError, match=r"the 472 arrays.*; 1 not of this network: AuxLogits\.fc\.bias"):
        from_torch(state | {"AuxLogits.fc.bias": np.zeros(3)})
    with pytest.raises(ValueError, match=r"472 missing: Conv2d_1a_3x3\.bn\.bias, .*, \.\.\.$"):
        from_torch({})
    with pytest.raises(ValueError, match=r"fc\.bias has shape \(1000,\), the network's is \(1008,\)"):
        from_torch(state | {"fc.bias": np.zeros(1000, np.float32)})
    with pytest.raises(ValueError, match=r"fc\.bias holds values that are not finite"):
        from_torch(state | {"fc.bias": np.full(1008, np.nan, np.float32)})
    tensor_of(graph, "softmax/biases").float_val.extend([0.0] * 2000)
    with pytest.raises(ValueError, match=r"softmax/biases is not a float32 array of shape \(1008,\)"):
        from_graph(graph)


def test_checkpoints_are_read_as_weights_only(state, tmp_path, monkeypatch):
    """A stand-in for PyTorch, which the default tests do not need."""

    class Tensor(np.ndarray):
        def detach(self):
            return self

        def numpy(self):
            return np.asarray(self)

    loaded = {}

    def load(path, map_location, weights_only):
        assert weights_only is True and map_location == "cpu"
        return loaded

    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(load=load, Tensor=Tensor))
    named = tmp_path / "weights-0000abcd.pth"
    named.write_bytes(b"not what the name says")
    with pytest.raises(ValueError, match="sha256 does not begin with 0000abcd"):
        inception.convert_weights(named, tmp_path / "out.npz")

    path = tmp_path / "weights.pth"
    path.write_bytes(b"")
    loaded["model"] = {}
    with pytest.raises(ValueError, match="no state dict"):
        inception.convert_weights(path, tmp_path / "out.npz")
    loaded.clear()
    loaded.update({name: array.view(Tensor) for name, array in state.items()})
    assert inception.convert_weights(path, tmp_path / "out.npz").tensors == 472
    assert [file.name for file in tmp_path.glob("out*")] == ["out.npz"]


def test_the_command_says_what_is_wrong(tmp_path, monkeypatch, capsys):
    def error(source, out="out.npz"):
        assert inception.main(["convert", str(tmp_path / source), str(tmp_path / out)]) == 2
        assert not (tmp_path / "out.npz").exists()
        return capsys.readouterr().err

    assert "no file" in error("absent.pth") and "pt_inception-2015-12-05-6726825d.pth" in error("absent.pth")
    for name in ("weights.pth", "weights.bin", "weights.pb"):
        (tmp_path / name).write_bytes(b"\xff\xff not weights")
    monkeypatch.setitem(sys.modules, "torch", None)
    assert 'pip install -e ".[fid]"' in error("weights.pth")
    assert "ends in .pth, .pt, .pb" in error("weights.bin")
    assert "frozen TensorFlow graph" in error("weights.pb")


def test_features_without_weights_say_how_to_get_them(tmp_path):
    path = tmp_path / "inception.npz"
    with pytest.raises(
        FileNotFoundError, match="pt_inception-2015-12-05-6726825d.pth.*inception convert FILE"
    ):
        inception_features(path)
    with pytest.raises(ValueError, match="unknown resize 'bilinaer'; did you mean 'bilinear'"):
        inception_features(path, resize="bilinaer")
    with pytest.raises(ValueError, match="unknown output 'logit'; did you mean 'logits'"):
        inception_features(path, output="logit")
    for content in (b"PK\x03\x04 cut off", b"\x80\x02}q\x00.", b""):
        path.write_bytes(content)
        with pytest.raises(ValueError, match="is no .npz of FID Inception weights"):
            inception_features(path)
    np.savez(path, other=np.zeros(3))
    with pytest.raises(ValueError, match="472 missing.*1 not of this network: other"):
        inception_features(path)
