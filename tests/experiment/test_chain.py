"""The certificate of a cascade on Gaussian data: the divergence of the whole is that of the factors, added up."""

from types import SimpleNamespace

import jax
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.composition import band_edges
from jaxdiff.diffusion.conditional_gaussian import condition_on_view
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.evaluation import certificate
from jaxdiff.experiment import chain
from jaxdiff.experiment.parts import Parts

TRUE = np.array([[1.0, 0.8, 0.3, 0.0], [0.8, 1.0, 0.5, 0.2], [0.3, 0.5, 1.0, 0.4], [0.0, 0.2, 0.4, 1.0]])
REFERENCE = np.diag([1.5, 0.8, 1.2, 1.0]) + 0.1
SHAPE = (2, 2, 1)
POOL = operators.build("avg_pool", SHAPE, factor=2)
SIGMAS = band_edges(0.005, 200.0, 60)


def divergence(true, model):
    ratio = np.linalg.inv(model) @ true
    return 0.5 * (np.trace(ratio) - len(true) - np.linalg.slogdet(ratio)[1])


def cascade_nats(monkeypatch, of_view, of_rest):
    """Nats of the cascade p_a(v) p_b(x | v) over the reference, for Gaussians a and b."""
    reference, a, b = (gaussian_from_covariance(np.zeros(SHAPE), s) for s in (REFERENCE, of_view, of_rest))
    x0 = np.asarray(gaussian_from_covariance(np.zeros(SHAPE), TRUE).sample(jax.random.key(0), 6000))
    conditional = condition_on_view(b, chain.dense_matrix(POOL), POOL.out_shape)
    marginal = a.marginal(POOL, POOL.c, POOL.out_shape)
    monkeypatch.setattr(chain, "learnt_denoiser", lambda view, parts: marginal.denoiser)
    given = SimpleNamespace(denoiser=lambda params: lambda v: lambda x, s: conditional.denoiser(x, s, v))
    monkeypatch.setattr(chain, "cascade_method", lambda plan, parts: given)
    run = SimpleNamespace(
        plan=SimpleNamespace(view=lambda name: SimpleNamespace(name=name), cascade_view="pool"),
        config=SimpleNamespace(evaluate=SimpleNamespace(seed=0, batch=2000)),
    )
    parts = Parts(reference=reference, operators={"pool": POOL}, params={"cascade": 0.0})
    plain = certificate.denoising_errors(chain_reference, reference, x0, SIGMAS, 0, 2000)
    errors = chain.cascade_errors(run, parts, x0, SIGMAS, plain)
    return certificate.nats(plain, errors, SIGMAS).mean()


def chain_reference(gaussian, x, sigma):
    return gaussian.denoiser(x, sigma)


def test_the_true_factors_give_the_divergence_of_the_reference(monkeypatch):
    expected = divergence(TRUE, REFERENCE)
    assert cascade_nats(monkeypatch, TRUE, TRUE) == pytest.approx(expected, abs=0.06)
    assert expected > 0.7


def test_one_true_factor_gives_its_own_share(monkeypatch):
    matrix = chain.dense_matrix(POOL)
    of_view = divergence(matrix @ TRUE @ matrix.T, matrix @ REFERENCE @ matrix.T)
    assert cascade_nats(monkeypatch, TRUE, REFERENCE) == pytest.approx(of_view, abs=0.03)
    rest = divergence(TRUE, REFERENCE) - of_view
    assert cascade_nats(monkeypatch, REFERENCE, TRUE) == pytest.approx(rest, abs=0.06)


def test_large_images_are_refused():
    run = SimpleNamespace(
        plan=SimpleNamespace(view=lambda name: SimpleNamespace(name=name), cascade_view="pool")
    )
    parts = Parts(operators={"pool": operators.build("avg_pool", (64, 128, 1), factor=2)})
    with pytest.raises(chain.ConfigError, match="at most 4096 values"):
        chain.cascade_errors(run, parts, np.zeros((2, 64, 128, 1)), SIGMAS, np.zeros((2, 60)))
