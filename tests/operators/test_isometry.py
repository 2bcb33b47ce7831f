"""c is found for what has one, refused for what has none, and the refusal says why."""

import jax
import numpy as np
import pytest

from jaxdiff import operators

GRAY = {"name": "grayscale"}
POOL = {"name": "avg_pool", "factor": 2}


@pytest.mark.parametrize(
    ("name", "args"),
    [
        ("identity", {}),
        ("avg_pool", {"factor": 4}),
        ("grayscale", {}),
        ("crop", {"top": 0, "left": 0, "height": 4, "width": 8}),
        ("mask", {"mask": "top"}),
        ("pixel_mask", {"p": 0.5}),
        ("box_mask", {"size": 3}),
        ("keep_patch", {"size": 3}),
        ("scan_lines", {"p": 0.5, "axis": "columns", "keep_center": 2}),
        ("overlay", {"kind": "watermark"}),
        ("overlay", {"kind": "logo"}),
        ("overlay", {"kind": "subtitle"}),
        ("sensing", {"measurements": 0.2, "orthonormal": True}),
    ],
)
def test_probing_finds_the_stated_constant(name, args):
    op = operators.build(name, (8, 8, 3), **args)
    assert operators.isometry_constant(op, jax.random.key(5)) == pytest.approx(op.c, rel=1e-5)


@pytest.mark.parametrize("boundary", ["periodic", "zero"])
def test_blur_has_no_constant(boundary):
    op = operators.build("gaussian_blur", (8, 8, 1), std=0.7, boundary=boundary)
    assert op.c is None
    assert operators.isometry_constant(op, jax.random.key(5)) is None


@pytest.mark.parametrize(
    ("name", "args"), [("motion_blur", {"length": 2}), ("sensing", {"measurements": 0.2})]
)
def test_motion_and_gaussian_rows_have_no_constant(name, args):
    op = operators.build(name, (8, 8, 1), **args)
    assert op.c is None
    assert operators.isometry_constant(op, jax.random.key(5)) is None


@pytest.mark.parametrize(
    ("parts", "c"),
    [
        ([GRAY, POOL], (0.299**2 + 0.587**2 + 0.114**2) / 4),
        ([POOL, {"name": "avg_pool", "factor": 4}], 1 / 64),
        ([POOL, {"name": "pixel_mask", "p": 0.5}], 1 / 4),
        ([{"name": "mask", "mask": "top"}, POOL], 1 / 4),
        ([{"name": "mask", "hidden_box": (1, 0, 2, 8)}, POOL], None),
        ([{"name": "pixel_mask", "p": 0.5}, POOL], None),
        ([{"name": "pixel_mask", "p": 0.5, "per_channel": True}, GRAY], None),
        ([{"name": "gaussian_blur", "std": 1.0}, POOL], None),
    ],
)
def test_composition_works_out_its_constant(parts, c):
    op = operators.build("compose", (8, 8, 3), operators=parts)
    assert op.c == (None if c is None else pytest.approx(c, rel=1e-6))


def test_composition_applies_the_first_first():
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    pool = operators.build("avg_pool", (8, 8, 3), factor=2)
    crop = operators.build("crop", (4, 4, 3), top=0, left=1, height=2, width=2)
    op = operators.build("compose", (8, 8, 3), operators=[pool, crop])
    np.testing.assert_array_equal(op(x), crop(pool(x)))
    by_key = operators.build("compose", (8, 8, 3), operators={"2": crop, "1": pool})
    np.testing.assert_array_equal(by_key(x), op(x))
    assert operators.describe(op).startswith("compose(operators=(avg_pool(factor=2), crop(top=0, left=1")


def test_parts_are_drawn_independently():
    mask = {"name": "pixel_mask", "p": 0.5}
    op = operators.build("compose", (16, 16, 1), operators=[mask, mask])
    op = op.draw(jax.random.split(jax.random.key(0), 20))
    seen = np.asarray(op(np.ones((20, 16, 16, 1), np.float32))).mean()
    assert seen == pytest.approx(0.25, abs=0.03)


def test_require_isometry():
    assert (
        operators.require_isometry(operators.build("avg_pool", (8, 8, 1), factor=2), "views.low_res") == 0.25
    )
    blur = operators.build("gaussian_blur", (8, 8, 1), std=1.0)
    with pytest.raises(ValueError) as error:
        operators.require_isometry(blur, "views.soft")
    text = str(error.value)
    assert text.startswith("views.soft: gaussian_blur(std=1.0, boundary=periodic) cannot be a view")
    assert "A A^T is not c I for this operator" in text
    assert "cannot be queried at one noise level" in text
    assert "avg_pool, box_mask, coordinates, crop" in text
    fitting = text.split("Operators that fit: ")[1].split(", and those")[0].split(", ")
    assert {"keep_patch", "overlay", "scan_lines"} <= set(fitting)
    assert not {"motion_blur", "gaussian_blur", "sensing"} & set(fitting)


@pytest.mark.parametrize(
    ("name", "args", "expected"),
    [
        ("identity", {}, "isometry whole"),
        ("avg_pool", {"factor": 2}, "isometry"),
        ("gaussian_blur", {"std": 1.0}, ""),
        ("overlay", {"kind": "logo"}, "isometry per_example further_corruption whole"),
        ("sensing", {"measurements": 5}, "per_example further_corruption"),
        ("sensing", {"measurements": 5, "orthonormal": True}, "isometry per_example further_corruption"),
        ("compose", {"operators": [{"name": "pixel_mask", "p": 0.5}, POOL]}, "per_example"),
    ],
)
def test_properties(name, args, expected):
    op = operators.build(name, (8, 8, 3), **args)
    found = operators.properties(op)
    assert list(found) == ["isometry", "per_example", "further_corruption", "whole"]
    assert [key for key, value in found.items() if value] == expected.split()


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        ("avgpool", {}, "unknown operator 'avgpool'; did you mean 'avg_pool'"),
        ("compos", {}, "did you mean 'compose'"),
        ("avg_pool", {"facto": 2}, "unknown avg_pool argument 'facto'; did you mean 'factor'"),
        ("identity", {"factor": 2}, "operator 'identity' takes no arguments, got 'factor'"),
        ("avg_pool", {}, "operator 'avg_pool' needs the argument factor"),
        ("crop", {"top": 0}, "needs the argument left, height, width"),
        ("compose", {}, "operator 'compose' needs the argument operators"),
        ("compose", {"operators": []}, "at least one operator"),
        ("compose", {"operators": ["grayscale"]}, "each part needs a name"),
        ("compose", {"operators": [{"name": "grayscal"}]}, "did you mean 'grayscale'"),
    ],
)
def test_build_names_what_would_be_right(name, args, message):
    with pytest.raises(ValueError, match=message):
        operators.build(name, (8, 8, 3), **args)


def test_composition_refuses_shapes_that_do_not_fit():
    pool = operators.build("avg_pool", (8, 8, 3), factor=2)
    with pytest.raises(
        ValueError, match=r"avg_pool\(factor=2\) gives the shape \(4, 4, 3\).* takes \(8, 8, 3\)"
    ):
        operators.build("compose", (8, 8, 3), operators=[pool, pool])
    with pytest.raises(ValueError, match=r"takes the shape \(8, 8, 3\), got \(16, 16, 3\)"):
        operators.build("compose", (16, 16, 3), operators=[pool])
