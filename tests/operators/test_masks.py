import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators

HIDING = {
    "half": ("mask", {"mask": "top"}),
    "rows": ("mask", {"mask": ((1, 0, 0, 1),) * 4}),
    "box": ("mask", {"box": {"top": 1, "left": 0, "height": 2, "width": 3}}),
    "hidden_box": ("mask", {"hidden_box": (1, 0, 2, 3)}),
    "pixel_mask": ("pixel_mask", {"p": 0.5}),
    "per_channel": ("pixel_mask", {"p": 0.5, "per_channel": True}),
    "box_mask": ("box_mask", {"size": 2}),
    "keep_patch": ("keep_patch", {"size": 2}),
    "scan_lines": ("scan_lines", {"p": 0.5}),
    "overlay": ("overlay", {"kind": "logo"}),
}


def seen_by(op, batch):
    """Boolean (batch, *in_shape): where A keeps the pixel."""
    return np.asarray(op(jnp.ones((batch, *op.in_shape))) == 1)


@pytest.mark.parametrize("case", HIDING)
def test_hidden_nan_reaches_neither_values_nor_gradients(case):
    name, args = HIDING[case]
    op = operators.build(name, (4, 4, 2), **args).draw(jax.random.split(jax.random.key(1), 3))
    seen = seen_by(op, 3)
    assert seen.any() and not seen.all()
    x = jax.random.normal(jax.random.key(0), seen.shape)
    poisoned = jnp.where(seen, x, jnp.nan)
    np.testing.assert_array_equal(op(poisoned), jnp.where(seen, x, 0.0))
    np.testing.assert_array_equal(op.adjoint(poisoned), jnp.where(seen, x, 0.0))
    gradient = jax.grad(lambda x: jnp.sum(op(x) ** 2))(poisoned)
    np.testing.assert_array_equal(gradient, jnp.where(seen, 2 * x, 0.0))


@pytest.mark.parametrize(
    ("half", "rows", "columns"),
    [
        ("top", slice(0, 2), slice(None)),
        ("bottom", slice(2, 5), slice(None)),
        ("left", slice(None), slice(0, 1)),
        ("right", slice(None), slice(1, 3)),
    ],
)
def test_halves_are_what_their_name_says(half, rows, columns):
    expected = np.zeros((1, 5, 3, 2), bool)
    expected[:, rows, columns] = True
    np.testing.assert_array_equal(seen_by(operators.build("mask", (5, 3, 2), mask=half), 1), expected)


def test_box_and_hidden_box_are_complements():
    args = {"top": 1, "left": 2, "height": 2, "width": 1}
    shown = seen_by(operators.build("mask", (4, 4, 1), box=args), 1)
    hidden = seen_by(operators.build("mask", (4, 4, 1), hidden_box=list(args.values())), 1)
    np.testing.assert_array_equal(shown, ~hidden)
    np.testing.assert_array_equal(np.argwhere(shown[0, ..., 0]), [[1, 2], [2, 2]])


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 1), (4, 4, 3)])
def test_mask_of_an_array(shape):
    array = np.random.default_rng(0).integers(0, 2, shape)
    op = operators.build("mask", (4, 4, 3), mask=array)
    expected = np.broadcast_to(array[..., None] if array.ndim == 2 else array, (4, 4, 3)) == 1
    np.testing.assert_array_equal(seen_by(op, 1)[0], expected)
    assert "% seen" in operators.describe(op)


def test_masks_of_vectors():
    x = jnp.asarray([[1.0, 2.0, 3.0]])
    np.testing.assert_array_equal(operators.build("mask", (3,), mask=[1, 0, 1])(x), [[1.0, 0.0, 3.0]])
    np.testing.assert_array_equal(operators.build("coordinates", (3,), indices=[2, 0])(x), [[3.0, 1.0]])
    drawn = operators.build("pixel_mask", (3,), p=1.0).draw(jax.random.split(jax.random.key(0), 1))
    np.testing.assert_array_equal(drawn(x), [[0.0, 0.0, 0.0]])


