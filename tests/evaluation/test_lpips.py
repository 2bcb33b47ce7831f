"""LPIPS against a NumPy version written from the formula; test_lpips_torch.py has the published package itself."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from jaxdiff.evaluation.lpips import FILES, convert_weights, from_torch, main, open_lpips
from jaxdiff.evaluation.lpips_network import NETWORKS, convolutions, least_side, weight_shapes
from jaxdiff.evaluation.weight_file import save_weights
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.restore_scores import open_perceptual, scores

SIDE = {"alex": 31, "vgg": 16}


def random_arrays(name, seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for key, shape in weight_shapes(NETWORKS[name]).items():
        scale = np.sqrt(2 / np.prod(shape[:-1])) if key.endswith("kernel") else 0.1
        values = scale * rng.standard_normal(shape)
        arrays[key] = (
            np.abs(values).astype(np.float32) if key.startswith("lin") else values.astype(np.float32)
        )
    return arrays


@pytest.fixture(scope="module")
def arrays():
    return random_arrays("alex")


@pytest.fixture(scope="module")
def weights(arrays, tmp_path_factory):
    path = tmp_path_factory.mktemp("lpips") / "alex.npz"
    save_weights(path, arrays)
    return path


@pytest.fixture(scope="module")
def measure(weights):
    return open_lpips(f"alex:{weights}", batch=2)


def images(n, side=31, channels=3, seed=0):
    return np.random.default_rng(seed).uniform(-1, 1, (n, side, side, channels)).astype(np.float32)


def convolved(x, kernel, bias, stride, padding):
    x = np.pad(x, ((padding, padding), (padding, padding), (0, 0)))
    windows = sliding_window_view(x, kernel.shape[:2], axis=(0, 1))[::stride, ::stride]
    return np.maximum(np.einsum("hwcij,ijco->hwo", windows, kernel) + bias, 0)


def pooled(x):
    return sliding_window_view(x, (3, 3), axis=(0, 1))[::2, ::2].max(axis=(-2, -1))


def alex_features(x, arrays):
    """Five layers of AlexNet, one image (H, W, 3) at a time, in double precision."""
    x = (x.astype(np.float64) - [-0.030, -0.088, -0.188]) / [0.458, 0.448, 0.450]
    taps = []
    for index, (stride, padding) in enumerate(((4, 2), (1, 2), (1, 1), (1, 1), (1, 1))):
        x = pooled(x) if index in (1, 2) else x
        x = convolved(x, arrays[f"conv{index}/kernel"], arrays[f"conv{index}/bias"], stride, padding)
        taps.append(x)
    return taps


def reference(x, other, arrays):
    total = 0.0
    for index, (f, g) in enumerate(zip(alex_features(x, arrays), alex_features(other, arrays), strict=True)):
        unit = [values / (np.linalg.norm(values, axis=-1, keepdims=True) + 1e-10) for values in (f, g)]
        total += ((unit[0] - unit[1]) ** 2 @ arrays[f"lin{index}"]).mean()
    return total


def test_distance_is_the_formula(arrays, measure):
    x, other = images(3, 47), images(3, 47, seed=1)
    want = [reference(a, b, arrays) for a, b in zip(x, other, strict=True)]
    np.testing.assert_allclose(measure.distance(x, other), want, rtol=2e-5)


def test_equal_images_are_at_no_distance_and_the_order_does_not_matter(measure):
    x, other = images(3), images(3, seed=1)
    assert measure.distance(x, x) == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(measure.distance(x, other), measure.distance(other, x), rtol=1e-5)
    assert (measure.distance(x, 0.9 * x + 0.1 * other) < measure.distance(x, other)).all()


def test_batches_do_not_change_the_result(weights, measure):
    x, other = images(5), images(5, seed=1)
    whole = open_lpips(f"alex:{weights}", batch=5).distance(x, other)
    np.testing.assert_allclose(measure.distance(x, other), whole, rtol=1e-5)


def test_gray_is_repeated(measure):
    x, other = images(2, channels=1), images(2, channels=1, seed=1)
    want = measure.distance(np.repeat(x, 3, axis=-1), np.repeat(other, 3, axis=-1))
    np.testing.assert_allclose(measure.distance(x, other), want, rtol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_least_side(name):
    """The smallest side at which no layer of the list is left without a pixel, by counting."""

    def fits(side):
        for layer in NETWORKS[name]:
            if hasattr(layer, "kernel"):
                side = (side + 2 * layer.padding - layer.kernel) // layer.stride + 1
            elif hasattr(layer, "size"):
                side = (side - layer.size) // 2 + 1
            if side < 1:
                return False
        return True

    assert least_side(NETWORKS[name]) == SIDE[name] == next(side for side in range(1, 99) if fits(side))


def torch_states(name, arrays):
    """What the two public files hold, named and laid out as there."""
    places = [one.place for one in convolutions(NETWORKS[name])]
    state = {
        f"features.{p}.weight": arrays[f"conv{i}/kernel"].transpose(3, 2, 0, 1) for i, p in enumerate(places)
    }
    state |= {f"features.{p}.bias": arrays[f"conv{i}/bias"] for i, p in enumerate(places)}
    lins = {f"lin{i}.model.1.weight": arrays[f"lin{i}"].reshape(1, -1, 1, 1) for i in range(5)}
    return {**state, "classifier.6.bias": np.zeros(1000, np.float32)}, lins


@pytest.mark.parametrize(
    ("name", "places"),
    [("alex", [0, 3, 6, 8, 10]), ("vgg", [0, 2, 5, 7, 10, 12, 14, 17, 19, 21, 24, 26, 28])],
)
def test_public_names(name, places):
    """torchvision counts rectifiers and pools as well."""
    assert [one.place for one in convolutions(NETWORKS[name])] == places
    arrays = random_arrays(name)
    mapped = from_torch(name, *torch_states(name, arrays))
    assert mapped.keys() == arrays.keys()
    assert all((mapped[key] == arrays[key]).all() for key in arrays)


def test_wrong_weights_are_named(arrays):
    state, lins = torch_states("alex", arrays)
    with pytest.raises(
        ValueError, match=r"LPIPS \(vgg\) network; .* missing: features\.12\.bias.*not of this network"
    ):
        from_torch("vgg", state, lins)
    with pytest.raises(ValueError, match=r"lin2 has weights below 0"):
        from_torch("alex", state, {**lins, "lin2.model.1.weight": -lins["lin2.model.1.weight"]})
    with pytest.raises(ValueError, match="unknown LPIPS network 'alexx'; did you mean 'alex'"):
        open_lpips("alexx:weights.npz")
    with pytest.raises(ValueError, match="needs a weight file, alex:FILE"):
        open_lpips("alex")
    with pytest.raises(FileNotFoundError, match=f"{FILES['vgg'][0]}.*lpips convert vgg .* none.npz"):
        open_lpips("vgg:none.npz")


def test_images_that_do_not_fit_are_an_error(measure):
    with pytest.raises(ValueError, match="31 pixels a side and more, these have 30x30"):
        measure.distance(images(1, 30), images(1, 30))
    with pytest.raises(ValueError, match=r"\(n, H, W, 1 or 3\), got \(1, 31, 31, 2\)"):
        measure.distance(images(1, channels=2), images(1, channels=2))
    with pytest.raises(ValueError, match="the same images twice"):
        measure.distance(images(1), images(2))


def test_conversion_overwrites_nothing(tmp_path, capsys):
    (tmp_path / "network.pth").touch(), (tmp_path / "linear.pth").touch(), (tmp_path / "out.npz").touch()
    paths = [str(tmp_path / name) for name in ("network.pth", "linear.pth", "out.npz")]
    with pytest.raises(FileExistsError, match="nothing is overwritten"):
        convert_weights("alex", *paths)
    assert main(["convert", "alex", str(tmp_path / "other.pth"), *paths[1:]]) == 2
    assert "no file" in capsys.readouterr().err and (tmp_path / "out.npz").read_bytes() == b""


@pytest.mark.slow
def test_scores_of_a_restoration(weights):
    """The restored image and a draw are scored against the truth; small images are refused by key."""
    truth = images(2, 40)
    noise = 0.3 * images(2, 40, seed=1)
    arrays = {"mean": truth, "draw": truth + noise, "lower": truth - 1, "upper": truth + 1}
    measure = open_perceptual(f"alex:{weights}", truth)
    found = scores(truth, arrays, measure)
    assert found["lpips"] == pytest.approx(0, abs=1e-12) and (found["lpips_draw"] > 1e-4).all()
    assert "lpips" not in scores(truth, arrays) and open_perceptual("", truth) is None
    assert open_perceptual(f"alex:{weights}", None) is None  # real measurements: nothing to compare with
    with pytest.raises(ConfigError, match="config.restore.lpips: .*these have 16x16"):
        open_perceptual(f"alex:{weights}", images(2, 16))
