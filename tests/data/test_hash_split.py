import numpy as np
import pytest

from jaxdiff.data import hash_split, require_disjoint
from jaxdiff.data.hashing import keyed_hash, permutation

SIZES = {"held_out": 300, "tuning": 20, "clean": 80, "view/a": 500, "view/b": 100}


def test_parts_are_disjoint_and_of_the_size_asked_for():
    parts = hash_split(1000, 0, SIZES)
    assert {name: len(part) for name, part in parts.items()} == SIZES
    assert sorted(np.concatenate(list(parts.values()))) == list(range(1000))


def test_an_example_in_two_parts_is_refused():
    parts = hash_split(1000, 0, SIZES)
    require_disjoint(parts)
    leaked = np.concatenate([parts["clean"], parts["held_out"][:7]])
    with pytest.raises(ValueError, match="'held_out' and 'clean' have 7 examples in common, such as number"):
        require_disjoint({**parts, "clean": leaked})
    with pytest.raises(ValueError, match="'view/b' holds an example twice"):
        require_disjoint({**parts, "view/b": np.repeat(parts["view/b"], 2)})
    require_disjoint({"a": np.arange(3), "b": np.arange(0)})
    require_disjoint({})


def test_size_of_another_part_does_not_move_held_out():
    held_out = hash_split(1000, 0, SIZES)["held_out"]
    for change in ({"clean": 160, "view/b": 20}, {"view/a": 0.4, "view/b": 0.0}):
        np.testing.assert_array_equal(hash_split(1000, 0, {**SIZES, **change})["held_out"], held_out)


def test_data_added_at_the_end_do_not_move_a_share():
    sizes = {"held_out": 0.2, "rest": 0.8}
    before, after = hash_split(1000, 0, sizes), hash_split(1300, 0, sizes)
    for name in sizes:
        assert set(before[name]) == {i for i in after[name] if i < 1000}
    assert abs(len(after["held_out"]) - 260) < 4 * np.sqrt(1300 * 0.2 * 0.8)


def test_data_added_at_the_end_only_displace_from_a_count():
    before = set(hash_split(1000, 0, SIZES)["held_out"])
    after = set(hash_split(1100, 0, SIZES)["held_out"])
    assert {i for i in after if i < 1000} <= before
    assert len(after) == len(before) == 300


def test_counts_and_shares_together_are_disjoint():
    parts = hash_split(1000, 0, {"held_out": 300, "a": 0.3, "clean": 50, "b": 0.2})
    together = np.concatenate(list(parts.values()))
    assert len(np.unique(together)) == len(together)
    assert abs(len(parts["a"]) - 300) < 60 and abs(len(parts["b"]) - 200) < 60


def test_shares_that_sum_to_one_leave_nothing_over():
    parts = hash_split(997, 3, {"a": 1 / 3, "b": 1 / 3, "c": 1 / 3})
    assert sorted(np.concatenate(list(parts.values()))) == list(range(997))


def test_seed_changes_the_parts_and_order_is_not_that_of_the_index():
    first, second = (hash_split(1000, seed, SIZES)["held_out"] for seed in (0, 1))
    assert 50 < len(set(first) & set(second)) < 130  # 90 expected
    assert abs(np.corrcoef(first, np.arange(300))[0, 1]) < 0.2
    assert abs(first.mean() - 499.5) < 5 * 1000 / np.sqrt(12 * 300)


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"a": 600, "b": 500}, r"1100 examples asked for \(a 600, b 500\), 1000 of 1000 are left"),
        ({"a": 0.7, "b": 0.7}, "the shares sum to 1.4"),
        ({"a": 600, "b": 0.9}, "are left beside the shares"),
        ({"a": -1}, "'a' must be a count"),
        ({"a": 1.5}, "'a' must be a count"),
        ({"a": True}, "'a' must be a count"),
    ],
)
def test_refusals(sizes, message):
    with pytest.raises(ValueError, match=message):
        hash_split(1000, 0, sizes)


def test_the_hash_is_that_of_every_machine():
    """The finalizer's published values (splitmix64 from state 0), and one fixed value of the keyed hash."""
    first, second = 0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4
    np.testing.assert_array_equal(keyed_hash(np.arange(2)), np.array([first, second], np.uint64))
    assert list(permutation(8, "order", 0, 0)) == [6, 5, 7, 3, 0, 2, 4, 1]


def test_permutations_are_uniform():
    """First places over many keys: each of 5 within 5 standard deviations of its share."""
    firsts = np.bincount([permutation(5, "order", 0, epoch)[0] for epoch in range(2000)], minlength=5)
    assert np.abs(firsts - 400).max() < 5 * np.sqrt(2000 * 0.2 * 0.8)
