"""LPIPS against the published package, its own linear weights and a random network.

`pip install torch torchvision lpips`, then `pytest -n 0 -m slow tests/evaluation/test_lpips_torch.py`.
"""

from pathlib import Path

import numpy as np
import pytest

from jaxdiff.evaluation.lpips import convert_weights, open_lpips

torch = pytest.importorskip("torch")
torchvision = pytest.importorskip("torchvision")
lpips = pytest.importorskip("lpips")
pytestmark = pytest.mark.slow


@pytest.mark.parametrize(("name", "maker"), [("alex", "alexnet"), ("vgg", "vgg16")])
def test_distance_is_that_of_the_package(name, maker, tmp_path):
    torch.manual_seed(0)
    network = getattr(torchvision.models, maker)(weights=None)
    theirs = lpips.LPIPS(net=name, pnet_rand=True, verbose=False)
    values = iter(network.features.state_dict().values())
    for layer in (layer for index in range(1, 6) for layer in getattr(theirs.net, f"slice{index}")):
        if hasattr(layer, "weight"):
            layer.weight.data, layer.bias.data = next(values).clone(), next(values).clone()
    torch.save(network.state_dict(), tmp_path / "network.pth")
    linear = Path(lpips.__file__).parent / "weights" / "v0.1" / f"{name}.pth"
    convert_weights(name, tmp_path / "network.pth", linear, tmp_path / "out.npz")
    ours = open_lpips(f"{name}:{tmp_path / 'out.npz'}")
    rng = np.random.default_rng(0)
    for height, width in ((64, 48), (ours.least_side, ours.least_side)):
        pair = [rng.uniform(-1, 1, (3, height, width, 3)).astype(np.float32) for _ in range(2)]
        with torch.no_grad():
            want = theirs(*(torch.tensor(images.transpose(0, 3, 1, 2)) for images in pair)).numpy().ravel()
        np.testing.assert_allclose(ours.distance(*pair), want, rtol=1e-5)