@pytest.mark.parametrize("p", [0.0, 0.3, 1.0])
def test_pixel_mask_hides_the_share_p_and_channels_together(p):
    op = operators.build("pixel_mask", (8, 8, 3), p=p).draw(jax.random.split(jax.random.key(0), 400))
    seen = seen_by(op, 400)
    assert 1 - seen.mean() == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / (400 * 64)))
    assert (seen.all(axis=-1) == seen.any(axis=-1)).all()
    if p == 0.3:
        assert len({mask.tobytes() for mask in seen}) == 400


def test_pixel_mask_per_channel():
    op = operators.build("pixel_mask", (8, 8, 3), p=0.5, per_channel=True)
    seen = seen_by(op.draw(jax.random.split(jax.random.key(0), 50)), 50)
    assert (seen.all(axis=-1) != seen.any(axis=-1)).any()


def test_box_mask_is_inside_and_reaches_every_place():
    op = operators.build("box_mask", (5, 4, 1), size=(2, 3)).draw(jax.random.split(jax.random.key(0), 300))
    hidden = ~seen_by(op, 300)[..., 0]
    assert (hidden.sum(axis=(1, 2)) == 6).all()
    corners = {tuple(np.argwhere(one)[0]) for one in hidden}
    assert corners == {(top, left) for top in range(4) for left in range(2)}
    assert (hidden.any(axis=2).sum(axis=1) == 2).all()


def test_draws_depend_on_the_key_of_the_example_alone():
    op = operators.build("pixel_mask", (4, 4, 1), p=0.5)
    keys = jax.random.split(jax.random.key(0), 5)
    alone = op.draw(keys[3:4]).params["mask"]
    np.testing.assert_array_equal(op.draw(keys).params["mask"][3:4], alone)


@pytest.mark.parametrize(
    ("name", "args", "message"),
    [
        (
            "crop",
            {"top": 3, "left": 0, "height": 3, "width": 2},
            r"crop: rows 3..5, columns 0..1 do not fit .* 4x4",
        ),
        ("crop", {"top": -1, "left": 0, "height": 3, "width": 2}, "crop: rows -1..1"),
        ("crop", {"top": 0, "left": 0, "height": 0, "width": 2}, "crop: rows"),
        ("box_mask", {"size": 5}, r"box_mask: size=\(5, 5\) must be from 1 to the size of the image, 4x4"),
        ("box_mask", {"size": 0}, "box_mask: size"),
        ("pixel_mask", {"p": 1.2}, r"p is the share of hidden pixels, in \[0, 1\]; got 1.2"),
        ("mask", {}, "give exactly one of mask, box, hidden_box; got none"),
        ("mask", {"mask": "top", "box": (0, 0, 1, 1)}, r"exactly one .* \['box', 'mask'\]"),
        ("mask", {"mask": "upper"}, "one of top, bottom, left, right; got 'upper'"),
        ("mask", {"mask": np.zeros((4, 4))}, "hides every pixel"),
        ("mask", {"mask": np.full((4, 4), 0.5)}, r"must be 0 \(hidden\) and 1 \(seen\)"),
        ("mask", {"mask": np.ones((4, 3))}, r"\(4, 3\) does not fit examples of shape \(4, 4, 1\)"),
        ("mask", {"box": {"top": 0}}, "mask: box needs the keys top, left, height, width"),
        ("mask", {"box": (0, 0, 9, 1)}, "mask: box: rows 0..8"),
        ("coordinates", {"indices": (0,)}, r"works on vectors \(d,\)"),
    ],
)
def test_refusals(name, args, message):
    with pytest.raises(ValueError, match=message):
        operators.build(name, (4, 4, 1), **args)


@pytest.mark.parametrize("indices", [(), (0, 0), (-1,), (3,)])
def test_coordinates_are_distinct_and_inside(indices):
    with pytest.raises(ValueError, match="must be distinct and in 0..2"):
        operators.build("coordinates", (3,), indices=indices)
