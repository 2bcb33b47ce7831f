"""L1-wavelet reconstruction: exact where A = I, an optimum where it is not, and better than zero filling."""

import jax
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data.measure import measure
from jaxdiff.data.wavelet import _levels, shrink_wavelets, wavelet_reconstruction

pywt = pytest.importorskip("pywt")
SHAPE = (32, 32, 2)


def blocks(count=2):
    """Piecewise constant complex images: few wavelets."""
    rng = np.random.default_rng(0)
    coarse = rng.normal(size=(count, 4, 4, 2))
    return coarse.repeat(8, axis=1).repeat(8, axis=2).astype(np.float32)


def as_complex(x):
    return x[..., 0] + 1j * x[..., 1]


def objective(x, y, operator, weight):
    z = as_complex(np.asarray(x))
    coefficients = pywt.wavedec2(
        z, "haar", mode="periodization", axes=(-2, -1), level=_levels(pywt, z, "haar")
    )
    size = sum(np.abs(band).sum() for details in coefficients[1:] for band in details)
    return 0.5 * float(np.square(np.asarray(operator(x)) - y).sum()) + weight * float(size)


def test_shrinking_is_the_proximal_map():
    """Of every detail coefficient c: c max(0, 1 - w / |c|); the coarsest level stays; w = 0 is the identity."""
    z = as_complex(np.random.default_rng(1).normal(size=(2, 32, 32, 2)))
    np.testing.assert_allclose(shrink_wavelets(z, 0.0), z, atol=1e-10)
    level = _levels(pywt, z, "haar")

    def coefficients(image):
        return pywt.wavedec2(image, "haar", mode="periodization", axes=(-2, -1), level=level)

    before, after = coefficients(z), coefficients(shrink_wavelets(z, 0.7, "haar"))
    np.testing.assert_allclose(after[0], before[0], atol=1e-10)
    for old, new in zip(before[1:], after[1:], strict=True):
        for a, b in zip(old, new, strict=True):
            np.testing.assert_allclose(b, a * np.maximum(0, 1 - 0.7 / np.abs(a)), atol=1e-10)


def test_with_everything_measured_one_shrinking_is_the_answer():
    x, op = blocks(), operators.build("fourier", SHAPE)
    noisy = x + 0.1 * np.random.default_rng(2).normal(size=x.shape).astype(np.float32)
    measured = measure(op, noisy, np.arange(2), seed=0)
    found = wavelet_reconstruction(measured, op, weight=0.2, steps=3, wavelet="haar")
    np.testing.assert_allclose(as_complex(found), shrink_wavelets(as_complex(noisy), 0.2, "haar"), atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fourier", "multicoil_fourier"])
def test_undersampled_it_is_an_optimum_and_beats_zero_filling(name):
    x = blocks()
    op = operators.build(name, SHAPE, acceleration=2, center=4)
    measured = measure(op, x, np.arange(2), seed=0)
    bound = op.with_params(jax.tree.map(np.asarray, measured.params))
    found = wavelet_reconstruction(measured, op, weight=0.01, steps=300, wavelet="haar")
    zero_filled = np.asarray(bound.adjoint(measured.y))
    assert np.linalg.norm(found - x) < 0.5 * np.linalg.norm(zero_filled - x)
    best = objective(found, measured.y, bound, 0.01)
    rng = np.random.default_rng(3)
    for size in (1e-3, 1e-2, 0.1):
        moved = found + size * rng.normal(size=found.shape).astype(np.float32)
        assert objective(moved, measured.y, bound, 0.01) > best
    for towards in (x, zero_filled):
        assert objective(found + 0.05 * (towards - found), measured.y, bound, 0.01) > best - 1e-4


def test_bad_arguments():
    measured = measure(operators.build("identity", (8, 8, 1)), np.zeros((1, 8, 8, 1)), np.arange(1), seed=0)
    with pytest.raises(ValueError, match="complex images"):
        wavelet_reconstruction(measured, operators.build("identity", (8, 8, 1)), 0.1)
    with pytest.raises(ValueError, match="weight >= 0 and steps >= 1"):
        wavelet_reconstruction(measured, operators.build("fourier", (8, 8, 2)), -0.1)
