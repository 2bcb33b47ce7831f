"""The whole network against PyTorch, with random weights: `pip install torch`, then `pytest -m slow`.

The first test has a reference of its own, written from the list of layers; the others compare with pytorch-fid,
torch-fidelity and clean-fid where they are installed.
"""

import jax
import numpy as np
import pytest

from jaxdiff.evaluation.inception import PREPROCESSINGS, inception_features, resized
from jaxdiff.evaluation.inception_convert import convert_weights
from jaxdiff.evaluation.inception_network import BLOCKS, InceptionV3
from jaxdiff.evaluation.inception_weights import load_weights

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.slow

ROW, COLUMN = (1, 7), (7, 1)
# name: inputs, outputs, kernel, stride, padding
STEM = {
    "Conv2d_1a_3x3": (3, 32, 3, 2, 0),
    "Conv2d_2a_3x3": (32, 32, 3, 1, 0),
    "Conv2d_2b_3x3": (32, 64, 3, 1, 1),
    "Conv2d_3b_1x1": (64, 80, 1, 1, 0),
    "Conv2d_4a_3x3": (80, 192, 3, 1, 0),
}


def layers_of(block, width):
    """(name, its input, inputs, outputs, kernel, stride, padding) of each convolution."""
    kind, n = block[6], width
    if block == "Mixed_6a":
        return [
            ("branch3x3", "x", n, 384, 3, 2, 0),
            ("branch3x3dbl_1", "x", n, 64, 1, 1, 0),
            ("branch3x3dbl_2", "branch3x3dbl_1", 64, 96, 3, 1, 1),
            ("branch3x3dbl_3", "branch3x3dbl_2", 96, 96, 3, 2, 0),
        ]
    if block == "Mixed_7a":
        return [
            ("branch3x3_1", "x", n, 192, 1, 1, 0),
            ("branch3x3_2", "branch3x3_1", 192, 320, 3, 2, 0),
            ("branch7x7x3_1", "x", n, 192, 1, 1, 0),
            ("branch7x7x3_2", "branch7x7x3_1", 192, 192, ROW, 1, (0, 3)),
            ("branch7x7x3_3", "branch7x7x3_2", 192, 192, COLUMN, 1, (3, 0)),
            ("branch7x7x3_4", "branch7x7x3_3", 192, 192, 3, 2, 0),
        ]
    if kind == "5":
        return [
            ("branch1x1", "x", n, 64, 1, 1, 0),
            ("branch5x5_1", "x", n, 48, 1, 1, 0),
            ("branch5x5_2", "branch5x5_1", 48, 64, 5, 1, 2),
            ("branch3x3dbl_1", "x", n, 64, 1, 1, 0),
            ("branch3x3dbl_2", "branch3x3dbl_1", 64, 96, 3, 1, 1),
            ("branch3x3dbl_3", "branch3x3dbl_2", 96, 96, 3, 1, 1),
            ("branch_pool", "pool", n, 32 if block == "Mixed_5b" else 64, 1, 1, 0),
        ]
    if kind == "6":
        c = {"b": 128, "c": 160, "d": 160, "e": 192}[block[7]]
        return [
            ("branch1x1", "x", n, 192, 1, 1, 0),
            ("branch7x7_1", "x", n, c, 1, 1, 0),
            ("branch7x7_2", "branch7x7_1", c, c, ROW, 1, (0, 3)),
            ("branch7x7_3", "branch7x7_2", c, 192, COLUMN, 1, (3, 0)),
            ("branch7x7dbl_1", "x", n, c, 1, 1, 0),
            ("branch7x7dbl_2", "branch7x7dbl_1", c, c, COLUMN, 1, (3, 0)),
            ("branch7x7dbl_3", "branch7x7dbl_2", c, c, ROW, 1, (0, 3)),
            ("branch7x7dbl_4", "branch7x7dbl_3", c, c, COLUMN, 1, (3, 0)),
            ("branch7x7dbl_5", "branch7x7dbl_4", c, 192, ROW, 1, (0, 3)),
            ("branch_pool", "pool", n, 192, 1, 1, 0),
        ]
    return [
        ("branch1x1", "x", n, 320, 1, 1, 0),
        ("branch3x3_1", "x", n, 384, 1, 1, 0),
        ("branch3x3_2a", "branch3x3_1", 384, 384, (1, 3), 1, (0, 1)),
        ("branch3x3_2b", "branch3x3_1", 384, 384, (3, 1), 1, (1, 0)),
        ("branch3x3dbl_1", "x", n, 448, 1, 1, 0),
        ("branch3x3dbl_2", "branch3x3dbl_1", 448, 384, 3, 1, 1),
        ("branch3x3dbl_3a", "branch3x3dbl_2", 384, 384, (1, 3), 1, (0, 1)),
        ("branch3x3dbl_3b", "branch3x3dbl_2", 384, 384, (3, 1), 1, (1, 0)),
        ("branch_pool", "pool", n, 192, 1, 1, 0),
    ]


