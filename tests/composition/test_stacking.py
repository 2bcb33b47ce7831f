"""Stacking and the gate: optimality on the simplex, and why they need images of their own."""

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.composition import BandTable, fit_gate, fit_stacking, smooth_over_bands, stack
from jaxdiff.composition.stacking import simplex_least_squares
from jaxdiff.composition.weights import fitted_weights, inverse_error_weights


def random_gram(seed, count):
    errors = np.random.default_rng(seed).normal(size=(count, 30)) + np.arange(count)[:, None]
    return errors @ errors.T / 30


@pytest.mark.parametrize("seed", range(5))
def test_simplex_least_squares_beats_a_fine_grid(seed):
    gram = random_gram(seed, 3)
    weights = simplex_least_squares(gram)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1.0)
    side = np.linspace(0, 1, 101)
    grid = np.array([(a, b, 1 - a - b) for a in side for b in side if a + b <= 1 + 1e-12])
    best = np.einsum("nk,kl,nl->n", grid, gram, grid).min()
    assert weights @ gram @ weights <= best + 1e-9


def test_a_gram_matrix_with_a_negative_eigenvalue_of_rounding_is_accepted():
    """Candidates that nearly agree, summed in single precision: G is not quite positive semi-definite."""
    gram = np.ones((3, 3)) * 1e6
    gram[2, 2] = 2e6
    gram[0, 1] = gram[1, 0] = 1e6 * (1 + 1e-7)
    assert np.linalg.eigvalsh(gram).min() < -1e-3
    weights = simplex_least_squares(gram)
    assert weights.min() >= 0 and weights.sum() == pytest.approx(1.0)
    assert weights[2] == pytest.approx(0.0, abs=1e-3)


def test_candidates_are_given_up_for_cheaper_ones_least_loss_first_within_the_tolerance():
    """Independent errors of variance v: the best of candidates A errs by 1 / sum_A 1/v, so every loss is known."""
    v, sigmas = np.array([1.0, 5.0, 20.0]), np.geomspace(0.1, 1.0, 2)
    error = np.array([1 / np.sum(1 / v[:count]) for count in (1, 2, 3)])
    gram, width = np.stack([np.diag(v)] * 2), np.log(10.0)
    loss = (
        (error - error[2])[:, None] * width / sigmas**2
    )  # (tiers, bands), a hundred times more in the first band
    # Band 1 is lowered twice and then band 0 once: the total loss at which each of these happens.
    steps = [((3, 2), loss[1, 1]), ((3, 1), loss[0, 1]), ((2, 1), loss[0, 1] + loss[1, 0])]
    steps.append(((1, 1), loss[0, 1] + loss[0, 0]))
    kept = (3, 3)
    for lowered, total in steps:
        for tolerance, expected in ((0.999 * total, kept), (1.001 * total, lowered)):
            weights = fit_stacking(gram, sigmas, 0.0, (0, 2, 3), tolerance).values
            for row, count in zip(weights, expected, strict=True):
                np.testing.assert_allclose(row[:count], error[count - 1] / v[:count], atol=1e-6)
                assert (row[count:] == 0).all()  # not small: then nothing is saved
        kept = lowered


@pytest.mark.parametrize("seed", range(5))
def test_the_loss_bounds_how_far_the_cheaper_denoiser_is_from_the_best(seed):
    """|D_T - D_best|^2 <= |D_T - x0|^2 - |D_best - x0|^2, as D_best is the projection of x0 on a convex set."""
    gram = random_gram(seed, 3)
    cheap, best = np.zeros(3), simplex_least_squares(gram)
    cheap[:2] = simplex_least_squares(gram[:2, :2])
    apart = (cheap - best) @ gram @ (cheap - best)  # weights sum to one: x0 drops out
    assert apart <= cheap @ gram @ cheap - best @ gram @ best + 1e-6


def test_without_tiers_or_tolerance_the_best_weights_are_kept():
    v, sigmas = np.array([1.0, 5.0, 20.0]), np.array([0.1, 1.0])
    gram = np.stack([np.diag(v)] * 2)
    for tiers, tolerance in (((1, 1, 1), 9.0), ((0, 2, 3), 0.0), ((), 9.0)):
        weights = fit_stacking(gram, sigmas, 0.0, tiers, tolerance).values
        np.testing.assert_allclose(weights[0], 1 / np.sum(1 / v) / v, atol=1e-6)


def test_stacking_refuses_what_cannot_be():
    gram, sigmas = np.stack([np.eye(2)] * 2), np.array([0.1, 1.0])
    for tiers, tolerance in (((0, 1), -0.1), ((0,), 0.1)):
        with pytest.raises(ValueError, match="tolerance"):
            fit_stacking(gram, sigmas, 0.0, tiers, tolerance)


