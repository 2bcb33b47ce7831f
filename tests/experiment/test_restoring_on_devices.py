"""Restorations on eight devices are those on one: batches are split, draws are by image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.data.measure import measure
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment import restoring
from jaxdiff.experiment.priors import Prior
from jaxdiff.experiment.restore_plan import RestorePlan
from jaxdiff.operators import build

SHAPE = (4, 4, 1)


def request(batch):
    return RestorePlan(
        priors=("gaussian",),
        methods=("mmps",),
        settings={"mmps": {"cg_steps": 2}},
        sigmas={"mmps": karras_schedule(4, 0.05, 5.0)},
        sampler="heun",
        specs={},
        input="held_out",
        image_size=SHAPE[:2],
        sigma_y=0.1,
        count=0,
        batch=batch,
        draws=2,
        level=0.5,
        seed=1,
        shown=1,
        overlap=0,
        name="x",
    )


@pytest.mark.parametrize("name", ["avg_pool", "pixel_mask"])
def test_eight_devices_equal_one(name, monkeypatch):
    mean = jnp.linspace(-0.5, 0.5, 16).reshape(SHAPE)
    prior = Prior("gaussian", {"mean": mean}, lambda arrays, x, sigma: _denoised(arrays, x, sigma))
    operator = build(name, SHAPE, **({"factor": 2} if name == "avg_pool" else {"p": 0.5}))
    truth = np.random.default_rng(0).uniform(-1, 1, (11, *SHAPE)).astype(np.float32)
    rows = np.arange(11)
    measured = measure(operator, truth, rows, 1, 0.1)

    def restored(batch):
        return restoring.restore_all(
            prior, "mmps", operator, measured, rows, request(batch), lambda done: None
        )[0]

    used = []
    real = restoring.placing
    monkeypatch.setattr(
        restoring, "placing", lambda batch: used.append(len(real(batch)(mean).devices())) or real(batch)
    )
    split, whole = restored(8), restored(5)
    assert used == [8, 1] and set(split) == set(whole) and split["mean"].shape == (11, *SHAPE)
    for key in split:
        np.testing.assert_allclose(split[key], whole[key], atol=2e-5)


def _denoised(arrays, x, sigma):
    """Of N(mean, 0.25)."""
    gain = (0.25 / (0.25 + sigma**2))[:, None, None, None]
    return arrays["mean"] + gain * (x - arrays["mean"])


def test_one_device_places_as_before(monkeypatch):
    monkeypatch.setattr(jax, "local_devices", lambda: jax.devices()[:1])
    found = restoring.placing(8)({"a": np.ones(8)}, 0)
    assert len(found["a"].devices()) == 1
