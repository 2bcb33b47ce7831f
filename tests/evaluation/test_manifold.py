"""Precision, recall, density, coverage on sets whose answers can be counted by hand, and on equal laws."""

import numpy as np
import pytest

from jaxdiff.evaluation.manifold import density_coverage, expected_coverage, precision_recall, radii

LINE = np.arange(10.0)[:, None]  # neighbors at distance 1


def test_radii():
    np.testing.assert_allclose(radii(LINE, 1), 1)
    np.testing.assert_allclose(radii(LINE, 2), [2, *[1] * 8, 2])
    np.testing.assert_allclose(radii(np.array([[0.0], [0.0], [5.0]]), 1), [0, 0, 5])


def test_precision_and_recall_by_hand():
    # Two samples between real points, two far away: 9.9 away from 9 is outside its ball of radius 1.
    generated = np.array([[2.4], [6.4], [18.9], [40.0]])
    found = precision_recall(LINE, generated, k=1)
    assert found["precision"] == 0.5
    # radii of the samples: 4, 4, 12.5, 21.1: balls [-1.6, 6.4], [2.4, 10.4] hold every real point
    assert found["recall"] == 1.0
    assert precision_recall(LINE, generated[:2] + 100, k=1) == {"precision": 0.0, "recall": 0.0}


def test_recall_of_a_collapsed_set():
    collapsed = np.array([[3.0], [3.01], [3.02], [2.99]])
    found = precision_recall(LINE, collapsed, k=2)
    assert found == {"precision": 1.0, "recall": 0.1}  # only the real point 3 is inside a tiny ball
    assert precision_recall(collapsed, LINE, k=2) == {"precision": 0.1, "recall": 1.0}


def test_density_and_coverage_by_hand():
    generated = np.array([[2.4], [2.6], [30.0]])
    found = density_coverage(LINE, generated, k=1)
    # 2.4 and 2.6 are each in the balls of 2 and 3; 30 in none
    assert found["density"] == pytest.approx(4 / 3)
    assert found["coverage"] == pytest.approx(0.2)
    far = density_coverage(LINE, np.append(generated, [[9.3]], axis=0), k=1)
    assert far == pytest.approx({"density": 5 / 4, "coverage": 0.3})  # 9.3 is in the ball of 9 alone


def test_equal_laws():
    rng = np.random.default_rng(0)
    runs = [density_coverage(rng.standard_normal((300, 4)), rng.standard_normal((200, 4))) for _ in range(20)]
    density, coverage = (np.array([run[name] for run in runs]) for name in ("density", "coverage"))
    assert density.mean() == pytest.approx(1, abs=0.05)
    expected = expected_coverage(300, 200)
    assert coverage.mean() == pytest.approx(expected, abs=4 * coverage.std() / np.sqrt(20))
    assert expected_coverage(10**6, 10**6) == pytest.approx(1 - 2**-5, abs=1e-5)
    assert abs(expected - expected_coverage(300, 200, k=4)) > 4 * coverage.std() / np.sqrt(20)


def test_bad_input_is_named():
    with pytest.raises(ValueError, match=r"k must lie in \[1, 9\]"):
        precision_recall(LINE, LINE, k=10)
    with pytest.raises(ValueError, match="dimension 1 and 2"):
        density_coverage(LINE, np.zeros((4, 2)))
    with pytest.raises(ValueError, match="not finite"):
        precision_recall(LINE, LINE * np.nan)
