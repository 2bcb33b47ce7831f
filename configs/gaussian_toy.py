"""Exact answers: two correlated coordinates, one view each; measured against closed forms.

Source:   the budget in nats and the residual of views of a Gaussian (docs/design.md).
Command:  python launch.py --config=configs/gaussian_toy.py
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ())
    config = default.get_config()
    config.title = "Gaussian toy: measured against exact"
    config.task = "gaussian_toy"
    return config
