"""k-space against NumPy's FFT, masks against the published counts, and what ambient training makes of both."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.operators.fourier import simulated_maps, to_channels, to_complex

SHAPE = (6, 8, 2)
MULTI = {"acceleration": 2, "coils": 3, "center": 2}


def keys(seed, count):
    return jax.random.split(jax.random.key(seed), count)


def images(shape=SHAPE, count=3):
    return jax.random.normal(jax.random.key(7), (count, *shape))


def transform(z):
    """Centred orthonormal transform, written out: frequency f of n at f - n // 2, positions likewise."""
    for axis in (-2, -1):
        n = z.shape[axis]
        place = np.arange(n) - n // 2
        matrix = np.exp(-2j * np.pi * np.outer(place, place) / n) / n**0.5
        z = np.moveaxis(np.moveaxis(z, axis, -1) @ matrix.T, -1, axis)
    return z


@pytest.mark.parametrize("shape", [(6, 8, 2), (5, 7, 2)])
@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_single_coil_is_the_masked_transform(shape, axis):
    op = operators.build("fourier", shape, acceleration=2, center=1, axis=axis).draw(keys(0, 3))
    x = images(shape)
    y = np.asarray(to_complex(op(x)))
    lines = np.asarray(op.params["lines"])
    seen = np.broadcast_to(lines[:, :, None] if axis == "rows" else lines[:, None, :], y.shape)
    np.testing.assert_allclose(y, np.where(seen, transform(np.asarray(to_complex(x))), 0), atol=2e-6)
    assert (y[~seen] == 0).all() and lines[:, lines.shape[1] // 2].all()
    np.testing.assert_array_equal(op.reached(3)[..., 0], seen)


@pytest.mark.parametrize("maps", ["drawn", "fixed"])
def test_each_coil_sees_the_image_times_its_map(maps):
    op = operators.build("multicoil_fourier", SHAPE, maps=maps, seed=4, **MULTI).draw(keys(0, 3))
    x = images()
    if maps == "drawn":
        sensitivity = op.params["maps"]
        assert sensitivity.shape == (3, 3, 6, 8, 2)
        assert float(jnp.abs(sensitivity[0] - sensitivity[1]).max()) > 0.1
    else:
        assert set(op.params) == {"lines"}
        sensitivity = jnp.broadcast_to(simulated_maps(jax.random.key(4), (6, 8), 3), (3, 3, 6, 8, 2))
    whole = transform(np.asarray(to_complex(sensitivity) * to_complex(x)[:, None]))
    expected = np.where(np.asarray(op.params["lines"])[:, None, None, :], whole, 0)
    np.testing.assert_allclose(to_complex(op(x)), expected, atol=2e-6)


def test_the_adjoint_is_the_complex_one():
    """<A x, y> = <x, A^H y> for the complex inner product, of which the real one is the real part."""
    op = operators.build("multicoil_fourier", SHAPE, **MULTI).draw(keys(0, 3))
    x, y = images(), jax.random.normal(jax.random.key(1), (3, *op.out_shape))
    left = jnp.sum(jnp.conj(to_complex(op(x))) * to_complex(y), axis=(1, 2, 3))
    right = jnp.sum(jnp.conj(to_complex(x)) * to_complex(op.adjoint(y)), axis=(1, 2))
    np.testing.assert_allclose(left, right, atol=1e-4)


def test_norm():
    """|A| = 1 for one coil and for many; with every line measured A^T A = I for both."""
    for name, args in (("fourier", {}), ("multicoil_fourier", {"coils": 3})):
        whole = operators.build(name, SHAPE, **args).draw(keys(0, 3))
        np.testing.assert_allclose(whole.adjoint(whole(images())), images(), atol=1e-5)
        op = operators.build(name, SHAPE, acceleration=2, center=2, **args).draw(keys(0, 3))
        size = int(np.prod(SHAPE))
        basis = jnp.eye(size).reshape(size, *SHAPE)
        columns = jax.vmap(lambda e, op=op: op(jnp.broadcast_to(e, (3, *SHAPE))))(basis)
        matrices = np.moveaxis(np.asarray(columns).reshape(size, 3, -1), 0, 2)
        for matrix in matrices:
            largest = np.linalg.svd(matrix, compute_uv=False)[0]
            assert (
                0.5 < largest < 1 + 1e-5
                if name == "multicoil_fourier"
                else largest == pytest.approx(1, abs=1e-5)
            )


@pytest.mark.parametrize("coils", [1, 4])
def test_simulated_maps_are_normalised_and_smooth(coils):
    maps = np.asarray(to_complex(simulated_maps(jax.random.key(2), (32, 48), coils)))
    np.testing.assert_allclose((np.abs(maps) ** 2).sum(axis=0), 1.0, atol=1e-5)
    # No pixel differs much from its neighbour, and the coils differ.
    assert max(np.abs(np.diff(maps, axis=1)).max(), np.abs(np.diff(maps, axis=2)).max()) < 0.3
    if coils > 1:
        assert np.abs(maps[0]).std() > 0.1


@pytest.mark.parametrize(("rate", "dropped"), [(2, 54), (4, 16), (6, 8), (8, 5)])
def test_masks_have_the_published_numbers_of_lines(rate, dropped):
    op = operators.build("fourier", (4, 320, 2), acceleration=rate).draw(keys(0, 200))
    lines = np.asarray(op.params["lines"])
    assert (lines.sum(axis=1) == 320 // rate).all()
    assert lines[:, 150:170].all() and lines[:, 160].all() and not lines[:, 149].all()
    less = np.asarray(op.further_corrupt(keys(1, 200), 1 / (rate + 1)).params["lines"])
    assert (lines.sum(axis=1) - less.sum(axis=1) == dropped).all()
    assert (less.sum(axis=1) == 320 // (rate + 1)).all()
    assert less[:, 150:170].all() and not (less & ~lines).any()
    # Outside of the centre all lines are alike.
    share = np.delete(less, np.arange(150, 170), axis=1).mean(axis=0)
    expected = (320 // (rate + 1) - 20) / 300
    assert np.abs(share - expected).max() < 5 * (expected / 200) ** 0.5


def test_any_acceleration_and_the_centre_alone_is_left_when_there_is_no_more():
    op = operators.build("fourier", (4, 64, 2), acceleration=3.5).draw(keys(0, 50))
    assert (np.asarray(op.params["lines"]).sum(axis=1) == 18).all()
    less = np.asarray(op.further_corrupt(keys(1, 50), 0.95).params["lines"])
    assert (less.sum(axis=1) == 4).all() and less[:, 30:34].all()


def test_a_measured_mask_without_a_centre_stays_within_itself():
    op = operators.build("fourier", (4, 8, 2), acceleration=2, center=2)
    lines = jnp.array([[True, False, True, False, False, True, False, True]])
    less = np.asarray(op.with_params({"lines": lines}).further_corrupt(keys(1, 1), 0.5).params["lines"])
    assert less.sum() == 2 and not (less & ~np.asarray(lines)).any()


@pytest.mark.parametrize("name", ["fourier", "multicoil_fourier"])
@pytest.mark.parametrize("shown", [0.0, 0.5])
def test_a_cover_shows_every_line_evenly(name, shown):
    op = operators.build(name, (4, 32, 2), acceleration=4, center=2)
    members = op.cover(30, 0.2, shown=shown)
    lines = np.asarray(members.params["lines"])
    expected = 16 if shown else 6
    counts = np.delete(lines, [15, 16], axis=1).sum(axis=0)
    assert lines[:, 15:17].all() and (counts == counts[0]).all() and counts[0] >= 1
    assert lines.sum(axis=1).mean() == pytest.approx(expected, abs=0.6)
    assert jax.tree.structure(members) == jax.tree.structure(op.draw(keys(0, 30)))


def test_measured_maps_take_the_place_of_drawn_ones():
    op = operators.build("multicoil_fourier", SHAPE, **MULTI)
    maps = jnp.zeros((3, 3, *SHAPE)).at[:, 1, ..., 0].set(1.0)
    lines = jnp.ones((3, 8), bool)
    y = op.with_params({"lines": lines, "maps": maps})(images())
    assert float(jnp.abs(y[:, [0, 2]]).max()) == 0
    single = operators.build("fourier", SHAPE).with_params({"lines": lines})
    np.testing.assert_allclose(y[:, 1], single(images()), atol=1e-6)


def test_channels_and_back():
    z = to_complex(images())
    np.testing.assert_array_equal(to_channels(z), images())


@pytest.mark.parametrize(
    ("name", "shape", "args", "message"),
    [
        ("fourier", (8, 8, 1), {}, r"two channels.*\(8, 8, 1\), nearest valid: \(8, 8, 2\)"),
        ("fourier", (8, 8, 2), {"axis": "lines"}, "axis is one of rows, columns; got 'lines'"),
        ("fourier", (8, 8, 2), {"acceleration": 0.5}, "must be 1 or more; nearest valid: 1"),
        ("fourier", (8, 8, 2), {"acceleration": float("nan")}, "must be 1 or more"),
        ("fourier", (8, 8, 2), {"center": 9}, "center=9 is a number of columns, 0 to 8.*nearest valid: 8"),
        (
            "fourier",
            (8, 8, 2),
            {"acceleration": 4, "center": 4},
            "fewer than the 4 of the centre; nearest valid: 2",
        ),
        ("multicoil_fourier", (8, 8, 2), {"coils": 0}, "coils=0 .* nearest valid: 1"),
        ("multicoil_fourier", (8, 8, 2), {"maps": "drwan"}, "maps is one of drawn, fixed; got 'drwan'"),
        ("fourier", (8, 8, 2), {"acceleraton": 2}, "did you mean 'acceleration'"),
    ],
)
def test_bad_arguments(name, shape, args, message):
    with pytest.raises(ValueError, match=message):
        operators.build(name, shape, **args)
