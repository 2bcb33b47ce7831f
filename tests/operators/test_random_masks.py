"""Patches and scan lines: shape, place and share of what is seen."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators


def masks_of(name, shape, count, **args):
    """Boolean (count, H, W) of as many draws."""
    op = operators.build(name, shape, **args).draw(jax.random.split(jax.random.key(0), count))
    assert op.params["mask"].shape == (count, *shape[:2], 1)
    np.testing.assert_array_equal(
        op(jnp.ones((count, *shape))), np.broadcast_to(op.params["mask"], (count, *shape))
    )
    return np.asarray(op.params["mask"])[..., 0]


def test_keep_patch_is_one_rectangle_inside_at_every_place():
    seen = masks_of("keep_patch", (5, 4, 2), 300, size=(2, 3))
    assert (seen.sum(axis=(1, 2)) == 6).all()
    assert (seen.any(axis=2).sum(axis=1) == 2).all() and (seen.any(axis=1).sum(axis=1) == 3).all()
    assert {tuple(np.argwhere(one)[0]) for one in seen} == {(r, c) for r in range(4) for c in range(2)}


def test_keep_patch_is_the_complement_of_box_mask():
    seen = masks_of("keep_patch", (5, 4, 2), 10, size=(2, 3))
    np.testing.assert_array_equal(seen, ~masks_of("box_mask", (5, 4, 2), 10, size=(2, 3)))


@pytest.mark.parametrize("axis", ["rows", "columns"])
def test_scan_lines_are_whole_lines_hidden_with_probability_p(axis):
    seen = masks_of("scan_lines", (9, 7, 1), 400, p=0.3, axis=axis)
    lines = seen if axis == "rows" else seen.swapaxes(1, 2)
    assert (lines.all(axis=2) == lines.any(axis=2)).all()
    hidden = ~lines[..., 0]
    assert hidden.mean() == pytest.approx(0.3, abs=4 * np.sqrt(0.21 / hidden.size))
    np.testing.assert_allclose(hidden.mean(axis=0), 0.3, atol=4 * np.sqrt(0.21 / 400))


@pytest.mark.parametrize(("keep_center", "central"), [(0, []), (1, [3]), (2, [2, 3]), (3, [2, 3, 4])])
def test_central_lines_are_always_seen(keep_center, central):
    seen = masks_of("scan_lines", (7, 3, 1), 20, p=1.0, keep_center=keep_center)
    assert {tuple(np.flatnonzero(one)) for one in seen[..., 0]} == {tuple(central)}


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("keep_patch", {"size": 5}, r"keep_patch: size=\(5, 5\) must be from 1 .* nearest valid: \(4, 4\)"),
        ("keep_patch", {"size": (2, 0)}, r"nearest valid: \(2, 1\)"),
        ("keep_patch", {"size": (1, 2, 3)}, r"size=\(1, 2, 3\) must be from 1"),
        ("keep_patch", {"size": 2.5}, r"keep_patch: size=2.5 must be whole numbers"),
        ("box_mask", {"size": (2, "3")}, r"box_mask: size=\(2, '3'\) must be whole numbers"),
        ("box_mask", {"size": True}, r"box_mask: size=True must be whole numbers"),
        ("box_mask", {"size": None}, r"box_mask: size=None must be whole numbers"),
        ("scan_lines", {"p": -0.5}, r"hidden lines, in \[0, 1\]; got -0.5, nearest valid: 0.0"),
        ("scan_lines", {"p": 0.5, "axis": "row"}, "axis is one of rows, columns; got 'row'"),
        ("scan_lines", {"p": 0.5, "keep_center": 5}, "number of rows, 0 to 4; nearest valid: 4"),
        ("scan_lines", {"p": 0.5, "keep_center": 0.4}, "nearest valid: 0"),
        ("pixel_mask", {"p": 1.2}, "nearest valid: 1.0"),
    ],
)
def test_refusals(name, args, message):
    with pytest.raises(ValueError, match=message):
        operators.build(name, (4, 4, 1), **args)


@pytest.mark.parametrize(("name", "args"), [("keep_patch", {"size": 2}), ("scan_lines", {"p": 0.5})])
def test_images_only(name, args):
    with pytest.raises(ValueError, match=rf"'{name}' works on images"):
        operators.build(name, (4,), **args)
