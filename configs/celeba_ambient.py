"""CelebA with missing pixels: Ambient Diffusion.

Source:   Daras et al. 2023 (arXiv 2305.19256) [paper]: pixel dust p = 0.6, 0.8 or 0.9, delta = 0.1; multipliers
          1, 2, 2, 2, learning rate 2e-4, dropout 0.1, batch 256, gradient clipping at 1.
Command:  python launch.py --config=configs/celeba_ambient.py         (p = 0.6; also :80 and :90)
          python launch.py --config=configs/celeba_ambient.py --config.data.source=zip:img_align_celeba.zip
          python launch.py --config=configs/celeba_ambient.py:tiny --config.data.source=folder:PATH
                                                                      (any colour images; minutes, on a CPU)
Cost:     not measured.
Figures:  FID 6.08, 11.19, 25.53 at p = 0.6, 0.8, 0.9 [paper, its mask drawn after a random flip]. None measured.
"""

from ml_collections import ConfigDict

from configs import cifar10, default

MISSING = {"": 0.6, "60": 0.6, "80": 0.8, "90": 0.9, "tiny": 0.6}


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, tuple(key for key in MISSING if key))
    p = MISSING[variant]
    config = cifar10.get_config(f"CelebA with {100 * p:.0f} % of the pixels missing")
    config.data.source = "tfds:celeb_a"
    config.data.image_size = 64
    config.data.held_out = 5000
    config.network.channel_mults = (1, 2, 2, 2)  # paper
    config.network.attention = (2,)  # paper: at 16 x 16
    config.network.dropout = 0.1  # paper
    config.train.batch = 256  # paper
    config.train.lr = 2e-4  # paper
    config.train.clip = 1.0  # paper
    config.train.steps = cifar10.IMAGES // 256
    config.train.warmup = cifar10.RAMP // 256
    config.composition.gaussian = "ppca"
    config.composition.rank = 256
    config.evaluate.max_images = 2000
    config.views.masked = default.view({"name": "pixel_mask", "p": p}, 1.0, "ambient")
    config.views.masked.delta = 0.1  # paper
    if variant == "tiny":
        config = cifar10.tiny(config)
        config.data.source = "folder:photographs"  # a hundred or more colour images
        config.data.held_out, config.data.reference, config.data.limit = 24, 40, 0
        config.composition.rank = 8
    return config