class Reference(torch.nn.Module):
    """The FID network; its state dict has the names of the public checkpoint. Returns what each layer gives."""

    def __init__(self):
        super().__init__()
        for name, sizes in STEM.items():
            self.add_module(name, convolution(*sizes))
        self.blocks, width = {}, 192
        for block in BLOCKS:
            self.blocks[block] = layers_of(block, width)
            module = torch.nn.Module()
            for name, _, *sizes in self.blocks[block]:
                module.add_module(name, convolution(*sizes))
            self.add_module(block, module)
            inner = {source for _, source, *_ in self.blocks[block]}
            ends = sum(sizes[1] for name, _, *sizes in self.blocks[block] if name not in inner)
            width = ends + (width if block in ("Mixed_6a", "Mixed_7a") else 0)
        self.fc = torch.nn.Linear(width, 1008)

    def forward(self, x):
        functional, seen = torch.nn.functional, {}
        for name in STEM:
            x = seen[name] = self.get_submodule(name)(x)
            if name in ("Conv2d_2b_3x3", "Conv2d_4a_3x3"):
                x = functional.max_pool2d(x, 3, 2)
        for block, layers in self.blocks.items():
            if block == "Mixed_7c":
                pool = functional.max_pool2d(x, 3, 1, 1)
            else:
                pool = functional.avg_pool2d(x, 3, 1, 1, count_include_pad=False)
            results = {"x": x, "pool": pool}
            for name, source, *_ in layers:
                results[name] = self.get_submodule(f"{block}.{name}")(results[source])
            inner = {"x", "pool"} | {source for _, source, *_ in layers}
            parts = [result for name, result in results.items() if name not in inner]
            if block in ("Mixed_6a", "Mixed_7a"):
                parts.append(functional.max_pool2d(x, 3, 2))
            x = seen[block] = torch.cat(parts, 1)
        seen["features"] = x.mean((2, 3))
        seen["logits"] = self.fc(seen["features"])
        return seen


def convolution(inputs, outputs, kernel, stride, padding):
    result = torch.nn.Sequential()
    result.add_module("conv", torch.nn.Conv2d(inputs, outputs, kernel, stride, padding, bias=False))
    result.add_module("bn", torch.nn.BatchNorm2d(outputs, eps=1e-3))
    result.append(torch.nn.ReLU())
    return result


@pytest.fixture(scope="module")
def reference():
    """Random weights that keep the size of the activations, statistics and gains included."""
    torch.manual_seed(0)
    network = Reference().eval()
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)
            if isinstance(module, torch.nn.BatchNorm2d):
                for values, low, high in (
                    (module.weight, 0.7, 1.3),
                    (module.bias, -0.3, 0.3),
                    (module.running_mean, -0.3, 0.3),
                    (module.running_var, 0.5, 1.5),
                ):
                    values.uniform_(low, high)
    return network


