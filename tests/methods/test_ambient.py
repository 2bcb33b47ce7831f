"""Ambient: from measurements of which no one is whole, E[X | A~ x_sigma, A~] for every A~ the network is shown."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.methods import ambient
from jaxdiff.methods.ambient import coverage, given_operator, masked_denoiser
from tests.methods.linear_family import LinearByCoverage, batch_of, minimise, one_level

SIGMA, COUNT = 0.7, 60_000
COVARIANCE = np.array([[1.0, 0.8, 0.3], [0.8, 1.0, 0.5], [0.3, 0.5, 1.0]])
MEAN = np.array([0.3, -0.4, 0.1])
LAW = gaussian_from_covariance(MEAN, COVARIANCE)
PATTERNS = tuple(itertools.product((0.0, 1.0), repeat=3))
MASKS = operators.build("pixel_mask", (3,), p=0.3)


def posterior_given(matrix, u):
    """E[X | M X_sigma = M u] for rows M of any matrix, in closed form; u (B, 3) whole noisy vectors."""
    m = np.asarray(matrix, np.float64)
    covariance = m @ (COVARIANCE + SIGMA**2 * np.eye(3)) @ m.T
    return MEAN + (np.asarray(u) - MEAN) @ m.T @ np.linalg.pinv(covariance) @ m @ COVARIANCE


def measured(operator, sigma_y=0.0, count=COUNT):
    x = LAW.sample(jax.random.key(2), count)
    drawn = operator.draw(jax.random.split(jax.random.key(3), count))
    y = drawn(x)
    noise = sigma_y * jax.random.normal(jax.random.key(4), y.shape)
    return batch_of(jnp.where(drawn.reached(count), y + noise, y), drawn.params, sigma_y)


def learnt(batch, operator=MASKS, patterns=PATTERNS, **settings):
    """Method and the minimiser of its loss."""
    method = ambient(LinearByCoverage(patterns), one_level(SIGMA), 1.0, operator, **settings)
    return method, minimise(method, batch)


def worst_error(params, operator=MASKS, patterns=PATTERNS):
    """Largest root mean square error (over points) of all the masks."""
    denoise = given_operator(masked_denoiser(LinearByCoverage(patterns), 1.0, params))
    points, sigma = 2 * jax.random.normal(jax.random.key(5), (20, 3)), jnp.full(20, SIGMA)
    worst = 0.0
    for pattern in patterns[1:]:
        mask = jnp.broadcast_to(jnp.asarray(pattern) > 0, (20, 3))
        error = denoise(points, sigma, operator.with_params({"mask": mask}))
        error -= posterior_given(np.diag(pattern), points)
        worst = max(worst, float(np.sqrt(np.mean(np.square(error)))))
    return worst


def test_masked_data_give_the_posterior_mean_for_every_mask():
    method, params = learnt(measured(MASKS), delta=0.3, masks=0)
    assert worst_error(params) < 0.1
    # The plain denoiser is that of the mask that hides nothing.
    points, sigma = 2 * jax.random.normal(jax.random.key(5), (20, 3)), jnp.full(20, SIGMA)
    denoised = method.denoiser(params)(points, sigma)
    np.testing.assert_allclose(denoised, LAW.denoiser(points, sigma), atol=0.1)


@pytest.mark.slow
def test_masked_and_noisy_data_too():
    batch = measured(MASKS, sigma_y=0.4)
    assert worst_error(learnt(batch, delta=0.3)[1]) < 0.1
    # Mutation: the noise of the data taken for none.
    assert worst_error(learnt(batch.replace(sigma_y=jnp.zeros(COUNT)), delta=0.3)[1]) > 0.15


def test_a_loss_on_what_was_shown_alone_learns_nothing_of_the_rest(monkeypatch):
    """Mutation: B hides nothing (A~ = A); the network is never asked for what it does not see."""
    blind = MASKS.replace(corrupt_params=lambda key, params, delta, in_shape, **_: params)
    assert worst_error(learnt(measured(blind), operator=blind, delta=0.3)[1], operator=blind) > 0.3


@pytest.mark.slow
def test_compressed_sensing_gives_the_posterior_mean_for_every_set_of_rows():
    """Two rows of one of 3 matrices; shown: both rows or one. The coverage A~^+ A~ 1 tells them apart."""
    operator = operators.build("sensing", (3,), measurements=2, matrices=3, orthonormal=True)
    rows = jnp.array([[True, True], [True, False], [False, True]])
    members = [{"matrix": jnp.full(1, k, jnp.int32), "rows": r[None]} for k in range(3) for r in rows]
    patterns = tuple(tuple(np.asarray(coverage(operator.with_params(p), 1))[0].tolist()) for p in members)
    network = LinearByCoverage(patterns)
    method = ambient(network, one_level(SIGMA), 1.0, operator, delta=0.4)
    params = minimise(method, measured(operator, count=12_000))
    denoise = given_operator(masked_denoiser(network, 1.0, params))
    points = 2 * jax.random.normal(jax.random.key(5), (20, 3))
    for member in members:
        one = operator.with_params(member)
        matrix = np.stack([np.asarray(one(jnp.eye(3)[i : i + 1]))[0] for i in range(3)], axis=1)
        many = operator.with_params(jax.tree.map(lambda leaf: jnp.repeat(leaf, 20, axis=0), member))
        denoised = denoise(points, jnp.full(20, SIGMA), many)
        # Along the measured rows; what this matrix never measures is not asked for when it is shown.
        full = operator.with_params({**many.params, "rows": jnp.ones((20, 2), bool)})
        error = np.asarray(full(denoised - posterior_given(matrix, points)))
        assert np.sqrt(np.mean(np.square(error))) < 0.15
        gap = np.asarray(full(points - posterior_given(matrix, points)))
        assert np.sqrt(np.mean(np.square(gap))) > 0.5


def test_b_is_drawn_anew_and_a_is_not():
    """Which entries reach the network changes from key to key; which entries are asked for never does."""
    operator = operators.build("pixel_mask", (64,), p=0.5)
    x = jax.random.normal(jax.random.key(0), (8, 64))
    drawn = operator.draw(jax.random.split(jax.random.key(1), 8))
    a = drawn.params["mask"]

    def one_draw(key):
        return drawn.further_corrupt(jax.random.split(key, 8), 0.25).params["mask"]

    shown = jax.jit(jax.vmap(one_draw))(jax.random.split(jax.random.key(2), 400))
    assert not bool(jnp.any(shown & ~a))  # never more than was measured
    share = np.asarray(shown.mean(axis=0))[np.asarray(a)]
    # 400 draws of probability 0.75: each seen entry is shown about 300 times, none always.
    assert share.min() > 0.65 and share.max() < 0.85
    # The loss depends on hidden entries of y neither through A nor through B, whatever the key.
    batch = batch_of(drawn(x), drawn.params)
    poisoned = batch.replace(y=jnp.where(a, batch.y, jnp.nan))
    method = ambient(LinearByCoverage((tuple([1.0] * 64),)), one_level(SIGMA), 1.0, operator, 0.25)
    params = method.init(jax.random.key(0), batch)
    loss = jax.jit(jax.value_and_grad(lambda p, batch, key: method.loss(p, batch, key)[0]))
    for k in range(3):
        value, grads = loss(params, poisoned, jax.random.key(k))
        assert float(value) == float(loss(params, batch, jax.random.key(k))[0])
        assert all(bool(jnp.all(jnp.isfinite(g))) for g in jax.tree.leaves(grads))


def test_what_cannot_be_used_is_refused():
    with pytest.raises(ValueError, match="gaussian_blur.*no further corruption"):
        ambient(
            LinearByCoverage(PATTERNS),
            one_level(1.0),
            1.0,
            operators.build("gaussian_blur", (4, 4, 1), std=1.0),
        )
    with pytest.raises(ValueError, match="delta"):
        ambient(LinearByCoverage(PATTERNS), one_level(1.0), 1.0, MASKS, delta=1.0)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "args", "delta"),
    [
        ("scan_lines", {"p": 0.3}, 0.3),
        ("box_mask", {"size": (1, 1)}, 0.3),
        ("keep_patch", {"size": (2, 1)}, 0.4),
    ],
)
def test_every_family_of_masks_gives_the_posterior_mean_where_it_was_seen(name, args, delta):
    """Images of 3 x 1 pixels: for every A~ that occurs, in every pixel that A may have seen given that A~."""
    operator = operators.build(name, (3, 1, 1), **args)
    count = 40_000
    x = LAW.sample(jax.random.key(2), count).reshape(count, 3, 1, 1)
    drawn = operator.draw(jax.random.split(jax.random.key(3), count))
    network = LinearByCoverage(PATTERNS)
    method = ambient(network, one_level(SIGMA), 1.0, operator, delta=delta)
    params = minimise(method, batch_of(drawn(x), drawn.params))
    denoise = given_operator(masked_denoiser(network, 1.0, params))
    shown = (
        drawn.further_corrupt(jax.random.split(jax.random.key(7), count), delta)
        .params["mask"]
        .reshape(count, 3)
    )
    seen = drawn.params["mask"].reshape(count, 3)
    points, sigma = 2 * jax.random.normal(jax.random.key(5), (20, 3, 1, 1)), jnp.full(20, SIGMA)
    checked = 0
    for pattern in PATTERNS:
        here = np.asarray((shown == (jnp.asarray(pattern) > 0)).all(axis=1))
        if here.mean() < 0.03:
            continue
        mask = jnp.broadcast_to((jnp.asarray(pattern) > 0).reshape(3, 1, 1), (20, 3, 1, 1))
        denoised = np.asarray(denoise(points, sigma, operator.with_params({"mask": mask}))).reshape(20, 3)
        error = denoised - posterior_given(np.diag(pattern), np.asarray(points).reshape(20, 3))
        for pixel in np.flatnonzero(np.asarray(seen)[here].mean(axis=0) > 0.1):
            assert np.sqrt(np.mean(error[:, pixel] ** 2)) < 0.12, (pattern, pixel)
            checked += 1
    assert checked >= 4


@pytest.mark.slow
def test_masks_of_gray_noisy_images_give_the_posterior_mean_of_the_gray():
    """A = mask after the mean of two channels: c = 1/2, and noise of its own."""
    operator = operators.build(
        "compose",
        (2, 1, 2),
        operators=[{"name": "grayscale", "weights": (0.5, 0.5)}, {"name": "pixel_mask", "p": 0.3}],
    )
    assert operator.c == 0.5
    rng = np.random.default_rng(0)
    factor = rng.normal(size=(4, 4))
    covariance = factor @ factor.T / 4 + 0.2 * np.eye(4)
    law = gaussian_from_covariance(np.zeros((2, 1, 2)), covariance)
    x, sigma_y = law.sample(jax.random.key(2), 40_000), 0.4
    drawn = operator.draw(jax.random.split(jax.random.key(3), 40_000))
    y = drawn(x)
    y = jnp.where(drawn.reached(40_000), y + sigma_y * jax.random.normal(jax.random.key(4), y.shape), y)
    gray = np.array([[0.5, 0.5, 0, 0], [0, 0, 0.5, 0.5]])
    patterns = tuple(tuple(np.repeat(mask, 2).tolist()) for mask in itertools.product((0.0, 1.0), repeat=2))
    network = LinearByCoverage(patterns)
    points, sigma = 2 * jax.random.normal(jax.random.key(5), (20, 2, 1, 2)), jnp.full(20, SIGMA)

    def worst(batch):
        method = ambient(network, one_level(SIGMA), 1.0, operator, delta=0.3)
        denoise = given_operator(masked_denoiser(network, 1.0, minimise(method, batch)))
        errors = []
        for mask in ([1, 0], [0, 1], [1, 1]):
            params = {"1": {"mask": jnp.broadcast_to(jnp.array(mask, bool).reshape(2, 1, 1), (20, 2, 1, 1))}}
            denoised = (
                np.asarray(denoise(points, sigma, operator.with_params(params))).reshape(20, 4) @ gray.T
            )
            rows = gray[np.array(mask) > 0]
            seen = np.asarray(points).reshape(20, 4) @ rows.T
            gain = (
                gray
                @ covariance
                @ rows.T
                @ np.linalg.inv(rows @ (covariance + SIGMA**2 * np.eye(4)) @ rows.T)
            )
            errors.append(np.sqrt(np.mean((denoised - seen @ gain.T) ** 2)))
        return max(errors)

    batch = batch_of(y, drawn.params, sigma_y)
    assert worst(batch) < 0.04
    # Mutation: the noise of y taken for image noise, as if c were 1.
    assert worst(batch.replace(sigma_y=jnp.full(40_000, sigma_y * 0.5**0.5))) > 0.06
