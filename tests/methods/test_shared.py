"""One network for all views: each view's posterior mean, and that of whole images, from one set of parameters."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.methods.shared import (
    completed_kind,
    kind_of,
    random_boxes,
    shared,
    view_denoiser,
)
from tests.methods.linear_family import LinearByCoverage, batch_of, minimise, one_level

SHAPE, SIGMA, COUNT = (2, 2, 1), 0.7, 120_000
GRID = np.arange(4)
COVARIANCE = 0.6 ** np.abs(GRID[:, None] - GRID[None]) + 0.2 * np.eye(4)
LAW = gaussian_from_covariance(np.array([0.3, -0.4, 0.1, 0.2]).reshape(SHAPE), COVARIANCE)
OPERATORS = {
    "whole": operators.build("identity", SHAPE),
    "top": operators.build("crop", SHAPE, top=0, left=0, height=1, width=2),
    "mean": operators.build("avg_pool", SHAPE, factor=2),
}
KINDS = [kind_of(operator) for operator in OPERATORS.values()]
# The coverages that the linear family tells apart: whole, top row, mean; and two boxes.
PATTERNS = tuple(tuple(float(v) for v in kind.coverage.ravel()) for kind in KINDS)


def data():
    x = LAW.sample(jax.random.key(2), COUNT)
    source = jnp.arange(COUNT) % len(KINDS)
    lifted = [kind.operator.pinv(kind.operator(x)) for kind in KINDS]
    y = sum(jnp.where((source == i)[:, None, None, None], lifted[i], 0.0) for i in range(len(KINDS)))
    return batch_of(y).replace(source=source)


def learn():
    # One noise level sigma in the image is s = sigma sqrt(rate) in a lifted view: the family has a map for each.
    method = shared(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, KINDS)
    return method, minimise(method, data())


@pytest.fixture(scope="module")
def learnt():
    return learn()


def points():
    return 2 * jax.random.normal(jax.random.key(5), (20, *SHAPE)), jnp.full((20,), SIGMA)


def test_coverage_and_rate():
    whole, top, mean = KINDS
    assert (whole.rate, top.rate, mean.rate) == (1.0, 1.0, 0.25)
    np.testing.assert_array_equal(top.coverage[..., 0], [[1, 1], [0, 0]])
    np.testing.assert_array_equal(mean.coverage, np.full(SHAPE, 0.25, np.float32))


def test_whole_images_have_their_posterior_mean(learnt):
    method, params = learnt
    x, sigma = points()
    np.testing.assert_allclose(method.denoiser(params)(x, sigma), LAW.denoiser(x, sigma), atol=0.03)


@pytest.mark.parametrize("name", ["top", "mean"])
def test_every_view_has_its_own_posterior_mean(learnt, name):
    _, params = learnt
    operator = OPERATORS[name]
    kind = KINDS[list(OPERATORS).index(name)]
    marginal = LAW.marginal(operator, operator.c, operator.out_shape)
    x, sigma = points()
    v, s = operator(x), sigma * operator.c**0.5
    learnt_there = view_denoiser(LinearByCoverage(PATTERNS), 1.0, params, kind)(v, s)
    np.testing.assert_allclose(learnt_there, marginal.denoiser(v, s), atol=0.03)
    # The mutation: asked at the image's noise level instead of the view's.
    wrong = marginal.denoiser(v, 1.6 * s)
    assert float(jnp.max(jnp.abs(learnt_there - wrong))) > 0.06


def test_views_taken_for_whole_images_are_a_mutation_that_is_seen():
    """Without its source number a lifted view would pass for a clean image."""
    blind = data().replace(source=jnp.zeros(COUNT, jnp.int32))
    method = shared(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, KINDS)
    x, sigma = points()
    wrong = method.denoiser(minimise(method, blind))(x, sigma)
    assert float(jnp.max(jnp.abs(wrong - LAW.denoiser(x, sigma)))) > 0.2


def completed_data(faithful=True):
    """Halves of images, the other half drawn given the first (or, unfaithfully, from another image)."""
    x = LAW.sample(jax.random.key(2), COUNT)
    source = jnp.arange(COUNT) % 2
    seen = jnp.where(
        (source == 0)[:, None], jnp.array([True, True, False, False]), jnp.array([False, False, True, True])
    )
    # The hidden part of a Gaussian given what is seen: that of another draw, corrected by regression.
    other = LAW.sample(jax.random.key(3), COUNT).reshape(COUNT, 4)
    flat, filled = x.reshape(COUNT, 4), []
    for top in (True, False):
        s, h = ((0, 1), (2, 3)) if top else ((2, 3), (0, 1))
        gain = COVARIANCE[np.ix_(h, s)] @ np.linalg.inv(COVARIANCE[np.ix_(s, s)])
        moved = other[:, list(h)] + faithful * (flat[:, list(s)] - other[:, list(s)]) @ jnp.asarray(
            gain.T, jnp.float32
        )
        filled.append(other.at[:, jnp.array(h)].set(moved))
    hidden = jnp.where((source == 0)[:, None], filled[0], filled[1])
    return batch_of(jnp.where(seen, flat, hidden).reshape(x.shape)).replace(source=source)


@pytest.mark.slow
@pytest.mark.parametrize("faithful", [True, False])
def test_completed_halves_alone_teach_whole_images(faithful):
    """No example was ever whole; the mutation draws the hidden half without looking at the seen one."""
    bottom = kind_of(operators.build("crop", SHAPE, top=1, left=0, height=1, width=2))
    kinds = [completed_kind(KINDS[1]), completed_kind(bottom)]
    method = shared(LinearByCoverage((PATTERNS[0],)), one_level(SIGMA), 1.0, kinds)
    x, sigma = points()
    learnt_there = method.denoiser(minimise(method, completed_data(faithful)))(x, sigma)
    error = float(jnp.max(jnp.abs(learnt_there - LAW.denoiser(x, sigma))))
    assert error < 0.03 if faithful else error > 0.2


def test_what_was_drawn_is_never_a_target():
    kinds = [completed_kind(KINDS[1])]
    network = LinearByCoverage((PATTERNS[0],))
    method = shared(network, one_level(SIGMA), 1.0, kinds)
    batch = batch_of(LAW.sample(jax.random.key(4), 64)).replace(source=jnp.zeros(64, jnp.int32))
    params = method.init(jax.random.key(0), batch)
    moved = batch.replace(
        y=batch.y.at[:, 1].add(5.0)
    )  # the hidden row: F = 0 leaves D = c_skip x_sigma there
    first, second = (method.loss(params, b, jax.random.key(1))[0] for b in (batch, moved))
    assert float(first) == float(second)


def test_what_a_view_does_not_show_is_never_looked_at():
    """What lies in the hidden half of a view changes nothing."""
    method = shared(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, KINDS, boxes=0.5)
    batch = jax.tree.map(lambda leaf: leaf[:60], data())
    params = method.init(jax.random.key(0), batch)
    top = batch.source == 1
    other = batch.replace(y=batch.y.at[:, 1].add(jnp.where(top, 100.0, 0.0)[:, None, None]))
    crop = KINDS[1].operator
    lifted = jnp.where(top[:, None, None, None], crop.pinv(crop(other.y)), batch.y)
    first = method.loss(params, batch, jax.random.key(1))[0]
    second = method.loss(params, batch.replace(y=lifted), jax.random.key(1))[0]
    assert float(first) == float(second)


def test_boxes_lie_inside_and_everywhere():
    boxes = np.asarray(random_boxes(jax.random.key(0), 4000, (16, 12, 1), 4))[..., 0]
    sides = boxes.max(axis=2).sum(axis=1), boxes.max(axis=1).sum(axis=1)
    assert boxes.shape == (4000, 16, 12) and set(np.unique(boxes)) == {0.0, 1.0}
    assert min(sides[0].min(), sides[1].min()) == 4
    assert (sides[0].max(), sides[1].max()) == (16, 12)
    # A rectangle: what is shown is the product of its sides.
    np.testing.assert_array_equal(boxes.sum(axis=(1, 2)), sides[0] * sides[1])
    assert boxes.mean(axis=0).min() > 0.05


@pytest.mark.slow
def test_boxes_show_a_part_of_the_view_and_ask_for_no_more():
    """With boxes everywhere, a network that answers 0 pays for shown pixels alone: E x^2 there, whatever the box."""
    shape = (8, 8, 1)
    whole = kind_of(operators.build("identity", shape))

    network = LinearByCoverage((tuple([1.0] * 64),))
    method = shared(network, one_level(SIGMA), 1.0, [whole], boxes=1.0)
    y = jnp.full((256, *shape), 3.0)
    batch = batch_of(y).replace(source=jnp.zeros(256, jnp.int32))
    params = method.init(jax.random.key(0), batch)
    loss = float(method.loss(params, batch, jax.random.key(1))[0])
    # D = c_skip u: error (c_skip - 1) 3 + c_skip sigma z in every pixel shown, weighted by 1 / c_out^2.
    skip = 1 / (1 + SIGMA**2)
    expected = ((1 - skip) ** 2 * 9 + skip**2 * SIGMA**2) * (1 + SIGMA**2) / SIGMA**2
    assert loss == pytest.approx(expected, rel=0.05)


def test_errors_say_what_is_wrong():
    with pytest.raises(ValueError, match="fixed operator"):
        kind_of(operators.build("pixel_mask", SHAPE, p=0.5))
    with pytest.raises(ValueError, match="probability"):
        shared(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, KINDS, boxes=1.5)
    with pytest.raises(ValueError, match="at least 1; got 0"):
        shared(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, KINDS, boxes=0.5, least_side=0)
    with pytest.raises(ValueError, match="no kinds"):
        shared(LinearByCoverage(PATTERNS), one_level(SIGMA), 1.0, [])
