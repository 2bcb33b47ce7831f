"""What stages cost, counted by hand; which stages runs have in common."""

import flax.linen as nn
import jax.numpy as jnp
import pytest
from rich.console import Console

from configs import digits_compare
from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.experiment.cost import Cost, denoiser_flops, read_cost, stage_cost, write_cost
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.sharing import shared_stages
from jaxdiff.methods import denoising
from jaxdiff.operators import Measurement


class OneLayer(nn.Module):
    @nn.compact
    def __call__(self, x, c_noise, cond=None, train=False):
        return nn.Dense(5, use_bias=False)(x)


def factory(frozen):
    return denoising(OneLayer(), NoiseDistribution(), 1.0)


EXAMPLE = Measurement(y=jnp.zeros((1, 5)), params=None, sigma_y=jnp.zeros(1))


def test_a_stage_costs_its_loss_and_its_gradient():
    # The gradient in the layer's own weights is one more product; its input needs none.
    assert stage_cost(factory, {}, EXAMPLE, batch=4) == Cost(2 * 5 * 5, 2 * 2 * 5 * 5)


def test_the_cost_is_kept(tmp_path):
    write_cost(tmp_path / "cost.json", factory, {}, EXAMPLE, 4)
    assert read_cost(tmp_path / "cost.json") == Cost(50.0, 100.0)
    assert read_cost(tmp_path / "none.json") == Cost(0.0, 0.0)


def test_a_denoiser_costs_what_it_multiplies():
    def apply(matrix, x, sigma):
        return (x.reshape(len(x), -1) @ matrix).reshape(x.shape)

    assert denoiser_flops(apply, jnp.ones((6, 6)), (2, 3, 1)) == 2 * 6 * 6


def stages(tmp_path, **changes):
    config = digits_compare.get_config("tiny-views")
    config.data.unused_clean = "none"  # else a clean example fewer is one more of a view
    for path, value in changes.items():
        place, _, key = path.rpartition("__")
        (config[place] if place else config)[key] = value
    data = load_data(config, Console(quiet=True))
    return shared_stages(config, make_plan(config, data.image_shape), data, tmp_path)


def test_runs_share_views_where_nothing_that_matters_differs(tmp_path):
    base = stages(tmp_path)
    assert set(base) == {"view/low_res", "view/top", "view/bottom"}
    assert stages(tmp_path, composition__fusion="sum", title="another") == base
    assert stages(tmp_path, data__clean=20) == base  # the tuning images are the same


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"data__tuning": 10}, {"train__lr": 1e-4}, {"noise__P_mean": -1.0}]
)
def test_runs_do_not_share_views_that_would_come_out_different(tmp_path, change):
    base, other = stages(tmp_path), stages(tmp_path, **change)
    assert not set(base.values()) & set(other.values())
