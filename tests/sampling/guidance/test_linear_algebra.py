"""The regularised back-projection and the singular value decomposition agree with dense matrices in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.operators.linear import make
from jaxdiff.sampling import restore
from jaxdiff.sampling.guidance import spectrum
from jaxdiff.sampling.guidance.back_projection import back_projection
from jaxdiff.sampling.guidance.spectrum import _of_matrix, dense_matrix

BATCH, SHAPE, D = 3, (4, 4, 1), 16
CASES = {
    "pooling": ("avg_pool", {"factor": 2}),
    "mask": ("pixel_mask", {"p": 0.5}),
    "blur": ("gaussian_blur", {"std": 0.7}),
    "blur, black outside": ("gaussian_blur", {"std": 0.7, "boundary": "zero"}),
    "motion": ("motion_blur", {"length": 3.0, "angle": 30.0}),
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
    large = operators.build("gaussian_blur", (128, 128, 3), std=1.0, boundary="zero")
    with pytest.raises(ValueError, match=r"gaussian_blur.*dense.*mmps"):
        spectrum(large, 1)
    spectrum(operators.build("avg_pool", (128, 128, 3), factor=2), 1)  # has a constant: no matrix is needed


def _uneven(params, x):
    """A periodic convolution whose kernel is not even: its eigenvalues are complex."""
    return x + 0.5 * jnp.roll(x, 1, axis=0) - 0.3 * jnp.roll(x, (2, 1), axis=(0, 1))


@pytest.mark.parametrize("case", ["blur", pytest.param("motion", marks=pytest.mark.slow), "rank", "uneven"])
def test_the_spectrum_of_a_convolution_by_fft_is_that_of_the_dense_matrix(case):
    """Singular values, A^+ y and f(A^T A) x, which is all that DDRM uses; colour, and sides that differ.

    Mutation: the kernel transposed, or the phase of F k left out of A^+ y, fails for the kernel that is not even.
    """
    shape, batch = (6, 5, 2), 3
    made = {
        "blur": lambda: operators.build("gaussian_blur", shape, std=0.6),
        "motion": lambda: operators.build("motion_blur", shape, length=3.0, angle=30.0),
        "rank": lambda: operators.build("gaussian_blur", shape, std=2.0),  # frequencies that are lost
        "uneven": lambda: make("uneven", shape, _uneven, {}, convolution=True),
    }
    operator = made[case]()
    assert operator.c is None and operator.convolution
    x = jax.random.normal(jax.random.key(0), (batch, *shape))
    y = operator(x) + 0.1 * jax.random.normal(jax.random.key(1), (batch, *shape))
    found = []
    for coordinates in (spectrum(operator, batch), _of_matrix(operator, batch)):
        singular = jnp.broadcast_to(coordinates.singular, (1, *shape))
        weighed = coordinates.back(jnp.exp(-singular) * coordinates.to(x))
        found.append((jnp.sort(singular.ravel()), coordinates.back(coordinates.view(y)), weighed))
    for own, dense, size in zip(*found, (1e-5, 2e-3, 1e-4), strict=True):
        np.testing.assert_allclose(own, dense, atol=size * max(1.0, float(jnp.abs(dense).max())))
    lost = np.asarray(found[0][0] == 0).mean()
    assert (lost > 0.3) == (case == "rank")


def test_ddrm_serves_periodic_blurs_of_any_size_and_no_others():
    shape = (64, 64, 3)
    x = jnp.ones((1, *shape)).at[:, 20:40, 10:30].set(-1.0)
    grid, keys = np.array([10.0, 1.0, 0.1, 0.0]), jax.random.split(jax.random.key(0), 1)
    operator = operators.build("motion_blur", shape, length=9.0, angle=20.0)
    call = jax.jit(
        lambda y: operator(restore("ddrm", lambda x, sigma: x, operator, y, jnp.zeros(1), keys, grid))
    )
    y = jax.jit(lambda x: operator(x))(x)
    np.testing.assert_allclose(call(y), y, atol=2e-3)  # what A sees is met
    with pytest.raises(ValueError, match="dense"):
        spectrum(operators.build("motion_blur", shape, length=9.0, boundary="zero"), 1)
    coils = operators.build("multicoil_fourier", (64, 64, 2), coils=4).draw(keys)
    with pytest.raises(ValueError, match=r"multicoil_fourier.*nor is A a periodic convolution.*mmps"):
        spectrum(coils, 1)
