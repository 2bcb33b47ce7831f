"""The toy experiment: every row within its tolerance, and rows that fail when a piece is wrong."""

import numpy as np
import pytest

from jaxdiff.composition import View
from jaxdiff.evaluation import toy


@pytest.mark.slow
def test_every_row_is_within_its_tolerance():
    seen = []
    rows = toy.gaussian_toy(progress=lambda done, total: seen.append((done, total)))
    assert [row["quantity"] for row in rows if not row["ok"]] == []
    assert seen[-1] == (5, 5)
    assert all(set(row) == {"quantity", "measured", "exact", "tolerance", "ok"} for row in rows)
    exact = {row["quantity"]: row["exact"] for row in rows}
    np.testing.assert_allclose(exact["total correlation of the pair (nats)"], -0.5 * np.log(1 - 0.64))
    assert round(exact["sigma^2 E|r|^2 at sigma = 5, overlapping views, plain sum"], 3) == 0.963
    assert round(exact["sigma^2 E|r|^2 at sigma = 5, overlapping views, fusion"], 4) == 0.0015
    assert len(exact) == len(rows) == 16


@pytest.mark.parametrize("rho", (-0.5, 0.3))
def test_other_correlations(rho):
    assert all(row["ok"] for row in toy.pair_rows(rho, 4096, seed=1))


def test_a_wrong_noise_level_in_a_view_fails(monkeypatch):
    right = toy.gaussian_views

    def wrong(gaussian, crops):
        at = lambda view: lambda v, sigma: view.denoiser(v, 1.1 * sigma)  # noqa: E731
        return [View(view.operator, at(view)) for view in right(gaussian, crops)]

    monkeypatch.setattr(toy, "gaussian_views", wrong)
    rows = toy.pair_rows(0.8, 4096, seed=0)
    assert not any(row["ok"] for row in rows if "sigma = 0.1" in row["quantity"] or "nats" in row["quantity"])


def test_a_plain_sum_in_place_of_the_fusion_fails(monkeypatch):
    monkeypatch.setattr(toy, "fused_score", toy.summed_scores)
    rows = toy.overlap_rows(1024, seed=0)
    assert [row["ok"] for row in rows] == [True, False]


def test_forgetting_the_residual_fails(monkeypatch):
    monkeypatch.setattr(toy.theory, "pair_residual", lambda rho, x, sigma: 0 * x)
    rows = {row["quantity"]: row["ok"] for row in toy.sampled_rows(0.8, 4096, 0, 64)}
    assert not rows["sampled covariance, views and residual"] and rows["sampled covariance, views alone"]


def test_bad_arguments_are_named():
    with pytest.raises(ValueError, match=r"rho must lie in \(-1, 1\), got 1.0"):
        toy.gaussian_toy(rho=1.0)
    with pytest.raises(ValueError, match="samples"):
        toy.gaussian_toy(samples=1)
