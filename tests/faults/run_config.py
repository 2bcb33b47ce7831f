"""The run that is hurt: two stages at 8 x 8, networks of a few hundred numbers, a checkpoint every few steps."""

from ml_collections import ConfigDict

from configs import default


def get_config() -> ConfigDict:
    config = default.get_config()
    config.title = "A small run, to be hurt"
    config.data.source = "sklearn_digits"
    config.data.clean, config.data.tuning, config.data.held_out = 40, 8, 8
    config.views.low_res = default.view({"name": "avg_pool", "factor": 2}, 0.2)
    config.methods = ("residual",)
    config.composition.candidates = ("gaussian", "fusion")
    config.network = ConfigDict({"name": "mlp", "width": 8, "blocks": 1})
    config.train.update(steps=60, batch=8, checkpoint_every=3, tune_every=30, warmup=2)
    config.bands.count = 4
    return config
