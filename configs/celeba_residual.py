"""CelebA at 64 x 64 from five views and 3,000 clean images.

The views: low resolution, gray, a crop of eyes and mouth, watermarked at a place that differs, noisy.

Source:   the setting is that of Ma 2025 (arXiv 2505.11825) in outline; network and optimiser after EDM
          (Karras et al. 2022) and the CelebA recipe of Ambient Diffusion (arXiv 2305.19256): multipliers 1,
          2, 2, 2, learning rate 2e-4, dropout 0.1, batch 256, gradient clipping at 1.
Command:  python launch.py --config=configs/celeba_residual.py
          python launch.py --config=configs/celeba_residual.py --config.data.source=zip:img_align_celeba.zip
          python launch.py --config=configs/celeba_residual.py --config.data.source=folder:PATH   (any faces)
          python launch.py --config=configs/celeba_residual.py:tiny --config.data.source=folder:PATH
                                                                              (minutes, on a CPU)
Cost:     not measured: no figure is given here until it is.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("tiny",))
    config = default.get_config()
    config.title = "CelebA 64 x 64 from five views"
    config.data.source = "tfds:celeb_a"
    config.data.image_size = 64
    config.data.channels = 3
    config.data.clean = 3000
    config.data.tuning = 500
    config.data.held_out = 5000
    config.data.flip = True
    views, share = config.views, 1 / 5
    views.low_res = default.view({"name": "avg_pool", "factor": 4}, share)
    views.gray = default.view({"name": "grayscale"}, share)
    views.eyes_mouth = default.view({"name": "crop", "top": 20, "left": 12, "height": 32, "width": 40}, share)
    views.watermarked = default.view({"name": "overlay", "kind": "watermark"}, share, "ambient")
    views.watermarked.masks = 3  # each hides little: a few of them see everything
    views.noisy = default.view({"name": "identity"}, share, "tweedie", 0.2)
    config.network.channels = 128
    config.network.channel_mults = (1, 2, 2, 2)
    config.network.blocks = 2
    config.network.attention = (2,)
    config.network.dropout = 0.1
    config.train.steps = 100_000
    config.train.batch = 256
    config.train.lr = 2e-4
    config.train.warmup = 5000
    config.train.decay = "constant"
    config.train.ema_halflife = 500_000.0
    config.train.dtype = "bfloat16"
    config.train.checkpoint_every = 2000
    config.train.tune_every = 2000
    for part in (config.residual, config.clean_only):
        part.train.steps = 30_000  # 3,000 images: more steps only overfit
        part.train.weight_decay = 0.01
    config.residual.penalty = 0.1
    config.composition.gaussian = "ppca"
    config.composition.rank = 256
    config.bands.tuning_draws = 1
    config.evaluate.max_images = 2000
    config.sample.steps = 32
    return tiny(config) if variant == "tiny" else config


def tiny(config: ConfigDict) -> ConfigDict:
    """The same pipeline in minutes on a CPU, on any colour images."""
    config.title = "Colour images, tiny: the CelebA pipeline, shrunken"
    config.data.image_size = 16
    config.data.clean = 24
    config.data.tuning = 8
    config.data.held_out = 16
    config.views.low_res.operator.factor = 2
    config.views.eyes_mouth.operator.update(top=4, left=4, height=8, width=8)
    config.network.channels = 16
    config.network.channel_mults = (1, 2)
    config.network.blocks = 1
    config.network.attention = ()
    config.train.steps = 60
    config.train.batch = 16
    config.train.lr = 1e-3
    config.train.warmup = 10
    config.train.ema_halflife = 500.0
    config.train.dtype = "float32"
    config.train.checkpoint_every = 30
    config.train.tune_every = 30
    for part in (config.residual, config.clean_only):
        part.train.steps = 60
    config.composition.rank = 8
    config.bands.count = 6
    config.sample.count = 16
    config.sample.steps = 8
    return config
