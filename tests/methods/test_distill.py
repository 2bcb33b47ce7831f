"""Distillation against closed forms: a linear student is its linear teacher, and the loss is a divergence in nats."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.diffusion.noise import NatsNoise, NoiseDistribution
from jaxdiff.methods import denoising, distill, shared
from jaxdiff.methods.shared import kind_of
from jaxdiff.networks import build_network
from jaxdiff.operators import build
from tests.methods.linear_family import Linear, batch_of, minimise, one_level

SIGMA = 0.7
COVARIANCE = np.array([[1.0, 0.8], [0.8, 1.0]])
LAW = gaussian_from_covariance(np.array([0.3, -0.4]), COVARIANCE)


def test_linear_student_is_the_teacher_whatever_the_images_it_is_asked_about():
    """The images are of another law than the teacher's: only the teacher's answers count."""
    batch = batch_of(2 * jax.random.normal(jax.random.key(2), (2000, 2)))
    x, sigma = 2 * jax.random.normal(jax.random.key(5), (20, 2)), jnp.full((20,), SIGMA)
    method = distill(Linear(2), one_level(SIGMA), 1.0, LAW.denoiser)
    learnt = method.denoiser(minimise(method, batch))(x, sigma)
    np.testing.assert_allclose(learnt, LAW.denoiser(x, sigma), atol=1e-3)
    # The mutation: x0 in the place of the teacher's answer is far outside the tolerance.
    mutated = denoising(Linear(2), one_level(SIGMA), 1.0)
    learnt = mutated.denoiser(minimise(mutated, batch))(x, sigma)
    assert float(jnp.max(jnp.abs(learnt - LAW.denoiser(x, sigma)))) > 0.1


def untrained_loss(noise, sigma_data):
    """The loss of F = 0, which is the denoiser of N(0, sigma_data^2 I), under the teacher LAW."""
    method = distill(Linear(2), noise, sigma_data, LAW.denoiser)
    batch = batch_of(LAW.sample(jax.random.key(2), 200_000))
    params = method.init(jax.random.key(0), batch_of(batch.y[:2]))
    return float(jax.jit(method.loss)(params, batch, jax.random.key(1))[0])


@pytest.mark.parametrize("sigma_data", [1.0, 1.5])
def test_the_loss_is_the_divergence_in_nats(sigma_data):
    """Equation 2 with a true teacher: values * (range of ln c_out) * loss = KL(LAW, N(0, sigma_data^2 I))."""
    low, high, mean = 1e-3, 1e3, np.array([0.3, -0.4])
    loss = untrained_loss(NatsNoise(low, high, sigma_data, spread=0.0), sigma_data)
    log_c_out = [-0.5 * np.log1p((sigma_data / sigma) ** 2) for sigma in (low, high)]
    ratio = COVARIANCE / sigma_data**2
    divergence = 0.5 * (np.trace(ratio) + mean @ mean / sigma_data**2 - 2 - np.linalg.slogdet(ratio)[1])
    assert 2 * (log_c_out[1] - log_c_out[0]) * loss == pytest.approx(divergence, rel=0.03)
    # EDM's law of ln sigma weighs the noise levels differently.
    other = untrained_loss(NoiseDistribution(-1.2, 1.2), sigma_data)
    assert abs(2 * (log_c_out[1] - log_c_out[0]) * other / divergence - 1) > 0.2


def test_a_student_that_is_told_the_coverage_is_the_network_that_views_share_at_whole_images():
    """To the last pixel: where the padding begins the network sees ones end."""
    shape, noise = (6, 6, 1), NoiseDistribution(0.0, 1.0)
    network = build_network("unet", 1, channels=4, channel_mults=(1, 2), norm="none", zero_init=False)
    teacher = shared(network, noise, 0.6, [kind_of(build("identity", shape))])
    x, sigma = jax.random.normal(jax.random.key(0), (3, *shape)), jnp.asarray([0.1, 1.0, 10.0])
    student = distill(network, noise, 0.6, teacher.denoiser, told=True)
    params = student.init(jax.random.key(1), batch_of(x))
    params = jax.tree.map(lambda leaf: leaf + 0.1, params)
    np.testing.assert_allclose(
        student.denoiser(params)(x, sigma), teacher.denoiser(params)(x, sigma), atol=1e-5
    )
    copied = distill(network, noise, 0.6, teacher.denoiser(params), told=True)
    assert float(copied.loss(params, batch_of(x), jax.random.key(2))[0]) < 1e-8
    # Not told, it has as many parameters less as the first layer has for the coverage.
    alone = distill(network, noise, 0.6, teacher.denoiser(params))
    fewer = alone.init(jax.random.key(1), batch_of(x))
    assert sum(map(jnp.size, jax.tree.leaves(fewer))) == sum(map(jnp.size, jax.tree.leaves(params))) - 9 * 4
