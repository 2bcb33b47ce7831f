"""Every guidance with every operator of the registry, by name; keys, grids and refusals."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.noise import expand, karras_schedule
from jaxdiff.operators.catalog import FAMILIES
from jaxdiff.sampling import GUIDANCES, posterior_draws, restore

BATCH, GRID = 3, karras_schedule(4, 0.1, 10.0)
IMAGE = (8, 8, 2)
ARGUMENTS = {
    "avg_pool": {"factor": 2},
    "box_mask": {"size": 2},
    "coordinates": {"indices": (0, 2)},
    "crop": {"top": 1, "left": 2, "height": 4, "width": 4},
    "gaussian_blur": {"std": 1.0},
    "grayscale": {"weights": (0.3, 0.7)},
    "keep_patch": {"size": 3},
    "mask": {"mask": "top"},
    "motion_blur": {"length": 3},
    "overlay": {"kind": "logo"},
    "pixel_mask": {"p": 0.5},
    "scan_lines": {"p": 0.5},
    "sensing": {"measurements": 6, "matrices": 2},
    "compose": {
        "operators": [{"name": "grayscale", "weights": (0.3, 0.7)}, {"name": "gaussian_blur", "std": 1.0}]
    },
}
NAMES = [*FAMILIES, "compose"]


def denoiser(x, sigma):
    return x / (1 + expand(sigma, x) ** 2)


def prior(method, shape, keys):
    """The denoiser that a method takes, and the settings that it must have."""
    if method != "ambient_dps":
        return denoiser, {}
    return lambda x, sigma, _: denoiser(x, sigma), {
        "further": operators.build("pixel_mask", shape, p=0.1).draw(keys)
    }


def draws(method, operator, y, keys, sigma_y=0.1, **settings):
    given, needed = prior(method, operator.in_shape, keys)
    noise = jnp.full(len(y), sigma_y)
    return restore(method, given, operator, y, noise, keys, GRID, **needed, **settings)


@pytest.mark.parametrize("name", NAMES)
def test_every_guidance_takes_every_operator_or_says_why_not(name):
    """Traced and not compiled: shapes and refusals come before any compilation."""
    shape = (8,) if name == "coordinates" else IMAGE
    operator = operators.build(name, shape, **ARGUMENTS.get(name, {}))
    like = jax.eval_shape(lambda: jax.random.split(jax.random.key(0), BATCH))
    for method in GUIDANCES:

        def draw(keys, method=method):
            y = jnp.zeros((BATCH, *operator.out_shape))
            return draws(method, operator.draw(keys), y, keys)

        if method == "repaint" and operator.c is None:
            with pytest.raises(ValueError, match=f"repaint: {name}"):
                jax.eval_shape(draw, like)
        else:
            assert jax.eval_shape(draw, like).shape == (BATCH, *shape)


@pytest.mark.parametrize("method", ["mmps", "ddrm"])
def test_a_draw_depends_on_its_own_example_and_key(method):
    """A batch in one call is what its examples are alone; hidden values of y do not matter, NaN included."""
    operator = operators.build("pixel_mask", (4,), p=0.5)
    keys = jax.random.split(jax.random.key(0), BATCH)
    mask = jnp.array([[1, 1, 0, 0], [0, 1, 1, 0], [1, 0, 0, 1]], bool)
    y = jnp.where(mask, jnp.arange(12.0).reshape(BATCH, 4) / 12, jnp.nan)
    run = jax.jit(lambda mask, y, keys: draws(method, operator.replace(params={"mask": mask}), y, keys))
    found = run(mask, y, keys)
    order = jnp.array([2, 0, 1])
    np.testing.assert_allclose(run(mask[order], y[order], keys[order]), found[order], atol=1e-5)
    assert np.isfinite(found).all()
    other = run(mask, y, keys[order])
    assert np.abs(other - found).max(axis=1).min() > 1e-3  # another key, another draw


def test_several_draws_are_those_of_their_keys():
    operator = operators.build("coordinates", (3,), indices=(0,))
    y, sigma_y = jnp.ones((BATCH, 1)), jnp.full(BATCH, 0.1)
    keys = jax.random.split(jax.random.key(0), (2, BATCH))
    many = jax.jit(lambda keys: posterior_draws("diffpir", denoiser, operator, y, sigma_y, keys, GRID))(keys)
    one = jax.jit(lambda keys: restore("diffpir", denoiser, operator, y, sigma_y, keys, GRID))(keys[1])
    assert many.shape == (2, BATCH, 3)
    np.testing.assert_allclose(many[1], one, atol=1e-5)
    with pytest.raises(ValueError, match="draws, examples"):
        posterior_draws("diffpir", denoiser, operator, y, sigma_y, keys[0], GRID)


BAD = [
    ("mpms", {}, "did you mean 'mmps'"),
    ("dps", {"scal": 1.0}, "setting of dps 'scal'; did you mean 'scale'"),
    ("dps", {"norm": "plane"}, "did you mean 'plain'"),
    ("dps", {"scale": 0.0}, "scale must be positive"),
    ("dps", {"norm": "likelihood", "sigma_y": 0.0}, "needs sigma_y > 0"),
    ("mmps", {"cg_steps": 0}, "cg_steps"),
    ("mmps", {"sigma_y": -0.1}, "standard deviation"),
    ("pigdm", {"sigma_data": -1.0}, "sigma_data must be positive"),
    ("ddrm", {"eta": 1.5}, r"eta is in \[0, 1\].*nearest valid: 1"),
    ("diffpir", {"zeta": -0.5}, r"zeta is in \[0, 1\].*nearest valid: 0"),
    ("repaint", {"resamples": 0}, "resamples"),
    ("one_step", {"start": "pin"}, "did you mean 'pinv'"),
]


@pytest.mark.parametrize("method, settings, message", BAD)
def test_what_makes_no_sense_is_refused(method, settings, message):
    operator = operators.build("identity", (2,))
    keys = jax.random.split(jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match=message):
        draws(method, operator, jnp.zeros((BATCH, 2)), keys, **settings)


def test_grids_and_keys_that_do_not_fit_are_refused():
    operator, y, sigma_y = operators.build("identity", (2,)), jnp.zeros((BATCH, 2)), jnp.zeros(BATCH)
    keys = jax.random.split(jax.random.key(0), BATCH)
    with pytest.raises(ValueError, match="strictly decreasing"):
        restore("ddrm", denoiser, operator, y, sigma_y, keys, np.array([1.0, 2.0]))
    with pytest.raises(ValueError, match="one key for each"):
        restore("ddrm", denoiser, operator, y, sigma_y, keys[:2], GRID)
    with pytest.raises(ValueError, match="further mask is for examples"):
        further = operators.build("identity", (3,))
        restore("ambient_dps", denoiser, operator, y, sigma_y, keys, GRID, further=further)
