"""Tiled denoisers: exact for what looks no further than the margin, whatever the overlap for pointwise ones."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.sampling import posterior_denoiser, tiled
from jaxdiff.sampling.tiling import tile_weights

TILE = (8, 8, 1)
RNG = np.random.default_rng(0)


def pointwise(x, sigma):
    """The exact denoiser of independent pixels N(0.2, 0.3^2)."""
    gain = 0.09 / (0.09 + jnp.square(sigma))[:, None, None, None]
    return 0.2 + gain * (x - 0.2)


def local(x, sigma):
    """3 x 3 means with padding: looks one pixel far, and sees zeros beyond the frame."""
    kernel = jnp.ones((3, 3, 1, 1)) / 9
    numbers = ("NHWC", "HWIO", "NHWC")
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), "SAME", dimension_numbers=numbers)


@pytest.mark.parametrize("size", (8, 9, 13, 21, 40))
@pytest.mark.parametrize("overlap", (0, 1, 3, 4))
def test_weights_sum_to_one_and_are_smooth(size, overlap):
    starts, weights = tile_weights(size, 8, overlap)
    total = np.zeros(size)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + 8] += weight
    np.testing.assert_allclose(total, 1.0)
    assert starts[0] == 0 and starts[-1] == size - 8 and (weights >= 0).all()
    assert all(after - before <= 8 - overlap for before, after in zip(starts, starts[1:], strict=False))


@pytest.mark.parametrize("overlap", (0, 2, 4))
@pytest.mark.parametrize("shape", ((8, 8, 1), (13, 20, 1), (16, 8, 1)))
def test_a_pointwise_denoiser_is_the_same_in_tiles(shape, overlap):
    x, sigma = jnp.asarray(RNG.normal(size=(3, *shape)), jnp.float32), jnp.array([0.1, 1.0, 10.0])
    found = tiled(pointwise, TILE, shape, overlap)(x, sigma)
    np.testing.assert_allclose(found, pointwise(x, sigma), atol=1e-6)


def test_a_local_denoiser_is_exact_with_a_margin_and_not_without():
    shape = (19, 24, 1)
    x, sigma = jnp.asarray(RNG.normal(size=(2, *shape)), jnp.float32), jnp.ones(2)
    np.testing.assert_allclose(tiled(local, TILE, shape, 4)(x, sigma), local(x, sigma), atol=1e-6)
    assert jnp.abs(tiled(local, TILE, shape, 0)(x, sigma) - local(x, sigma)).max() > 0.1
    # Its transposed Jacobian, which guidance needs, is exact as well.
    v = jnp.asarray(RNG.normal(size=x.shape), jnp.float32)
    products = [
        jax.vjp(lambda x, d=d: d(x, sigma), x)[1](v)[0] for d in (tiled(local, TILE, shape, 4), local)
    ]
    np.testing.assert_allclose(*products, atol=1e-6)


def test_a_posterior_denoiser_through_tiles_is_that_of_the_whole_image():
    """Any operator: super-resolution ties pixels of two tiles to one number."""
    shape = (12, 8, 1)
    operator = operators.build("avg_pool", shape, factor=4)
    x, y = (jnp.asarray(RNG.normal(size=(2, *s)), jnp.float32) for s in (shape, operator.out_shape))
    found = [
        posterior_denoiser(d, operator, y, jnp.full(2, 0.1))(x, jnp.array([0.3, 2.0]))
        for d in (tiled(pointwise, TILE, shape, 2), pointwise)
    ]
    np.testing.assert_allclose(*found, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "overlap", "message"),
    [
        ((7, 9, 1), 2, "tiles of 8 pixels do not fit in an image of 7"),
        ((9, 9, 1), 5, r"in \[0, 4\]; got 5, nearest valid: 4"),
        ((9, 9, 1), -1, "nearest valid: 0"),
        ((9, 9, 3), 2, "tiles have 1 channels, the image 3"),
    ],
)
def test_what_cannot_be_tiled(shape, overlap, message):
    with pytest.raises(ValueError, match=message):
        tiled(pointwise, TILE, shape, overlap)
