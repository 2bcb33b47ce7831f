import threading

import jax
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data import batches, clean_dataset, open_source, view_dataset
from jaxdiff.data.dataset import Dataset
from jaxdiff.operators import Measurement


def numbered(n, fail_at=None, on_take=None):
    """A data set whose row r is the 2x3 image of the number r (its right column is r + 1/2)."""

    def take(rows):
        if on_take is not None:
            on_take()
        if fail_at is not None and (rows == fail_at).any():
            raise OSError(f"row {fail_at} is gone")
        y = np.tile(rows[:, None, None, None].astype(np.float32), (1, 2, 3, 1))
        y[:, :, 2] += 0.5
        return Measurement(y=y, params={"row": rows}, sigma_y=np.zeros(len(rows), np.float32))

    return Dataset("numbered", n, take, True, True, mirrors=True)


def rows(dataset, count, batch=4, **options):
    """(count, B) rows of the first dispatches, one step each."""
    with batches(dataset, batch, options.pop("seed", 0), **options) as stream:
        return np.concatenate([next(stream).params["row"] for _ in range(count)])


@pytest.mark.parametrize(("n", "batch"), [(12, 4), (10, 4), (3, 8), (1, 2)])
def test_every_example_once_an_epoch_in_a_new_order(n, batch):
    line = rows(numbered(n), 30, batch).reshape(-1)
    epochs = line[: len(line) // n * n].reshape(-1, n)
    np.testing.assert_array_equal(np.sort(epochs, axis=1), np.tile(np.arange(n), (len(epochs), 1)))
    if n > 3:
        assert len(np.unique(epochs, axis=0)) == len(epochs)


def test_order_is_a_function_of_seed_and_step():
    dataset = numbered(10)
    whole = rows(dataset, 20)
    np.testing.assert_array_equal(rows(dataset, 20), whole)
    np.testing.assert_array_equal(rows(dataset, 13, start_step=7), whole[7:])
    assert (rows(dataset, 20, seed=1) != whole).any()


@pytest.mark.parametrize("steps", [3, 7])
def test_steps_per_dispatch_do_not_change_the_order(steps):
    whole = rows(numbered(10), 21)
    np.testing.assert_array_equal(rows(numbered(10), 21 // steps, steps_per_dispatch=steps), whole)


def test_leaves_have_the_axes_steps_and_batch():
    source = open_source("sklearn_digits")
    view = view_dataset(source, np.arange(50), operators.build("pixel_mask", source.shape, p=0.5), 0)
    with batches(view, 6, 0, steps_per_dispatch=5) as stream:
        got = next(stream)
    assert jax.tree.map(np.shape, got) == Measurement((5, 6, 8, 8, 1), {"mask": (5, 6, 8, 8, 1)}, (5, 6))
    with batches(view, 6, 0, start_step=2) as stream:
        jax.tree.map(np.testing.assert_array_equal, next(stream), jax.tree.map(lambda leaf: leaf[2:3], got))


def test_the_end():
    with batches(numbered(10), 4, 0, start_step=2, steps_per_dispatch=3, num_steps=9) as stream:
        got = [dispatch.params["row"] for dispatch in stream]
    assert [len(dispatch) for dispatch in got] == [3, 3, 1]
    np.testing.assert_array_equal(np.concatenate(got), rows(numbered(10), 9)[2:])
    with batches(numbered(10), 4, 0, start_step=9, num_steps=9) as stream:
        assert list(stream) == []


@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_one_global_batch(count):
    options = {"steps_per_dispatch": 2, "flip": True}
    with batches(numbered(10), 8, 0, **options) as stream:
        whole = next(stream)
    parts = []
    for index in range(count):
        with batches(numbered(10), 8, 0, process_index=index, process_count=count, **options) as stream:
            parts.append(next(stream))
    joined = jax.tree.map(lambda *leaves: np.concatenate(leaves, axis=1), *parts)
    jax.tree.map(np.testing.assert_array_equal, joined, whole)


@pytest.mark.parametrize("prefetch", [0, 2])
def test_an_error_in_the_thread_reaches_the_consumer(prefetch):
    with (
        batches(numbered(4, fail_at=3), 4, 0, prefetch=prefetch) as stream,
        pytest.raises(OSError, match="row 3"),
    ):
        next(stream)


def test_reading_ahead_is_done_by_another_thread():
    seen = []
    dataset = numbered(10, on_take=lambda: seen.append(threading.current_thread()))
    ahead, plain = rows(dataset, 5), rows(numbered(10), 5, prefetch=0)
    np.testing.assert_array_equal(ahead, plain)
    assert threading.main_thread() not in seen


def test_closing_stops_the_reading():
    taken = []
    stream = batches(numbered(10, on_take=lambda: taken.append(1)), 4, 0, prefetch=3)
    next(stream)
    stream.close()
    stream.close()
    with pytest.raises(ValueError, match="closed"):
        next(stream)
    assert len(taken) <= 5


def test_flips_are_half_and_a_function_of_seed_step_and_slot():
    def images(**options):
        with batches(numbered(10), 8, 0, steps_per_dispatch=100, flip=True, **options) as stream:
            return next(stream)

    got = images()
    mirrored = got.y[..., 0, 0] % 1 == 0.5  # the column that was the rightmost came to the left
    assert abs(mirrored.mean() - 0.5) < 5 * 0.5 / np.sqrt(800)
    upright = np.where(mirrored[..., :1, None, None], got.y[:, :, :, ::-1], got.y)
    np.testing.assert_array_equal(upright[..., 0, 0, 0], got.params["row"])
    later = images(start_step=40)
    np.testing.assert_array_equal(later.y[:60], got.y[40:])


def test_a_view_that_is_fixed_to_the_frame_is_never_flipped():
    source = open_source("sklearn_digits")
    half = operators.build("mask", source.shape, mask="left")
    view = view_dataset(source, np.arange(9), half, 0, name="half")
    with pytest.raises(ValueError, match="half: flip needs whole images"):
        batches(view, 3, 0, flip=True)
    batches(clean_dataset(source, np.arange(9)), 3, 0, flip=True).close()


def test_a_flip_takes_the_mask_along_and_shows_no_second_pixel():
    """Every batch row is the one fixed measurement of its example, or that mirrored: never another mask."""
    source = open_source("sklearn_digits")
    dust = operators.build("pixel_mask", source.shape, p=0.9)
    view = view_dataset(source, np.arange(5), dust, 0, name="dust")
    whole = view.take(np.arange(5))
    shown = {leaf.tobytes(): r for r, leaf in enumerate(whole.params["mask"])}
    shown |= {np.ascontiguousarray(leaf[:, ::-1]).tobytes(): r for r, leaf in enumerate(whole.params["mask"])}
    with batches(view, 5, 0, steps_per_dispatch=20, flip=True) as stream:
        got = next(stream)
    y = got.y.reshape(-1, *source.shape)
    mirrored = 0
    for image, mask in zip(y, got.params["mask"].reshape(-1, *source.shape[:2], 1), strict=True):
        row = shown[np.ascontiguousarray(mask).tobytes()]  # KeyError: a mask that was never measured
        original = whole.y[row] if (mask == whole.params["mask"][row]).all() else whole.y[row][:, ::-1]
        mirrored += not (mask == whole.params["mask"][row]).all()
        np.testing.assert_array_equal(image, original)
    assert 30 < mirrored < 70


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"process_count": 3}, "batch 4 cannot be split over 3 processes"),
        ({"process_index": 2, "process_count": 2}, "over 2 processes"),
        ({"start_step": -1}, "start_step >= 0"),
        ({"steps_per_dispatch": 0}, "steps_per_dispatch >= 1"),
    ],
)
def test_refusals(options, message):
    with pytest.raises(ValueError, match=message):
        batches(numbered(10), 4, 0, **options)
