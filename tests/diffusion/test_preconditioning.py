"""EDM's coefficients: unit variance in, unit variance out."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.preconditioning import edm_preconditioning, precondition

SIGMA = jnp.array([0.002, 0.1, 1.0, 80.0])
SD = 0.5


def test_inputs_and_targets_have_unit_variance():
    c = edm_preconditioning(SIGMA, SD)
    np.testing.assert_allclose(c.c_in**2 * (SD**2 + SIGMA**2), 1.0, rtol=1e-5)
    # target of F: (x0 - c_skip (x0 + sigma n)) / c_out
    target = ((1 - c.c_skip) ** 2 * SD**2 + c.c_skip**2 * SIGMA**2) / c.c_out**2
    np.testing.assert_allclose(target, 1.0, rtol=2e-3)  # 1 - c_skip cancels at sigma = 0.002 in float32
    np.testing.assert_allclose(c.c_noise, np.log(SIGMA) / 4, rtol=1e-6)


def test_c_skip_makes_c_out_smallest():
    # c_skip is where the amplification of the network's errors, c_out, is minimal (EDM, eq. 117).
    c = edm_preconditioning(SIGMA, SD)
    size = lambda skip: (1 - skip) ** 2 * SD**2 + skip**2 * SIGMA**2  # noqa: E731
    assert np.all(size(c.c_skip + 0.01) > size(c.c_skip)) and np.all(size(c.c_skip - 0.01) > size(c.c_skip))


def test_denoiser_of_a_network_that_knows_the_answer():
    # For X ~ N(0, sd^2) the best F is 0; for a known x0, F = its target gives D = x0 exactly.
    x0 = jax.random.normal(jax.random.key(0), (4, 3, 2))
    noise = jax.random.normal(jax.random.key(1), x0.shape)
    x = x0 + SIGMA[:, None, None] * noise
    seen = {}

    def raw_apply(scaled, c_noise, cond):
        seen.update(scaled=scaled, c_noise=c_noise, cond=cond)
        c = edm_preconditioning(SIGMA, SD)
        return (x0 - c.c_skip[:, None, None] * x) / c.c_out[:, None, None]

    denoised = precondition(raw_apply, SD)(x, SIGMA, "label")
    np.testing.assert_allclose(denoised, x0, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(seen["scaled"], x / np.sqrt(SD**2 + SIGMA**2)[:, None, None], rtol=1e-5)
    assert seen["c_noise"].shape == (4,) and seen["cond"] == "label"
    zero = precondition(lambda x, c, cond: jnp.zeros_like(x), SD)
    np.testing.assert_allclose(zero(x, SIGMA), x * (SD**2 / (SD**2 + SIGMA**2))[:, None, None], rtol=1e-6)


def test_half_precision_network_gives_a_float32_denoiser():
    half = precondition(lambda x, c, cond: x.astype(jnp.bfloat16), SD)
    assert half(jnp.ones((4, 2)), SIGMA).dtype == jnp.float32


def test_refuses_a_bad_sigma_data():
    with pytest.raises(ValueError, match="sigma_data must be positive, got 0"):
        precondition(lambda x, c, cond: x, 0)
