"""Fine-tuning, cascade and the classifier of sources, against closed forms."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.conditional_gaussian import condition_on_view
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.methods import cascade, denoising, finetune, source_classifier, tweedie
from jaxdiff.methods.finetune import restored, seen_in
from jaxdiff.methods.omni import minimum_sigma
from jaxdiff.operators import Measurement
from tests.methods.linear_family import Linear, batch_of, minimise, one_level

SIGMA, COUNT = 0.7, 100_000
COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
LAW = gaussian_from_covariance(np.array([0.3, -0.4, 0.1]), COVARIANCE)


def points(size=3):
    return 2 * jax.random.normal(jax.random.key(5), (20, size)), jnp.full((20,), SIGMA)


def test_first_stage_learns_the_law_of_the_restored_data():
    """A^+ y of masked data has mean (1-p) m and covariance (1-p)^2 S + p (1-p) diag(E x^2): what it learns, wrongly."""
    p = 0.3
    operator = operators.build("pixel_mask", (3,), p=p)
    drawn = operator.draw(jax.random.split(jax.random.key(3), COUNT))
    x = LAW.sample(jax.random.key(2), COUNT)
    method = denoising(Linear(3), one_level(SIGMA), 1.0)
    batch = restored(batch_of(drawn(x), drawn.params), operator)
    learnt = method.denoiser(minimise(method, batch))(*points())
    mean, second = np.asarray(LAW.mean), COVARIANCE + np.outer(LAW.mean, LAW.mean)
    filled = (1 - p) ** 2 * second + p * (1 - p) * np.diag(np.diag(second))
    wrong = gaussian_from_covariance((1 - p) * mean, filled - (1 - p) ** 2 * np.outer(mean, mean))
    np.testing.assert_allclose(learnt, wrong.denoiser(*points()), atol=0.04)
    assert float(jnp.max(jnp.abs(learnt - LAW.denoiser(*points())))) > 0.2


def test_second_stage_starts_where_the_first_ended_and_ends_at_the_clean_posterior_mean():
    method = denoising(Linear(3), one_level(SIGMA), 1.0)
    batch = batch_of(LAW.sample(jax.random.key(2), COUNT))
    start = jax.tree.map(lambda leaf: leaf + 0.5, method.init(jax.random.key(0), batch))
    second = finetune(method, start)
    for got, wanted in zip(
        jax.tree.leaves(second.init(jax.random.key(9), batch)), jax.tree.leaves(start), strict=True
    ):
        np.testing.assert_array_equal(got, wanted)
    learnt = second.denoiser(minimise(second, batch))(*points())
    np.testing.assert_allclose(learnt, LAW.denoiser(*points()), atol=0.04)


@pytest.fixture
def view():
    return operators.build("coordinates", (3,), indices=(0, 2))


def test_cascade_gives_the_posterior_mean_given_the_view(view):
    batch = batch_of(LAW.sample(jax.random.key(2), COUNT))
    method = cascade(Linear(3), one_level(SIGMA), 1.0, view)
    x, sigma = points()
    v = jax.random.normal(jax.random.key(6), (20, 2))
    learnt = method.denoiser(minimise(method, batch))(v)(x, sigma)
    matrix = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
    exact = condition_on_view(LAW, matrix, (2,)).denoiser(x, sigma, v)
    np.testing.assert_allclose(learnt, exact, atol=0.04)
    np.testing.assert_allclose(view(learnt), v, atol=1e-5)  # what the view fixes is exact
    assert float(jnp.max(jnp.abs(learnt - LAW.denoiser(x, sigma)))) > 0.3


def test_gaussian_given_a_view_is_the_textbook_formula():
    """E[X | X_sigma, V] from the joint covariance of (X, X_sigma, V), inverted densely."""
    matrix = np.array([[0.5, 0.5, 0.0]])
    x, sigma = points()
    v = jax.random.normal(jax.random.key(6), (20, 1))
    mean = np.asarray(LAW.mean, np.float64)
    rows = np.concatenate([np.eye(3), matrix])
    joint = rows @ COVARIANCE @ rows.T + np.diag([SIGMA**2] * 3 + [0.0])
    known = np.concatenate([np.asarray(x) - mean, np.asarray(v) - mean @ matrix.T], axis=1)
    expected = mean + known @ np.linalg.inv(joint) @ rows @ COVARIANCE
    got = condition_on_view(LAW, matrix, (1,)).denoiser(x, sigma, v)
    np.testing.assert_allclose(got, expected, atol=2e-4)


def test_gaussian_given_a_view_refuses_what_does_not_fit():
    with pytest.raises(ValueError, match="matrix"):
        condition_on_view(LAW, np.eye(2), (2,))


def test_classifier_learns_the_log_likelihood_ratio():
    """Two unit Gaussians 2 d apart in noise sigma: the logit is 2 d x / (1 + sigma^2)."""
    shift = 0.6
    label = jnp.arange(COUNT) % 4 == 0  # a quarter: the loss must weight the classes equally
    x = jax.random.normal(jax.random.key(0), (COUNT, 1)) + jnp.where(label, shift, -shift)[:, None]
    batch = Measurement(y=x, params=None, sigma_y=jnp.zeros(COUNT), source=label.astype(jnp.int32))
    method = source_classifier(Linear(1), one_level(SIGMA), 1.0)
    params = method.init(jax.random.key(0), batch)
    loss = jax.jit(jax.value_and_grad(lambda p, k: method.loss(p, batch, jax.random.key(k))[0]))
    for k in range(60):
        params = jax.tree.map(lambda p, g: p - 2.0 * g, params, loss(params, k)[1])
    at = jnp.linspace(-2, 2, 9)[:, None]
    logits = method.denoiser(params)(at, jnp.full(9, SIGMA))
    np.testing.assert_allclose(logits, 2 * shift * at[:, 0] / (1 + SIGMA**2), atol=0.08)
    # Unweighted, the rarer class would move the logit by ln(1/3).
    assert abs(float(logits[4])) < 0.08


def test_minimum_sigma_is_where_the_source_is_told_no_more():
    sigmas = np.array([0.1, 0.2, 0.5, 1.0, 2.0])
    assert minimum_sigma([0.9, 0.7, 0.54, 0.51, 0.5], sigmas, 0.05) == 0.5
    assert minimum_sigma([0.5, 0.5, 0.5, 0.5, 0.5], sigmas) == pytest.approx(0.1)
    assert minimum_sigma([0.9, 0.5, 0.7, 0.5, 0.5], sigmas) == 1.0  # told again above: not usable there
    assert minimum_sigma([0.9] * 5, sigmas) == float("inf")
    with pytest.raises(ValueError, match="increasing"):
        minimum_sigma([0.5, 0.5], np.array([1.0, 0.5]))


@pytest.mark.slow
def test_data_of_another_law_above_sigma_min_only():
    """Omni: y of another law trains levels above its sigma_min; below it the clean data are all there is."""
    clean, other = (
        LAW.sample(jax.random.key(2), COUNT // 2),
        3.0 + jax.random.normal(jax.random.key(3), (COUNT // 2, 3)),
    )
    order = jax.random.permutation(jax.random.key(4), COUNT)
    y = jnp.concatenate([clean, other])[order]
    low = jnp.concatenate([jnp.zeros(COUNT // 2), jnp.full(COUNT // 2, 1.0)])[order]
    batch = Measurement(y=y, params=None, sigma_y=jnp.zeros(COUNT), sigma_min=low)
    method = tweedie(Linear(3), one_level(SIGMA), 1.0)
    learnt = method.denoiser(minimise(method, batch))(*points())
    np.testing.assert_allclose(learnt, LAW.denoiser(*points()), atol=0.04)
    mixed = method.denoiser(minimise(method, batch.replace(sigma_min=None)))(*points())
    assert float(jnp.max(jnp.abs(mixed - LAW.denoiser(*points())))) > 0.5


@pytest.mark.slow
def test_what_is_not_seen_of_a_crop_teaches_nothing():
    """Crops (x_0, x_1, and 0 for x_2) among clean data: what is learnt of x_2 is what the clean data alone teach."""
    count = 60_000
    x = LAW.sample(jax.random.key(2), count)
    crop = operators.build("coordinates", (3,), indices=(0, 1))
    half = jnp.arange(count) % 2 == 0
    measured = batch_of(crop(x))
    y = jnp.where(half[:, None], x, restored(measured, crop).y)
    seen = half[:, None] | seen_in(measured, crop)
    np.testing.assert_array_equal(seen_in(measured, crop)[0], [True, True, False])
    method = tweedie(Linear(3), one_level(SIGMA), 1.0)
    batch = Measurement(y=y, params={"seen": seen}, sigma_y=jnp.zeros(count))
    learnt = method.denoiser(minimise(method, batch))(*points())
    np.testing.assert_allclose(learnt[:, 2], LAW.denoiser(*points())[:, 2], atol=0.05)
    naive = method.denoiser(minimise(method, batch.replace(params=None)))(*points())
    assert float(jnp.max(jnp.abs(naive[:, 2] - LAW.denoiser(*points())[:, 2]))) > 0.2


@pytest.mark.slow
def test_an_example_below_its_level_only_is_used_below_it_only():
    """sigma_max: crops at most at 0.2, a level of 0.7 asked for: only the clean ones are used."""
    count = 60_000
    x = LAW.sample(jax.random.key(2), count)
    half = jnp.arange(count) % 2 == 0
    batch = Measurement(
        y=jnp.where(half[:, None], x, x.at[:, 2].set(0.0)),
        params=None,
        sigma_y=jnp.zeros(count),
        sigma_min=jnp.zeros(count),
        sigma_max=jnp.where(half, jnp.inf, 0.2),
    )
    method = tweedie(Linear(3), one_level(SIGMA), 1.0)
    learnt = method.denoiser(minimise(method, batch))(*points())
    np.testing.assert_allclose(learnt, LAW.denoiser(*points()), atol=0.04)
