"""Compressed sensing against its own dense matrices."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators

SHAPE = (4, 3, 2)
SIZE = 24


def with_codes(codes, **args):
    """The operator of examples whose codes are given, all rows in use."""
    op = operators.build("sensing", SHAPE, **args)
    rows = jnp.ones((len(codes), *op.out_shape), bool)
    return op.replace(params={"matrix": jnp.asarray(codes, jnp.int32), "rows": rows})


def matrix_of(code, **args):
    """(m, n) in float64, the columns from basis vectors."""
    op = with_codes([code] * SIZE, **args)
    return np.asarray(op(jnp.eye(SIZE).reshape(SIZE, *SHAPE)), np.float64).T


def test_every_example_is_measured_by_its_own_code():
    args = {"measurements": 7, "matrices": 3}
    x = jax.random.normal(jax.random.key(0), (4, *SHAPE))
    y = with_codes([2, 0, 2, 1], **args)(x)
    for example, code in enumerate([2, 0, 2, 1]):
        np.testing.assert_allclose(y[example], matrix_of(code, **args) @ x[example].ravel(), atol=1e-5)


def test_codes_and_seeds_differ_and_are_reproducible():
    first, second = (matrix_of(code, measurements=7) for code in (0, 1))
    other = matrix_of(0, measurements=7, seed=1)
    assert np.abs(first - second).max() > 0.1 < np.abs(first - other).max()
    np.testing.assert_array_equal(first, matrix_of(0, measurements=7, matrices=3))


def test_rows_are_normal_with_variance_one_over_n():
    entries = np.stack([matrix_of(code, measurements=200, matrices=8) for code in range(8)]) * SIZE**0.5
    count = entries.size
    assert entries.mean() == pytest.approx(0.0, abs=4 / count**0.5)
    assert entries.var() == pytest.approx(1.0, abs=4 * (2 / count) ** 0.5)
    assert (entries**4).mean() == pytest.approx(3.0, abs=4 * (96 / count) ** 0.5)


def test_orthonormal_rows_span_what_the_gaussian_rows_span():
    args = {"measurements": 9, "matrices": 2}
    for code in range(2):
        gaussian, orthonormal = matrix_of(code, **args), matrix_of(code, **args, orthonormal=True)
        np.testing.assert_allclose(orthonormal @ orthonormal.T, np.eye(9), atol=1e-6)
        np.testing.assert_allclose(gaussian @ orthonormal.T @ orthonormal, gaussian, atol=1e-6)
    assert with_codes([0], **args, orthonormal=True).c == 1.0
    assert with_codes([0], **args).c is None


@pytest.mark.parametrize("orthonormal", [False, True])
def test_pinv_with_rows_switched_off(orthonormal):
    args = {"measurements": 6, "matrices": 2, "orthonormal": orthonormal}
    rows = np.array([[1, 0, 1, 1, 0, 1], [0, 0, 0, 1, 0, 0], [0] * 6], bool)
    op = with_codes([1, 0, 1], **args).replace(
        params={"matrix": jnp.asarray([1, 0, 1]), "rows": jnp.asarray(rows)}
    )
    y = jnp.asarray(np.random.default_rng(0).normal(size=(3, 6)), jnp.float32)
    poisoned = jnp.where(rows, y, jnp.nan)
    for example, code in enumerate([1, 0, 1]):
        dense = matrix_of(code, **args) * rows[example][:, None]
        expected = np.linalg.pinv(dense) @ y[example]
        np.testing.assert_allclose(op.pinv(y)[example].ravel(), expected, atol=1e-5)
        np.testing.assert_allclose(op.pinv(poisoned)[example].ravel(), expected, atol=1e-5)
    np.testing.assert_array_equal(np.asarray(op(jnp.ones((3, *SHAPE)))) != 0, rows)
    np.testing.assert_array_equal(op.reached(3), rows)


def test_drawn_codes_are_uniform_and_small():
    op = operators.build("sensing", SHAPE, measurements=5, matrices=4)
    params = op.draw(jax.random.split(jax.random.key(0), 400)).params
    counts = np.bincount(params["matrix"], minlength=4)
    assert len(counts) == 4 and np.abs(counts - 100).max() < 4 * 75**0.5
    assert params["matrix"].dtype == jnp.int32 and bool(params["rows"].all())


@pytest.mark.parametrize(
    ("measurements", "count"), [(0.25, 6), (1.0, 24), (1, 24), (5, 5), (1e-3, 1), (30, 30)]
)
def test_a_count_or_a_share(measurements, count):
    assert operators.build("sensing", SHAPE, measurements=measurements).out_shape == (count,)


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"measurements": 2.5}, "measurements=2.5 .* share in .* 24 numbers .* nearest valid: 2"),
        ({"measurements": 0}, "nearest valid: 2"),
        ({"measurements": -3}, "nearest valid: 2"),
        ({"measurements": 25, "orthonormal": True}, "up to 24; nearest valid: 24"),
        (
            {"measurements": 5, "matrices": 0},
            "matrices=0 is the number of codes, 1 or more; nearest valid: 1",
        ),
    ],
)
def test_refusals(args, message):
    with pytest.raises(ValueError, match=message):
        operators.build("sensing", SHAPE, **args)
