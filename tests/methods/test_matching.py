"""Two views' measurements put together: one-to-one, of least cost, every pixel measured, with the joint law."""

from itertools import permutations

import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.methods.matching import asked, assignments, complementary, draw_distances, matched, seam
from jaxdiff.methods.shared import kind_of, matched_kind

SHAPE = (4, 3, 1)
TOP = np.zeros(SHAPE, np.float32)
TOP[:2] = 1.0


def coverage(name, **settings):
    return kind_of(operators.build(name, SHAPE, **settings)).coverage


def some(count, seed):
    return np.random.default_rng(seed).normal(size=(count, *SHAPE)).astype(np.float32)


def test_views_that_tile_the_image_are_found():
    top = coverage("crop", top=0, left=0, height=2, width=3)
    bottom = coverage("crop", top=2, left=0, height=2, width=3)
    less = coverage("crop", top=3, left=0, height=1, width=3)
    left = coverage("crop", top=0, left=0, height=4, width=1)
    whole = coverage("identity")
    assert complementary([left, bottom, whole, top]) == [(1, 3)]
    assert complementary([top, less]) == complementary([whole, whole]) == complementary([]) == []
    # Averages show every pixel a little: two of them show no part of an image.
    half = np.full(SHAPE, 0.5, np.float32)
    assert complementary([half, half]) == []
    # A view has one partner.
    assert complementary([top, bottom, bottom, top]) == [(0, 1), (2, 3)]


def test_the_seam_is_both_sides_of_the_border():
    np.testing.assert_array_equal(seam(TOP)[:, 0, 0], [False, True, True, False])
    corner = np.zeros((4, 4, 1))
    corner[0, 0] = 1
    assert np.argwhere(seam(corner)[..., 0]).tolist() == [[0, 0], [0, 1], [1, 0]]


def cost(c, d, seam_weight):
    weights = 1 + seam_weight * seam(TOP)
    return np.sum(weights * np.square(c.astype(np.float64) - d))


def test_the_border_is_not_asked_for():
    top = np.zeros((6, 3, 1))
    top[:3] = 1
    np.testing.assert_array_equal(asked(top)[:, 0, 0], [True, True, False, False, True, True])
    kind = matched_kind(top, ask_border=False)
    np.testing.assert_array_equal(kind.coverage, np.ones_like(top))  # all of it is shown
    np.testing.assert_array_equal(kind.asked.coverage > 0, asked(top))
    assert matched_kind(top, ask_border=True).asked.coverage.all()
    with pytest.raises(ValueError, match="nothing is left to ask for"):
        asked(np.indices((4, 4)).sum(axis=0)[..., None] % 2)


@pytest.mark.parametrize("seam_weight", [0.0, 15.0])
def test_the_assignment_is_the_best_of_all(seam_weight):
    first, second = some(5, 0), some(5, 1)
    images = matched(first, second, TOP, draw_distances(first, second, TOP, seam_weight))
    pairs = {(which(first[:, :2], image[:2]), which(second[:, 2:], image[2:])) for image in images}
    best = min(
        permutations(range(5)), key=lambda p: sum(cost(first[i], second[p[i]], seam_weight) for i in range(5))
    )
    assert pairs == set(enumerate(best))


def which(parts, part):
    (found,) = np.flatnonzero((parts == part).all(axis=(1, 2, 3)))
    return int(found)


@pytest.mark.parametrize(
    ("n", "m", "matches", "count"), [(6, 6, 3, 18), (4, 7, 3, 12), (7, 4, 3, 12), (2, 2, 5, 4)]
)
def test_every_part_is_used_alike_and_no_pair_twice(n, m, matches, count):
    first, second = some(n, 2), some(m, 3)
    images = matched(first, second, TOP, draw_distances(first, second, TOP), matches)
    assert images.shape == (count, *SHAPE) and images.dtype == np.float32
    pairs = [(which(first[:, :2], image[:2]), which(second[:, 2:], image[2:])) for image in images]
    assert len(set(pairs)) == count
    fewer = 0 if n <= m else 1
    uses = np.bincount([pair[fewer] for pair in pairs])
    assert set(uses) == {min(matches, max(n, m))}


