"""Digits from everything at hand: low-resolution, masked, noisy and watermarked ones, and 100 clean, composed.

Source:   views and residual after the idea of Ma 2025 (arXiv 2505.11825), masked after Ambient Diffusion (arXiv
          2305.19256), noisy after arXiv 2411.02780; the setting is this project's.
Command:  python launch.py --config=configs/digits_everything.py
          python launch.py --config=configs/digits_everything.py:clean_only   (the 100 clean ones alone)
          python launch.py --config=configs/digits_everything.py:tiny         (the pipeline in minutes)
Cost:     see the README (measured). All stages of the composed model together see 256,000 images, like every row.
"""

from ml_collections import ConfigDict

from configs import default, digits


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("clean_only", "tiny"))
    config = digits.get_config("Digits from everything: four kinds of imperfect data and 100 clean")
    config.data.clean, config.data.tuning = 80, 20
    if variant == "clean_only":
        config.title = "Digits: 100 clean, nothing else"
        config.methods = ("clean_only",)
        config.clean_only.network.dropout = 0.1
        config.clean_only.train.weight_decay = 0.01
        return config
    config.methods = ("views_only", "residual")
    views = config.views
    views.low_res = default.view({"name": "avg_pool", "factor": 2}, 1 / 4)
    views.low_res.network.patch = 1
    views.masked = default.view({"name": "pixel_mask", "p": 0.6}, 1 / 4, "ambient")
    views.noisy = default.view({"name": "identity"}, 1 / 4, "tweedie", 0.5)
    views.watermarked = default.view({"name": "overlay", "kind": "watermark"}, 1 / 4, "ambient")
    for name in views:
        views[name].train.steps = 1800
    config.residual.train.steps = 800
    config.residual.network.dropout = 0.1
    config.residual.train.weight_decay = 0.01
    config.residual.train.tune_every = 100
    config.residual.train.patience = 6
    if variant == "tiny":
        config = digits.tiny(config)
        config.data.clean, config.data.tuning = 24, 16
        for part in (*views.values(), config.residual):
            part.train.steps = 6
            part.train.tune_every = 3
    return config
