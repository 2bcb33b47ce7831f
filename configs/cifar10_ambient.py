"""CIFAR-10 with missing pixels: Ambient Diffusion.

Source:   Daras et al. 2023 (arXiv 2305.19256) [paper]: pixel dust p = 0.2, 0.4 or 0.6, delta = 0.1, EDM's network and
          optimiser (configs/cifar10.py).
Command:  python launch.py --config=configs/cifar10_ambient.py        (p = 0.4; also :20 and :60)
          python launch.py --config=configs/cifar10_ambient.py:tiny   (minutes, on a CPU)
Cost:     not measured.
Figures:  FID 11.70, 18.85, 28.88 at p = 0.2, 0.4, 0.6 [paper, with its mask drawn after a random flip: about 36 %, 64 %
          and 84 % of the pixels seen in one of the two, where this config shows 80 %, 60 % and 40 %]. None measured.
"""

from ml_collections import ConfigDict

from configs import cifar10, default

MISSING = {"": 0.4, "20": 0.2, "40": 0.4, "60": 0.6, "tiny": 0.4}


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, tuple(key for key in MISSING if key))
    p = MISSING[variant]
    config = cifar10.get_config(f"CIFAR-10 with {100 * p:.0f} % of the pixels missing")
    config.views.masked = default.view({"name": "pixel_mask", "p": p}, 1.0, "ambient")
    config.views.masked.delta = 0.1  # paper
    return cifar10.tiny(config) if variant == "tiny" else config
