"""Overlays: the region that each kind destroys."""

import jax
import numpy as np
import pytest

from jaxdiff import operators


def hidden_by(shape, count, **args):
    op = operators.build("overlay", shape, **args).draw(jax.random.split(jax.random.key(0), count))
    return ~np.asarray(op.params["mask"])[..., 0]


def test_watermark_is_diagonal_stripes_in_a_box_at_every_place():
    hidden = hidden_by((8, 6, 3), 400, kind="watermark", size=0.5)
    box = (np.indices((4, 3)).sum(axis=0) % 2) == 0
    expected = {
        np.pad(box, ((top, 4 - top), (left, 3 - left))).tobytes() for top in range(5) for left in range(4)
    }
    assert {one.tobytes() for one in hidden} == expected


def test_watermark_stripes_widen_with_the_image():
    (hidden,) = hidden_by((32, 32, 1), 1, kind="watermark", size=1.0)
    np.testing.assert_array_equal(hidden[0], (np.arange(32) // 4) % 2 == 0)
    np.testing.assert_array_equal(hidden[1:, :-1], hidden[:-1, 1:])
    assert hidden.mean() == pytest.approx(0.5, abs=0.02)


def test_logo_is_a_disc_near_each_corner():
    hidden = hidden_by((32, 40, 1), 60, kind="logo", size=0.25)
    rows, columns = np.indices((32, 40))
    discs = {((rows - r) ** 2 + (columns - c) ** 2 <= 16).tobytes() for r in (5.5, 25.5) for c in (5.5, 33.5)}
    assert {one.tobytes() for one in hidden} == discs


def test_subtitle_is_a_strip_in_the_lower_third():
    hidden = hidden_by((12, 5, 1), 100, kind="subtitle", size=0.17)
    assert (hidden.all(axis=2) == hidden.any(axis=2)).all()
    assert {tuple(np.flatnonzero(one)) for one in hidden[..., 0]} == {(8, 9), (9, 10), (10, 11)}


@pytest.mark.parametrize(("kind", "size"), [("watermark", 0.4), ("logo", 0.25), ("subtitle", 0.1)])
def test_usual_sizes(kind, size):
    assert operators.build("overlay", (16, 16, 1), kind=kind) == operators.build(
        "overlay", (16, 16, 1), kind=kind, size=size
    )


@pytest.mark.slow
@pytest.mark.parametrize("side", [12, 16, 28, 32, 64])
@pytest.mark.parametrize("kind", ["watermark", "logo", "subtitle"])
def test_at_the_usual_size_a_second_overlay_has_a_free_place(kind, side):
    count = 100
    op = operators.build("overlay", (side, side, 1), kind=kind).draw(
        jax.random.split(jax.random.key(0), count)
    )
    first = ~np.asarray(op.params["mask"])
    less = op.further_corrupt(jax.random.split(jax.random.key(1), count), 1e-6)
    both = ~np.asarray(less.params["mask"])
    assert (both.sum(axis=(1, 2, 3)) == 2 * first.sum(axis=(1, 2, 3))).all()


@pytest.mark.parametrize("kind", ["watermark", "logo", "subtitle"])
@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 3, 1), (5, 1, 2)])
def test_tiny_images_lose_at_least_a_pixel(kind, shape):
    for size in (1e-3, {"watermark": 1.0, "logo": 0.5, "subtitle": 1 / 3}[kind]):
        assert hidden_by(shape, 20, kind=kind, size=size).any(axis=(1, 2)).all()


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ({"kind": "watermrk"}, "unknown overlay kind 'watermrk'; did you mean 'watermark'"),
        ({"kind": "logo", "size": 0.6}, r"size of a logo .* in \(0, 0.5\]; got 0.6, nearest valid: 0.5"),
        ({"kind": "subtitle", "size": 0.5}, r"in \(0, 0.333\]; got 0.5, nearest valid: 0.333"),
        ({"kind": "watermark", "size": 0.0}, "got 0.0, nearest valid: 0.125"),
    ],
)
def test_refusals(args, message):
    with pytest.raises(ValueError, match=message):
        operators.build("overlay", (8, 8, 3), **args)
