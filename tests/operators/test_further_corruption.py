"""A~ = B A: sees less than A, agrees with it, drawn anew; and the member of a family that hides nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data.measure import measure

IMAGE = (12, 12, 2)
MASKS = {
    "pixel_mask": {"p": 0.3},
    "box_mask": {"size": 3},
    "keep_patch": {"size": (8, 7)},
    "scan_lines": {"p": 0.3, "axis": "columns"},
    "overlay": {"kind": "watermark"},
    "compose": {
        "operators": [{"name": "box_mask", "size": 3}, {"name": "identity"}, {"name": "scan_lines", "p": 0.2}]
    },
}
FAMILIES = {
    **MASKS,
    "sensing": {"measurements": 40, "matrices": 3},
    # 12 lines, 5 of them seen, of which the share DELTA is 2: lines are left by count and not by chance.
    "fourier": {"acceleration": 2.4, "center": 2},
    "multicoil_fourier": {"acceleration": 2.4, "center": 2, "coils": 2},
}
EXTRA = {
    "per_channel": ("pixel_mask", {"p": 0.3, "per_channel": True}),
    "logo": ("overlay", {"kind": "logo"}),
    "subtitle": ("overlay", {"kind": "subtitle"}),
    "pooled": (
        "compose",
        {"operators": [{"name": "avg_pool", "factor": 2}, {"name": "pixel_mask", "p": 0.3}]},
    ),
}
CASES = {**{name: (name, args) for name, args in FAMILIES.items()}, **EXTRA}
EACH = [*FAMILIES, *(pytest.param(name, marks=pytest.mark.slow) for name in EXTRA)]
DELTA = 0.4
COUNT = 300

apply = jax.jit(operators.LinearOperator.__call__)
restrict = jax.jit(operators.LinearOperator.restrict)
draw = jax.jit(operators.LinearOperator.draw)
further_corrupt = jax.jit(operators.LinearOperator.further_corrupt, static_argnums=2)
reached = jax.jit(operators.LinearOperator.reached, static_argnums=1)


def keys(seed, count=COUNT):
    return jax.random.split(jax.random.key(seed), count)


def drawn(case, count=COUNT):
    name, args = CASES[case]
    return draw(operators.build(name, IMAGE, **args), keys(0, count))


def images(count=COUNT):
    return jax.random.normal(jax.random.key(9), (count, *IMAGE))


def seen(op):
    """(count, H, W) bool of a family of masks."""
    return np.asarray(op.params["mask"])[..., 0]


def test_every_random_family_is_tested():
    fixed = {
        "identity",
        "avg_pool",
        "grayscale",
        "crop",
        "coordinates",
        "mask",
        "gaussian_blur",
        "motion_blur",
    }
    assert set(FAMILIES) | fixed == set(operators.names())


@pytest.mark.parametrize("case", EACH)
def test_sees_less_and_agrees_on_what_it_sees(case):
    op = drawn(case)
    less = further_corrupt(op, keys(1), DELTA)
    assert jax.tree.structure(less) == jax.tree.structure(op)
    before, after = np.asarray(reached(op, COUNT)), np.asarray(reached(less, COUNT))
    assert (before | ~after).all() and (before & ~after).any() and after.any()
    y = np.asarray(apply(op, images()))
    np.testing.assert_array_equal(apply(less, images()), np.where(after, y, 0.0))
    np.testing.assert_array_equal(restrict(less, y), np.where(after, y, 0.0))
    np.testing.assert_array_equal(restrict(less, np.where(after, y, np.nan)), np.where(after, y, 0.0))


@pytest.mark.parametrize("case", [*MASKS, *EACH[len(FAMILIES) : -1]])
def test_hidden_nan_stays_hidden(case):
    op = drawn(case)
    less = further_corrupt(op, keys(1), DELTA)
    poisoned = jnp.where(reached(less, COUNT), images(), jnp.nan)
    np.testing.assert_array_equal(apply(less, poisoned), apply(less, images()))
    np.testing.assert_array_equal(restrict(less, apply(op, poisoned)), apply(less, images()))


@pytest.mark.parametrize("case", EACH)
def test_drawn_anew_for_new_keys_and_the_same_for_the_same(case):
    op = drawn(case)
    first, again, other = (reached(further_corrupt(op, keys(seed), DELTA), COUNT) for seed in (1, 1, 2))
    np.testing.assert_array_equal(first, again)
    assert (first != other).any(axis=tuple(range(1, first.ndim))).mean() > 0.5
    turned = op.with_params(jax.tree.map(lambda leaf: leaf[::-1], op.params))
    np.testing.assert_array_equal(reached(further_corrupt(turned, keys(1)[::-1], DELTA), COUNT), first[::-1])


@pytest.mark.parametrize("case", ["pixel_mask", "overlay", "sensing", "compose"])
def test_measurements_are_a_function_of_the_key_alone(case):
    name, args = CASES[case]
    op = operators.build(name, IMAGE, **args)
    x, indices = np.asarray(images()[:4]), np.array([7, 3, 12, 5])
    together = measure(op, x, indices, seed=4)
    alone = measure(op, x[2:3], indices[2:3], seed=4)
    for one, many in zip(jax.tree.leaves(alone), jax.tree.leaves(together), strict=True):
        np.testing.assert_array_equal(one[0], many[2])
    less = further_corrupt(op.with_params(together.params), keys(1)[:4], DELTA)
    np.testing.assert_allclose(less(x), less.restrict(together.y), atol=1e-5)


@pytest.mark.parametrize("case", EACH)
def test_the_share_hidden_further_is_delta(case):
    op = drawn(case)
    less = further_corrupt(op, keys(1), DELTA)
    had, kept = (np.asarray(reached(a, COUNT)).reshape(COUNT, -1).sum(axis=1) for a in (op, less))
    excess = kept - (1 - DELTA) * had
    assert abs(excess.mean()) <= 4 * excess.std() / COUNT**0.5


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_patch_inside_the_patch_has_the_area_in_expectation(share):
    count = 2000
    op = draw(operators.build("keep_patch", (9, 9, 1), size=(3, 5)), keys(0, count))
    less = further_corrupt(op, keys(1, count), share)
    area = seen(less).sum(axis=(1, 2))
    assert area.mean() == pytest.approx(15 * (1 - share), abs=4 * area.std() / count**0.5)
    rows, columns = seen(less).any(axis=2), seen(less).any(axis=1)
    np.testing.assert_array_equal(seen(less), rows[:, :, None] & columns[:, None, :])
    for lines, side in ((rows, 3), (columns, 5)):
        ideal = side * (1 - share) ** 0.5
        assert set(lines.sum(axis=1)) <= {0, int(ideal), int(ideal) + 1}
        assert (np.abs(np.diff(np.pad(lines, ((0, 0), (1, 1))).astype(int), axis=1)).sum(axis=1) <= 2).all()


def test_central_lines_stay():
    op = draw(operators.build("scan_lines", IMAGE, p=0.2, keep_center=4), keys(0, 50))
    less = further_corrupt(op, keys(1, 50), 0.9)
    lines = seen(less).all(axis=2)
    assert lines[:, 4:8].all() and lines[:, :4].mean() < 0.2


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("box_mask", {"size": (3, 4)}),
        ("overlay", {"kind": "watermark", "size": 0.25}),
        ("overlay", {"kind": "logo"}),
        ("overlay", {"kind": "subtitle", "size": 0.1}),
    ],
)
def test_either_of_two_like_shapes_can_be_the_one_that_was_measured(name, args):
    # What Ambient Diffusion needs: given A~, A sees every pixel with positive probability.
    family = operators.build(name, IMAGE, **args)
    possible = {one.tobytes() for one in ~seen(draw(family, keys(2, 3000)))}
    op = draw(family, keys(0))
    less = further_corrupt(op, keys(1), 1e-6)
    first, both = ~seen(op), ~seen(less)
    second = both & ~first
    assert {one.tobytes() for one in second} <= possible
    # The exchanged pair is drawn too, given draws enough.
    exchanged = np.zeros(COUNT, bool)
    swapped = op.with_params({"mask": jnp.asarray(~second)[..., None]})
    for seed in range(100):
        exchanged |= (seen(further_corrupt(swapped, keys(seed), 1e-6)) == seen(less)).all(axis=(1, 2))
    assert exchanged.mean() > 0.5


def test_without_a_free_place_the_overlap_is_least():
    op = draw(operators.build("box_mask", (6, 6, 1), size=4), keys(0, 200))
    both = ~seen(further_corrupt(op, keys(1, 200), 1e-6))
    first = ~seen(op)
    overlap = 16 - (both & ~first).sum(axis=(1, 2))
    place = np.argwhere(first)[np.unique(np.argwhere(first)[:, 0], return_index=True)[1]][:, 1:]
    sides = [4 - max(p, 2 - p) for p in range(3)]
    np.testing.assert_array_equal(overlap, [sides[top] * sides[left] for top, left in place])


def test_a_shape_that_hides_more_than_delta_is_not_completed():
    op = draw(operators.build("box_mask", (9, 9, 1), size=3), keys(0, 100))
    less = further_corrupt(op, keys(1, 100), 0.05)
    assert ((seen(op) & ~seen(less)).sum(axis=(1, 2)) == 9).all()


@pytest.mark.parametrize("case", [*MASKS, "per_channel", "logo"])
def test_whole_is_the_identity_and_can_be_corrupted(case):
    name, args = CASES[case]
    op = operators.build(name, IMAGE, **args)
    whole = op.whole(COUNT)
    np.testing.assert_array_equal(whole(images()), images())
    assert bool(reached(whole, COUNT).all())
    assert jax.tree.structure(whole) == jax.tree.structure(draw(op, keys(0)))
    share = 1 - float(reached(further_corrupt(whole, keys(1), DELTA), COUNT).mean())
    assert 0.05 < share < 0.9


def test_whole_of_what_needs_no_parameters():
    op = operators.build("identity", IMAGE)
    assert op.whole(COUNT) is op


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("avg_pool", {"factor": 2}),
        ("mask", {"mask": "top"}),
        ("sensing", {"measurements": 5}),
        ("compose", CASES["pooled"][1]),
        (
            "compose",
            {"operators": [{"name": "pixel_mask", "p": 0.5}, {"name": "sensing", "measurements": 9}]},
        ),
    ],
)
def test_no_whole_member(name, args):
    with pytest.raises(ValueError, match=rf"{name}\(.*has no member that hides nothing"):
        operators.build(name, IMAGE, **args).whole(COUNT)


def test_composition_corrupts_its_last_part_alone():
    op = drawn("compose")
    less = further_corrupt(op, keys(1), DELTA)
    last = operators.build("scan_lines", IMAGE, p=0.2).with_params(op.params["2"])
    np.testing.assert_array_equal(less.params["0"]["mask"], op.params["0"]["mask"])
    np.testing.assert_array_equal(
        less.params["2"]["mask"], further_corrupt(last, keys(1), DELTA).params["mask"]
    )


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("identity", {}),
        ("mask", {"mask": "top"}),
        ("gaussian_blur", {"std": 1.0}),
        ("compose", {"operators": [{"name": "pixel_mask", "p": 0.5}, {"name": "avg_pool", "factor": 2}]}),
    ],
)
def test_families_without_further_corruption_say_so(name, args):
    with pytest.raises(ValueError, match=rf"{name}\(.* has no further corruption A~ = B A"):
        operators.build(name, IMAGE, **args).further_corrupt(keys(1), DELTA)


@pytest.mark.parametrize("delta", [0.0, 1.0, -0.1, float("nan")])
def test_delta_is_strictly_between_0_and_1(delta):
    with pytest.raises(ValueError, match=r"pixel_mask\(.*delta is the share .* in \(0, 1\); got"):
        drawn("pixel_mask").further_corrupt(keys(1), delta)


def test_parameters_are_drawn_first():
    op = operators.build("pixel_mask", IMAGE, p=0.5)
    with pytest.raises(ValueError, match=r"call op.draw\(keys\) first"):
        op.further_corrupt(keys(1), DELTA)
