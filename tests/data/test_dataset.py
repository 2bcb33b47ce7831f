import jax
import numpy as np
import pytest

from jaxdiff import operators
from jaxdiff.data import clean_dataset, dataset, open_source, view_dataset


@pytest.fixture(scope="module")
def digits():
    return open_source("sklearn_digits")


@pytest.mark.parametrize(
    ("name", "args"), [("avg_pool", {"factor": 2}), ("pixel_mask", {"p": 0.5}), ("identity", {})]
)
def test_kept_and_measured_on_demand_are_the_same(digits, name, args):
    op, indices = operators.build(name, digits.shape, **args), np.arange(1000, 1600)[::-1]
    kept = view_dataset(digits, indices, op, 5, 0.2)
    lazy = view_dataset(digits, indices, op, 5, 0.2, cache_bytes=0)
    assert (kept.cached, lazy.cached, kept.clean, kept.size) == (True, False, False, 600)
    rows = np.array([599, 0, 3, 0, 256])
    jax.tree.map(np.testing.assert_array_equal, kept.take(rows), lazy.take(rows))


def test_row_r_is_example_indices_r(digits):
    indices = np.array([30, 4, 17])
    np.testing.assert_array_equal(clean_dataset(digits, indices).take(np.array([2])).y, digits.gather([17]))
    view = view_dataset(digits, indices, operators.build("identity", digits.shape), 0)
    np.testing.assert_array_equal(view.take(np.array([0, 1])).y, digits.gather([30, 4]))


def test_the_measurement_belongs_to_the_example_and_not_to_the_row(digits):
    op = operators.build("pixel_mask", digits.shape, p=0.5)
    one, other = (view_dataset(digits, np.array(i), op, 0) for i in ([8, 9, 10], [10, 11]))
    jax.tree.map(np.testing.assert_array_equal, one.take(np.array([2])), other.take(np.array([0])))


def test_clean_data_are_measurements_too(digits):
    got = clean_dataset(digits, np.arange(5), cache_bytes=0)
    measured = got.take(np.arange(5))
    assert got.clean and not got.cached and measured.params is None
    np.testing.assert_array_equal(measured.sigma_y, np.zeros(5))


def test_nothing_of_a_view_is_read_twice_when_kept(digits, monkeypatch):
    view = view_dataset(digits, np.arange(20), operators.build("identity", digits.shape), 0)
    monkeypatch.setattr(dataset, "measure", lambda *_: pytest.fail("measured again"))
    assert view.take(np.arange(20)).y.shape == (20, 8, 8, 1)


def test_a_bar_does_not_change_the_data(digits, monkeypatch):
    op, indices = operators.build("identity", digits.shape), np.arange(600)
    plain = view_dataset(digits, indices, op, 0).take(indices)
    monkeypatch.setattr(dataset, "SHOW_PROGRESS_FROM", 10)
    jax.tree.map(np.testing.assert_array_equal, view_dataset(digits, indices, op, 0).take(indices), plain)


def test_refusals(digits):
    op = operators.build("identity", (4, 4, 1))
    with pytest.raises(
        ValueError, match=r"low_res: operator 'identity' is for \(4, 4, 1\), sklearn_digits has"
    ):
        view_dataset(digits, np.arange(3), op, 0, name="low_res")
    with pytest.raises(ValueError, match="clean: no examples"):
        clean_dataset(digits, np.array([], int))
    with pytest.raises(ValueError, match="indices up to 1797, sklearn_digits has 1797 examples"):
        clean_dataset(digits, np.array([1797]))
