"""Clean data among measurements: what an example may be used for travels with it."""

import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data.dataset import clean_dataset, view_dataset
from jaxdiff.data.loader import batches
from jaxdiff.data.mixture import annotated, array_dataset, as_measured, concatenated, mixed_parts, repeated
from jaxdiff.data.sources import open_source

SOURCE = open_source("sklearn_digits")
DUST = operators.build("pixel_mask", SOURCE.shape, p=0.7)


def masked(rows):
    return view_dataset(SOURCE, rows, DUST, 0, 0.0, name="masked")


def test_clean_images_are_measured_by_the_member_that_hides_nothing():
    clean = as_measured(clean_dataset(SOURCE, np.arange(4)), DUST)
    batch = clean.take(np.array([2, 0]))
    assert batch.params["mask"].all() and batch.params["mask"].shape == (2, 8, 8, 1)
    np.testing.assert_array_equal(batch.y, SOURCE.gather([2, 0]))
    with pytest.raises(ValueError, match="sensing.*no member that hides nothing"):
        as_measured(clean, operators.build("sensing", SOURCE.shape, measurements=0.5))


def test_rows_of_a_concatenation_are_those_of_its_parts_in_any_order():
    parts = [masked(np.arange(5)), as_measured(clean_dataset(SOURCE, np.arange(10, 13)), DUST)]
    both = concatenated("both", parts)
    assert both.size == 8 and not both.clean
    rows = np.array([7, 0, 5, 4, 1])
    batch = both.take(rows)
    for place, row in enumerate(rows):
        part, inside = (parts[0], row) if row < 5 else (parts[1], row - 5)
        one = part.take(np.array([inside]))
        np.testing.assert_array_equal(batch.y[place], one.y[0])
        np.testing.assert_array_equal(batch.params["mask"][place], one.params["mask"][0])


def test_an_epoch_holds_every_row_of_both_parts_once():
    both = concatenated(
        "both", [array_dataset("a", np.zeros((6, 2, 2, 1))), array_dataset("b", np.ones((2, 2, 2, 1)))]
    )
    with batches(both, 4, 0, steps_per_dispatch=2) as stream:
        assert next(stream).y[..., 0, 0, 0].sum() == 2


def test_annotations_travel_with_their_examples():
    low = annotated(array_dataset("a", np.zeros((3, 2, 2, 1))), sigma_min=0.4, sigma_max=2.0, source=1)
    both = concatenated("both", [low, annotated(array_dataset("b", np.ones((3, 2, 2, 1))))])
    batch = both.take(np.array([4, 1]))
    np.testing.assert_allclose(batch.sigma_min, [0.0, 0.4])
    np.testing.assert_allclose(batch.sigma_max, [np.inf, 2.0])
    np.testing.assert_array_equal(batch.source, [0, 1])


def test_parts_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="examples of 'clean'"):
        concatenated("both", [masked(np.arange(3)), clean_dataset(SOURCE, np.arange(3))])
    with pytest.raises(ValueError, match="no data sets"):
        concatenated("none", [])


def test_a_data_set_repeated_is_its_rows_over_and_over():
    data = repeated(array_dataset("few", np.arange(3, dtype=np.float32).reshape(3, 1, 1, 1)), 7)
    assert data.size == 7
    np.testing.assert_array_equal(data.take(np.arange(7)).y.ravel(), [0, 1, 2, 0, 1, 2, 0])
    with pytest.raises(ValueError, match="repeated to 0"):
        repeated(data, 0)


@pytest.mark.parametrize(("count", "others"), [(4, 6), (6, 4), (3, 5), (1, 4)])
def test_parts_of_different_examples_meet_once_and_none_is_favoured(count, others):
    def images(start, size):
        values = np.arange(start, start + size, dtype=np.float32)
        return array_dataset("part", np.broadcast_to(values[:, None, None, None], (size, 2, 2, 1)))

    top = np.zeros((2, 2, 1))
    top[0] = 1
    made = mixed_parts("made", images(0, count), images(100, others), top)
    assert made.size == count * others and not made.clean
    y = made.take(np.arange(made.size)).y
    np.testing.assert_array_equal(y[:, 0], np.broadcast_to(y[:, :1, :1], y[:, :1].shape)[:, 0])
    pairs = list(zip(y[:, 0, 0, 0].astype(int), y[:, 1, 0, 0].astype(int), strict=True))
    assert sorted(pairs) == [(i, 100 + j) for i in range(count) for j in range(others)]
    few = mixed_parts("made", images(0, count), images(100, others), top, rounds=1)
    assert few.size == max(count, others)
    for place, numbers in ((0, range(count)), (1, range(100, 100 + others))):
        seen = np.bincount([pair[place] for pair in pairs[: few.size]], minlength=max(numbers) + 1)
        assert set(np.flatnonzero(seen)) == set(numbers) and np.ptp(seen[list(numbers)]) <= 1
