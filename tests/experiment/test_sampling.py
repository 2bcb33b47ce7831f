"""Samples of an experiment: which sampler, where it stops, what is written, what is said."""

import io

import numpy as np
import pytest
from rich.console import Console

from configs import digits_noisy_mix, digits_residual
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.experiment.checks import ConfigError, check_names
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.sampling import draw_samples, taught_from, write_samples

SHAPE = (8, 8, 1)
GAUSSIAN = gaussian_from_covariance(np.full(SHAPE, 0.9), 0.04 * np.eye(64))


def tiny(**sample):
    config = digits_residual.get_config("tiny")
    config.sample.update(method="gaussian", **sample)
    return config


def drawn(config, count, stop="denoised", console=None):
    plan = make_plan(config, SHAPE)
    return draw_samples(plan, Parts(reference=GAUSSIAN), config, "gaussian", count, console, stop)


def test_a_sampler_stops_at_its_level_with_or_without_the_noise(tmp_path):
    config = tiny(sampler="ancestral", steps=24, sigma_min=0.5, batch=24)
    noisy, denoised = drawn(config, 24, "noisy"), drawn(config, 24)
    assert noisy.dtype == np.float32 and np.abs(noisy).max() > 1.5  # not clipped
    assert noisy.std() == pytest.approx((0.04 + 0.25) ** 0.5, rel=0.1)
    assert denoised.max() <= 1.0
    # D shrinks towards the mean: its spread is 0.04 / sqrt(0.04 + 0.25), less where clipped.
    assert 0.03 < denoised.std() < 0.04 / (0.04 + 0.25) ** 0.5
    _, arrays = write_samples(noisy, tmp_path, "noisy", sigma=0.5)
    with np.load(arrays) as stored:
        np.testing.assert_array_equal(stored["images"], noisy)
        assert stored["sigma"] == 0.5
    _, arrays = write_samples(denoised, tmp_path, "denoised")
    with np.load(arrays) as stored:
        assert stored["images"].dtype == np.uint8 and "sigma" not in stored
    config.sample.batch = 7  # fresh noise comes from the image's own key
    np.testing.assert_allclose(drawn(config, 24, "noisy"), noisy, atol=1e-4)


def test_sampling_below_what_was_taught_is_said():
    config = digits_noisy_mix.get_config("noisy")
    plan = make_plan(config, (16, 16, 1))
    assert taught_from(plan, Parts(), "view/noisy") == config.views.noisy.consistency.sigma_min
    config.views.noisy.consistency.weight = 0.0
    plan = make_plan(config, (16, 16, 1))
    assert taught_from(plan, Parts(), "view/noisy") == pytest.approx(0.5 * (4 / 3) ** 0.5)
    assert taught_from(plan, Parts(), "gaussian") == 0.0

    config.sample.update(steps=2, batch=1)
    for low, said in ((0.1, True), (0.6, False)):
        config.sample.sigma_min = low
        text = io.StringIO()
        # The word comes before the first draw, which has no network here.
        with pytest.raises(KeyError):
            draw_samples(plan, Parts(), config, "view/noisy", 1, Console(file=text))
        assert ("nothing below sigma = 0.577: config.sample.sigma_min=0.577" in text.getvalue()) == said


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"sampler": "ancestrel"}, "config.sample.sampler: .*did you mean 'ancestral'"),
        ({"sampler": "ddmi"}, "config.sample.sampler: .*did you mean 'ddim'"),
        ({"stop": "noise"}, "config.sample.stop: .*did you mean 'noisy'"),
        ({"sampler": "ddim", "eta": 1.2}, "config.sample: eta must lie between 0 and 1, got 1.2"),
        ({"eta": 0.5}, "config.sample: eta = 0.5 is for the sampler 'ddim'; 'heun' adds no fresh noise"),
        ({"sampler": "ancestral", "s_churn": 4.0}, "config.sample: s_churn = 4.0 is for .* set it to 0"),
    ],
)
def test_wrong_samplers_are_named(change, said):
    with pytest.raises(ConfigError, match=said):
        check_names(tiny(**change))


def test_right_samplers_pass():
    for change in ({"sampler": "ddim", "eta": 0.5}, {"sampler": "ancestral"}, {"stop": "noisy"}):
        check_names(tiny(**change))
