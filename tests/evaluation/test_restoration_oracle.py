"""The oracle's own oracle (brute force), one exact and one biased line of the table, and the command."""

import json
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.diffusion.mixture import GaussianMixture
from jaxdiff.evaluation import restoration_oracle as oracle
from jaxdiff.evaluation.restoration_law import Mixture, condition, masked_denoiser


def test_the_posterior_of_a_mixture_agrees_with_a_grid():
    law = oracle.mixture_prior().law
    a, y, sigma_y = np.array([[0.5, 0.5]]), np.array([0.2]), 0.2
    axis = np.linspace(-3, 3, 601)
    points = np.stack(np.meshgrid(axis, axis, indexing="ij"), -1).reshape(-1, 2)
    density = np.zeros(len(points))
    for weight, mean, cov in zip(*law, strict=True):
        apart = points - mean
        size = np.einsum("ni,ij,nj->n", apart, np.linalg.inv(cov), apart)
        density += weight * np.exp(-size / 2) / np.sqrt(np.linalg.det(cov))
    density *= np.exp(-((points @ a[0] - y[0]) ** 2) / (2 * sigma_y**2))
    density /= density.sum()
    mean, cov = condition(law, a, y, sigma_y).moments()
    np.testing.assert_allclose(density @ points, mean, atol=1e-4)
    np.testing.assert_allclose(
        np.einsum("n,ni,nj->ij", density, points - mean, points - mean), cov, atol=1e-4
    )


def test_exact_draws_show_the_sampling_noise_and_no_more():
    law = oracle.mixture_prior().law
    mean, cov = law.moments()
    found = oracle.errors(law.draw(np.random.default_rng(0), 40_000), law)
    assert found["mean"] < 0.02 and found["cov"] < 0.03 and found["spread"] == pytest.approx(1, abs=0.01)
    shifted = oracle.errors(law.draw(np.random.default_rng(0), 40_000) + np.sqrt(np.trace(cov)) / 2**0.5, law)
    assert shifted["mean"] == pytest.approx(1.0, abs=0.03)
    noise = oracle.sampling_noise(law, 1000, np.random.default_rng(1))
    assert noise["mean"] == pytest.approx(1000**-0.5, rel=0.3)


def test_the_masked_denoiser_of_everything_is_the_mixtures_own():

    law = oracle.mixture_prior().law
    own = GaussianMixture(*(jnp.asarray(part, jnp.float32) for part in law))
    x, sigma = jnp.array([[0.3, -0.2], [1.0, 2.0]]), jnp.array([0.2, 3.0])
    found = masked_denoiser(law, np.ones(2, bool))(x, sigma, None)
    np.testing.assert_allclose(found, own.denoiser(x, sigma), atol=1e-4)
    # One number alone: by hand from the marginal of a single component.
    one = Mixture(np.ones(1), np.array([[0.1, 0.2]]), np.array([[[1.0, 0.5], [0.5, 1.0]]]))
    slope = 1.1 / (1 + 0.25) * np.array([1.0, 0.5])
    found = masked_denoiser(one, np.array([True, False]))(jnp.array([[1.2, 9.0]]), jnp.array([0.5]), None)
    np.testing.assert_allclose(found[0], np.array([0.1, 0.2]) + slope, atol=1e-5)


@pytest.mark.parametrize("guidance, exact", [("mmps", True), ("ddrm", False)])
def test_lines_of_the_table(guidance, exact):
    prior = oracle.gaussian_prior()
    operator, y, law = oracle.measure(prior, prior.cases["inpainting"], 0)
    found = oracle.errors(oracle.run_method(oracle.RUNS[guidance], prior, operator, y, 2000, 0), law)
    noise = oracle.sampling_noise(law, 2000, np.random.default_rng(0))
    if exact:  # the sampler's own error (2 % of the spread with 64 steps) comes on top of the noise
        assert found["mean"] < 4 * noise["mean"] and found["spread"] == pytest.approx(1, abs=0.05)
        assert found["cov"] < 3 * noise["cov"] + 0.05
    else:
        assert found["spread"] < 0.9 and found["mean"] < 1.0