def test_gate_is_the_closed_form():
    rng = np.random.default_rng(0)
    error = rng.normal(size=(4, 500))  # z - x0
    rho = -0.6 * error + 0.5 * rng.normal(size=error.shape)
    pairs = np.stack([error, error + rho], axis=1)
    gram = np.einsum("skn,sln->skl", pairs, pairs) / 500
    expected = np.clip(np.sum(-error * rho, axis=1) / np.sum(rho**2, axis=1), 0, 1)
    gate = fit_gate(gram, np.geomspace(0.1, 1, 4), smooth=0)
    np.testing.assert_allclose(gate.values[:, 0], expected, atol=1e-5)


def test_gate_fitted_on_training_images_is_worse_than_the_views():
    """A residual that memorised its training images looks perfect there: its gate must come from other images."""
    rng = np.random.default_rng(1)
    count, dimension = 40, 50

    def moments(memorised):
        z_error = rng.normal(size=(count, dimension))
        guess = -z_error if memorised else 1.0 * rng.normal(size=z_error.shape)
        pair = np.stack([z_error, z_error + guess])
        return np.einsum("knd,lnd->kl", pair, pair)[None] / count

    sigmas = np.array([1.0])
    held_out = moments(False)[0]

    def held_out_error(fitted_on):
        g = fit_gate(fitted_on, sigmas, smooth=0).values[0, 0]
        weights = np.array([1 - g, g])
        return weights @ held_out @ weights

    views_error = held_out[0, 0]
    assert (
        held_out_error(moments(False)) <= 1.02 * views_error
    )  # gate on tuning images: never worse, up to tuning noise
    assert held_out_error(moments(True)) > 1.5 * views_error  # gate on training images: the mutation


def test_stacking_rows_stay_convex_after_smoothing_and_between_bands():
    gram = np.stack([random_gram(s, 4) * 10.0**s for s in range(6)])
    table = fit_stacking(gram, np.geomspace(0.1, 10, 6), smooth=1.5)
    between = np.asarray(table(jnp.geomspace(0.01, 100, 50)))
    np.testing.assert_allclose(between.sum(axis=1), 1.0, atol=1e-5)
    assert between.min() >= 0


def test_stack_mixes_candidates_by_example():
    table = BandTable(jnp.array([1.0, 4.0]), jnp.array([[1.0, 0.0], [0.0, 1.0]]))
    candidates = jnp.stack([jnp.zeros((3, 2, 2)), jnp.ones((3, 2, 2))])
    mixed = stack(candidates, table, jnp.array([0.5, 2.0, 9.0]))
    np.testing.assert_allclose(mixed[:, 0, 0], [0.0, 0.5, 1.0], atol=1e-6)  # linear in ln sigma


def test_smoothing_keeps_constants_and_none_changes_nothing():
    values = np.random.default_rng(0).normal(size=(7, 2))
    np.testing.assert_allclose(smooth_over_bands(np.ones((7, 2)), 2.0), 1.0)
    np.testing.assert_array_equal(smooth_over_bands(values, 0.0), values)


def test_inverse_error_weights_count_per_direction():
    table = inverse_error_weights(np.array([[8.0, 8.0]]), [2, 8], np.array([1.0]), smooth=0)
    np.testing.assert_allclose(table.values, [[0.25, 1.0]])


def test_fitted_weights_find_the_minimum():
    target = jnp.log(jnp.array([[1.0, 0.2], [0.5, 1.0]]))

    def loss(weights):
        logs = jnp.log(weights)
        difference = (logs[:, 0] - logs[:, 1]) - (target[:, 0] - target[:, 1])
        return jnp.square(difference)

    start = BandTable(np.array([0.1, 1.0], np.float32), np.ones((2, 2), np.float32))
    found = fitted_weights(loss, start, smooth=0.0, prior=1e-6)
    np.testing.assert_allclose(found.values, [[1.0, 0.2], [0.5, 1.0]], rtol=1e-2)


@pytest.mark.parametrize("n", [3, 30, 300])
def test_gated_residual_follows_the_parallel_law(n):
    """error(n) = R0 V(n) / (R0 + V(n)): R0 the error of the views alone, V(n) that of a fit from n examples.

    A least-squares fit of the residual from n noisy examples has error V(n) = v / n; the gate shrinks it.
    """
    rng = np.random.default_rng(0)
    count, views_power, v = 200_000, 2.0, 30.0
    missing = np.sqrt(views_power) * rng.normal(size=count)  # x0 - z, one coordinate an image
    fitted = missing + np.sqrt(v / n) * rng.normal(size=count)
    pair = np.stack([-missing, fitted - missing])  # errors of z and of z + rho
    gram = (pair @ pair.T / count)[None]
    g = fit_gate(gram, np.array([1.0]), smooth=0).values[0, 0]
    weights = np.array([1 - g, g])
    expected = views_power * (v / n) / (views_power + v / n)
    assert weights @ gram[0] @ weights == pytest.approx(expected, rel=0.02)
    assert g == pytest.approx(views_power / (views_power + v / n), rel=0.02)