@pytest.mark.parametrize("rho", [0.8, -0.4])
def test_with_exact_draws_the_images_have_the_joint_law(rho):
    """X = (X1, X2) with correlation rho: c = (x1, a draw of X2 given x1), d likewise, of different examples."""
    rng, n = np.random.default_rng(4), 1500
    part = np.array([1.0, 0.0]).reshape(2, 1, 1)

    def completed(known):
        drawn = rho * known + np.sqrt(1 - rho**2) * rng.normal(size=n)
        return known, drawn

    x1, x2 = completed(rng.normal(size=n))
    first = np.stack([x1, x2], axis=1).reshape(n, 2, 1, 1)
    y2, y1 = completed(rng.normal(size=n))
    second = np.stack([y1, y2], axis=1).reshape(n, 2, 1, 1)
    pairs = matched(first, second, part, draw_distances(first, second, part))[:, :, 0, 0]
    np.testing.assert_allclose(np.corrcoef(pairs.T)[0, 1], rho, atol=0.04)
    # The marginals are those of the data, value for value.
    np.testing.assert_array_equal(np.sort(pairs[:, 0]), np.sort(x1))
    np.testing.assert_array_equal(np.sort(pairs[:, 1]), np.sort(y2))


def test_the_likeliest_assignment_finds_the_kinds():
    """Two kinds of images by the sign of one value in each half: parts of one kind are put together, all of them."""
    rng = np.random.default_rng(5)
    kinds = rng.permutation(np.repeat((-1.0, 1.0), 20))
    first, second = some(40, 6), some(40, 7)
    first[:, 0, 0, 0], second[:, 2, 0, 0] = kinds, rng.permutation(kinds)
    likelier = np.where(first[:, None, 0, 0, 0] == second[None, :, 2, 0, 0], 2.0, -30.0)
    images = matched(first, second, TOP, -likelier, 5)
    assert len(images) == 200
    np.testing.assert_array_equal(images[:, 0, 0, 0], images[:, 2, 0, 0])


def test_costs_may_be_negative_and_are_left_as_they_are():
    cost = np.array([[-5.0, -4.0], [-4.0, 0.0]])
    before = cost.copy()
    rows, columns = assignments(cost, 2)
    assert sorted(zip(rows[:2], columns[:2], strict=True)) == [(0, 1), (1, 0)]
    assert sorted(zip(rows[2:], columns[2:], strict=True)) == [(0, 0), (1, 1)]
    np.testing.assert_array_equal(cost, before)


def test_errors_say_what_is_wrong():
    fine = np.zeros((3, 3))
    with pytest.raises(ValueError, match="matched: images"):
        matched(some(3, 0), some(3, 1)[:, :2], TOP, fine)
    with pytest.raises(ValueError, match=r"matched: costs \(3, 3\) for 0 and 3 images"):
        matched(some(0, 0), some(3, 1), TOP, fine)
    with pytest.raises(ValueError, match="finite and at least one"):
        matched(some(0, 0), some(3, 1), TOP, np.zeros((0, 3)))
    with pytest.raises(ValueError, match="finite and at least one"):
        assignments(np.array([[0.0, np.inf]]))
    with pytest.raises(ValueError, match="at least 1 match"):
        matched(some(3, 0), some(3, 1), TOP, fine, 0)
    with pytest.raises(ValueError, match="draw_distances: images"):
        draw_distances(some(3, 0), some(3, 1)[:, :2], TOP)
    with pytest.raises(ValueError, match="no negative weight"):
        draw_distances(some(3, 0), some(3, 1), TOP, -1.0)