def documented():
    """{(prior, guidance, operator): [mean, cov, spread]} of docs/restoration.md, None where the method is refused."""
    text = (Path(__file__).parents[2] / "docs" / "restoration.md").read_text()
    found = {}
    for prior in oracle.PRIORS:
        after = text.partition(f"\n{prior[0].upper()}{prior[1:]}:\n\n")[2]
        lines = [line.strip("|").split("|") for line in after.partition("\n\n")[0].splitlines()]
        (_, *cases), _, *rows = [[cell.strip() for cell in line] for line in lines]
        for guidance, *cells in rows:
            for case, cell in zip(cases, cells, strict=True):
                numbers = None if cell == "refused" else [float(number) for number in cell.split("/")]
                found[prior, guidance, case] = numbers
    return found


def check_cell(found, said, noise, noise_said, draws, law):
    """Whether the three numbers of `draws` are those of the documents, which are of four times as many draws.

    |m^ - m| and |C^ - C| are never 0, they grow with sampling noise: by as much as the lines of exact draws say. The
    rest is 3.5 bootstrap standard errors, and 0.01 for the two digits of the documents.
    """
    rng = np.random.default_rng(0)
    again = [oracle.errors(draws[rng.integers(0, len(draws), len(draws))], law) for _ in range(40)]
    names = ("mean", "cov", "spread")
    for name, value, exact in zip(names, said, noise_said, strict=True):
        if name != "spread":
            own = found["spread"] ** (1 if name == "mean" else 2)  # draws that vary less are less noisy
            value = np.sqrt(value**2 + own**2 * max(noise[name] ** 2 - exact**2, 0))
        error = np.std([one[name] for one in again])
        yield name, found[name], value, abs(found[name] - value) < 3.5 * error + 0.01


@pytest.mark.slow
def test_every_cell_of_the_table_is_as_documented(capsys, monkeypatch):
    """Every guidance and operator, Gaussian and mixture: bias of mean and covariance as docs/restoration.md states it.

    Mutations, each of which fails in one cell or more: half of the scale in dps (all norms) and ambient_dps, eta = 0 in
    ddrm, twice lam in diffpir, one conjugate-gradient step in mmps, sigma_data = 0.4 in pigdm, half of RePaint's
    resamples, half of one_step's sigma.
    """
    kept, run_method = [], oracle.run_method

    def spy(run, prior, operator, y, draws, seed):
        kept.append((run_method(run, prior, operator, y, draws, seed), prior, y, operator))
        return kept[-1][0]

    monkeypatch.setattr(oracle, "run_method", spy)
    assert oracle.main(["--draws", "1000", "--json"]) == 0
    rows, said = json.loads(capsys.readouterr().out)["rows"], documented()
    assert len(rows) == len(said) == 2 * 5 * (len(oracle.RUNS) + 1)
    wrong, kept = [], iter(kept)
    for row in rows:
        place = (row["prior"], row["guidance"], row["operator"])
        if row["guidance"] == oracle.EXACT:
            noise, noise_said = row, said[place]
            continue
        assert ("refused" in row) == (said[place] is None), place
        if "refused" in row:
            assert row["guidance"] == "repaint" and "it is for masks" in row["refused"]
            continue
        draws, prior, y, operator = next(kept)
        law = condition(prior.law, oracle.matrix_of(operator), np.asarray(y, float).ravel(), oracle.SIGMA_Y)
        cells = check_cell(row, said[place], noise, noise_said, draws, law)
        wrong += [(*place, *cell[:3]) for cell in cells if not cell[3]]
    assert not wrong, wrong


def test_too_few_draws_are_refused():
    with pytest.raises(ValueError, match="at least 100 draws"):
        next(oracle.oracle_rows(draws=10))