@pytest.fixture(scope="module")
def checkpoint(reference, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "random.pth"
    torch.save(reference.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def converted(checkpoint):
    path = checkpoint.with_suffix(".npz")
    assert convert_weights(checkpoint, path).tensors == 472
    return path


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (2, 40, 32, 3)).astype(np.uint8)


def relative_error(got, want):
    """Largest difference, over the standard deviation of what should be."""
    return np.abs(np.asarray(got) - want).max() / want.std()


def test_every_layer_is_that_of_pytorch(reference, converted):
    x = np.random.default_rng(1).uniform(-1, 1, (2, 107, 123, 3)).astype(np.float32)
    with torch.no_grad():
        want = reference(torch.from_numpy(x.transpose(0, 3, 1, 2).copy()))

    @jax.jit
    def run(variables, x):
        return InceptionV3().apply(variables, x, capture_intermediates=True, mutable=["intermediates"])

    (features, logits), captured = run(load_weights(converted).variables, x)
    for name in (*STEM, *BLOCKS):
        got = np.asarray(captured["intermediates"][name]["__call__"][0])
        error = relative_error(got.transpose(0, 3, 1, 2), want[name].numpy())
        print(f"{name:<14} {error:.1e}")
        assert error < 1e-3, name
    assert relative_error(features, want["features"].numpy()) < 1e-3
    assert relative_error(logits, want["logits"].numpy()) < 1e-3


def test_features_are_those_of_pytorch_fid(checkpoint, converted, images, monkeypatch):
    theirs = pytest.importorskip("pytorch_fid.inception")
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *_, **__: torch.load(checkpoint))
    network = theirs.InceptionV3().eval()
    with torch.no_grad():
        want = network(torch.from_numpy(images.transpose(0, 3, 1, 2) / np.float32(255)))[0][..., 0, 0].numpy()
    got = inception_features(converted, "bilinear", batch_size=2).features(images)
    print(f"pytorch-fid {relative_error(got, want):.1e}")
    assert relative_error(got, want) < 1e-3


@pytest.mark.parametrize("output", ["features", "logits"])
def test_features_are_those_of_torch_fidelity(checkpoint, converted, images, output):
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    layer = {"features": "2048", "logits": "logits"}[output]
    network = theirs.FeatureExtractorInceptionV3(
        "inception", [layer], feature_extractor_weights_path=str(checkpoint)
    ).eval()
    with torch.no_grad():
        want = network(torch.from_numpy(images.transpose(0, 3, 1, 2).copy()))[0].numpy()
    got = inception_features(converted, "bilinear_tf1", output, batch_size=2).features(images)
    print(f"torch-fidelity {output} {relative_error(got, want):.1e}")
    assert relative_error(got, want) < 1e-3


@pytest.mark.parametrize("shape", [(40, 32), (330, 512)])
def test_resizes_are_those_of_the_others(shape):
    image = np.random.default_rng(0).integers(0, 256, (*shape, 3)).astype(np.uint8)
    tensor = torch.from_numpy(image.astype(np.float32).transpose(2, 0, 1).copy())[None]

    def check(how, want):
        got = np.asarray(resized(image[None], PREPROCESSINGS[how]))[0]
        np.testing.assert_allclose(got, want, atol=255e-4, err_msg=how)

    want = torch.nn.functional.interpolate(tensor, size=(299, 299), mode="bilinear", align_corners=False)
    check("bilinear", want[0].numpy().transpose(1, 2, 0))
    fidelity = pytest.importorskip("torch_fidelity.interpolate_compat_tensorflow")
    want = fidelity.interpolate_bilinear_2d_like_tensorflow1x(tensor, size=(299, 299), align_corners=False)
    check("bilinear_tf1", want[0].numpy().transpose(1, 2, 0))
    clean = pytest.importorskip("cleanfid.resize")
    check("bicubic_antialias", clean.make_resizer("PIL", False, "bicubic", (299, 299))(image))
