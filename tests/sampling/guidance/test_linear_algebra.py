"""The regularised back-projection and the singular value decomposition agree with dense matrices in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.sampling.guidance import spectrum
from jaxdiff.sampling.guidance.back_projection import back_projection
from jaxdiff.sampling.guidance.spectrum import dense_matrix

BATCH, SHAPE, D = 3, (4, 4, 1), 16
CASES = {
    "pooling": ("avg_pool", {"factor": 2}),
    "mask": ("pixel_mask", {"p": 0.5}),
    "blur": ("gaussian_blur", {"std": 0.7}),
    "codes": ("sensing", {"measurements": 6, "matrices": 2}),
    "more numbers than unknowns": ("sensing", {"measurements": 20, "matrices": 2}),
}


def _build(case):
    name, args = CASES[case]
    return operators.build(name, SHAPE, **args).draw(jax.random.split(jax.random.key(1), BATCH))


def _matrices(operator):
    found = np.asarray(dense_matrix(operator, BATCH), np.float64)
    return np.broadcast_to(found, (BATCH, *found.shape[1:]))


@pytest.mark.parametrize("case", CASES)
def test_dense_matrices_are_the_operator(case):
    operator = _build(case)
    x = jax.random.normal(jax.random.key(0), (BATCH, *SHAPE))
    expected = np.einsum("bmd,bd->bm", _matrices(operator), np.asarray(x).reshape(BATCH, D))
    np.testing.assert_allclose(np.asarray(operator(x)).reshape(BATCH, -1), expected, atol=1e-5)


@pytest.mark.parametrize("case", CASES)
def test_back_projection(case):
    operator, ratio = _build(case), jnp.array([0.01, 0.3, 2.0])
    view = operator.restrict(jax.random.normal(jax.random.key(2), (BATCH, *operator.out_shape)))
    got = jax.jit(lambda v: back_projection(operator, v, ratio, 24))(view)
    for row, a in enumerate(_matrices(operator)):
        inner = a @ a.T + float(ratio[row]) * np.eye(len(a))
        expected = a.T @ np.linalg.solve(inner, np.asarray(view[row], np.float64).ravel())
        np.testing.assert_allclose(np.asarray(got[row]).ravel(), expected, atol=2e-4)


@pytest.mark.parametrize("case", CASES)
def test_spectrum(case):
    """Orthonormal coordinates in which A multiplies by the singular values."""
    operator = _build(case)
    x, z = jax.random.normal(jax.random.key(0), (2, BATCH, *SHAPE))

    def every_map(x, z):
        coordinates = spectrum(operator, BATCH)
        own = coordinates.to(x)
        return (
            coordinates.singular,
            own,
            coordinates.to(z),
            coordinates.back(own),
            coordinates.view(operator(x)),
        )

    singular, own, other, back, known = (np.asarray(a) for a in jax.jit(every_map)(x, z))
    np.testing.assert_allclose(back, x, atol=1e-5)
    np.testing.assert_allclose(np.sum(own * other), np.sum(np.asarray(x * z)), atol=1e-3)
    seen = np.broadcast_to(singular > 0, own.shape)
    np.testing.assert_allclose(known, np.where(seen, own, 0.0), atol=1e-3)
    np.testing.assert_allclose(np.sum((singular * own) ** 2), np.sum(np.asarray(operator(x)) ** 2), rtol=1e-4)


def test_a_large_operator_without_a_constant_is_refused_before_anything_is_computed():
    large = operators.build("gaussian_blur", (128, 128, 3), std=1.0)
    with pytest.raises(ValueError, match=r"gaussian_blur.*dense.*mmps"):
        spectrum(large, 1)
    spectrum(operators.build("avg_pool", (128, 128, 3), factor=2), 1)  # has a constant: no matrix is needed
