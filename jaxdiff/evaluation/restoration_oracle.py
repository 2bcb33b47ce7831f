"""The oracle table of restoration: every guidance on data whose exact posterior is known.

    python -m jaxdiff.evaluation.restoration_oracle [--draws 4000] [--seed 0] [--json]

Two priors with exact denoisers, a Gaussian of 16 values and a mixture of three Gaussians of 2 values, five
measurements y = A x + sigma_y n of each, and for every guidance many draws given the same y. Of the draws' mean and
covariance against the exact ones it says

    mean    |m^ - m| / sqrt(tr C)             in standard deviations of the posterior
    cov     |C^ - C|_F / |C|_F
    spread  sqrt(tr C^ / tr C)                below 1: too sure

The row `exact draws` is what as many draws from the exact posterior show: the sampling noise of the table (root mean
square of 50 such sets).
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console
from rich.table import Table

from jaxdiff import operators
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.evaluation.restoration_law import Mixture, condition, masked_denoiser, matrix_of
from jaxdiff.operators import LinearOperator
from jaxdiff.sampling import restore

SIGMA_Y = 0.2
EXACT = "exact draws"
REPEATS = 50


class Case(NamedTuple):
    """A measurement of a prior: the operator's specification and the shape that the prior's values take."""

    shape: tuple[int, ...]
    name: str
    args: dict


class Prior(NamedTuple):
    """A law, its five measurements by name, and which of its values the ambient prior's mask A~ hides."""

    law: Mixture
    cases: dict[str, Case]
    hidden: tuple[int, ...]


class Run(NamedTuple):
    """One line of the table: a method of `restore`, its steps and settings."""

    method: str
    steps: int
    settings: dict


def fourier_case(shape: tuple[int, ...], acceleration: float, image: tuple[int, ...], count: int) -> Case:
    """Masked Fourier transform of the values as complex pixels; without that operator, `count` random projections."""
    if "fourier" in operators.names():
        return Case(shape, "fourier", {"acceleration": acceleration, "center": 1})
    return Case(image, "sensing", {"measurements": count, "matrices": 1, "seed": 1, "orthonormal": True})


def gaussian_prior() -> Prior:
    """16 values, a smooth 4 x 4 image: covariance 0.3 exp(-distance / 3), a mean that is not zero."""
    place = np.stack(np.meshgrid(range(4), range(4)), -1).reshape(16, 2)
    distance = np.linalg.norm(place[:, None] - place[None], axis=-1)
    law = Mixture(np.ones(1), np.linspace(-0.4, 0.4, 16)[None], 0.3 * np.exp(-distance / 3)[None])
    image = (4, 4, 1)
    cases = {
        "inpainting": Case(image, "mask", {"hidden_box": {"top": 1, "left": 1, "height": 2, "width": 3}}),
        "super-resolution": Case(image, "avg_pool", {"factor": 2}),
        "blur": Case(image, "gaussian_blur", {"std": 0.7}),
        "compressed sensing": Case(image, "sensing", {"measurements": 6, "matrices": 1}),
        "Fourier": fourier_case((2, 4, 2), 2.0, image, 8),
    }
    return Prior(law, cases, hidden=(5, 10))


def mixture_prior() -> Prior:
    """2 values, three modes."""
    means = np.array([[-0.8, -0.5], [0.7, -0.6], [0.1, 0.8]])
    covs = np.array(
        [[[0.06, 0.03], [0.03, 0.04]], [[0.03, 0.0], [0.0, 0.05]], [[0.08, -0.04], [-0.04, 0.05]]]
    )
    law = Mixture(np.array([0.4, 0.35, 0.25]), means, covs)
    image = (1, 2, 1)
    cases = {
        "inpainting": Case(image, "mask", {"mask": ((0, 1),)}),
        "super-resolution": Case((1, 1, 2), "grayscale", {"weights": (0.5, 0.5)}),
        "blur": Case(image, "gaussian_blur", {"std": 0.4}),
        "compressed sensing": Case(image, "sensing", {"measurements": 1.0 / 2, "matrices": 1}),
        "Fourier": fourier_case((1, 1, 2), 1.0, image, 2),
    }
    return Prior(law, cases, hidden=(0,))


PRIORS = {"Gaussian, 16 values": gaussian_prior, "mixture, 2 values": mixture_prior}

# The published settings where they mean anything here; `docs/restoration.md` says where they do not.
RUNS = {
    "mmps": Run("mmps", 64, {"cg_steps": 8}),
    "pigdm": Run("pigdm", 64, {"sigma_data": 0.55}),
    "dps, plain": Run("dps", 250, {"norm": "plain", "scale": 0.02}),
    "dps, squared": Run("dps", 250, {"norm": "squared", "scale": 0.05}),
    "dps, likelihood": Run("dps", 1000, {"norm": "likelihood", "scale": 1.0}),
    "ddrm": Run("ddrm", 20, {}),
    "diffpir": Run("diffpir", 100, {}),
    "repaint": Run("repaint", 50, {}),
    "ambient dps": Run("ambient_dps", 250, {"scale": 0.02}),
    "one step, pinv": Run("one_step", 2, {"start": "pinv"}),
    "one step, posterior": Run("one_step", 2, {"start": "posterior", "cg_steps": 16}),
}


def errors(draws: np.ndarray, exact: Mixture) -> dict[str, float]:
    """The three numbers of the module's docstring for draws (n, d)."""
    mean, cov = exact.moments()
    found = np.cov(draws.T)
    return {
        "mean": float(np.linalg.norm(draws.mean(axis=0) - mean) / np.sqrt(np.trace(cov))),
        "cov": float(np.linalg.norm(found - cov) / np.linalg.norm(cov)),
        "spread": float(np.sqrt(np.trace(found) / np.trace(cov))),
    }


def sampling_noise(exact: Mixture, draws: int, rng: np.random.Generator) -> dict[str, float]:
    """`errors` of exact draws, root mean square over REPEATS sets; the spread's is its deviation from 1."""
    found = [errors(exact.draw(rng, draws), exact) for _ in range(REPEATS)]

    def size(name, around):
        return float(np.sqrt(np.mean([(one[name] - around) ** 2 for one in found])))

    return {"mean": size("mean", 0), "cov": size("cov", 0), "spread": 1 + size("spread", 1)}


def measure(prior: Prior, case: Case, seed: int) -> tuple[LinearOperator, np.ndarray, Mixture]:
    """The operator with parameters for one example, y (1, *out_shape) of one draw of the prior, and the posterior."""
    operator = operators.build(case.name, case.shape, **case.args).draw(jax.random.key(seed)[None])
    rng = np.random.default_rng(seed)
    clean = jnp.asarray(prior.law.draw(rng, 1).reshape(1, *case.shape), jnp.float32)
    noise = jnp.asarray(rng.standard_normal((1, *operator.out_shape)), jnp.float32)
    y = operator.restrict(operator(clean) + SIGMA_Y * noise)
    matrix = matrix_of(operator)
    return operator, np.asarray(y), condition(prior.law, matrix, np.asarray(y, np.float64).ravel(), SIGMA_Y)


def run_method(
    run: Run, prior: Prior, operator: LinearOperator, y: np.ndarray, draws: int, seed: int
) -> np.ndarray:
    """Draws given y, (draws, d)."""
    shape = operator.in_shape
    everything = np.ones(prior.law.means.shape[1], bool)
    settings = dict(run.settings)
    if run.method == "ambient_dps":
        seen = everything.copy()
        seen[list(prior.hidden)] = False
        exact = masked_denoiser(prior.law, seen)
        mask = jnp.broadcast_to(jnp.asarray(seen).reshape(shape), (draws, *shape))
        family = operators.build("pixel_mask", shape, p=0.1, per_channel=True)
        settings["further"] = family.replace(params={"mask": mask})
    else:
        whole = masked_denoiser(prior.law, everything)
        exact = partial(_of_all, whole)
    many = operator.replace(
        params=jax.tree.map(lambda leaf: jnp.repeat(leaf, draws, axis=0), operator.params)
    )
    grid = karras_schedule(run.steps, 0.01, 40.0)
    call = jax.jit(partial(restore, run.method, exact, sigmas=grid, **settings))
    keys = jax.random.split(jax.random.key(seed), draws)
    found = call(many, jnp.repeat(jnp.asarray(y), draws, axis=0), jnp.full(draws, SIGMA_Y), keys=keys)
    return np.asarray(found, np.float64).reshape(draws, -1)


def _of_all(masked, x, sigma):
    return masked(x, sigma, None)


def oracle_rows(
    draws: int = 4000, seed: int = 0, progress: Callable[[str], None] | None = None
) -> Iterator[dict]:
    """Rows {'prior', 'operator', 'guidance', 'mean', 'cov', 'spread'}; a refusal has 'refused' in their place.

    Raises:
        ValueError: fewer than 100 draws.
    """
    if draws < 100:
        raise ValueError(f"the table needs at least 100 draws, got {draws}")
    for prior_name, make in PRIORS.items():
        prior = make()
        for case_name, case in prior.cases.items():
            operator, y, exact = measure(prior, case, seed)
            place = {"prior": prior_name, "operator": case_name}
            noise = sampling_noise(exact, draws, np.random.default_rng(seed))
            yield {**place, "guidance": EXACT, **noise}
            for name, run in RUNS.items():
                if progress is not None:
                    progress(f"{prior_name} {case_name} {name}")
                try:
                    found = errors(run_method(run, prior, operator, y, draws, seed), exact)
                except ValueError as error:
                    yield {**place, "guidance": name, "refused": str(error)}
                else:
                    yield {**place, "guidance": name, **found}


def table(rows: list[dict], prior: str) -> Table:
    """A line for each guidance, a column for each operator, `mean / cov / spread` in each cell."""
    rows = [row for row in rows if row["prior"] == prior]
    columns = list(dict.fromkeys(row["operator"] for row in rows))
    cells = {
        (row["guidance"], row["operator"]): "refused"
        if "refused" in row
        else f"{row['mean']:.3f} / {row['cov']:.3f} / {row['spread']:.2f}"
        for row in rows
    }
    shown = Table("guidance", *columns, title=f"{prior}: mean / cov / spread, sigma_y = {SIGMA_Y}")
    for name in dict.fromkeys(row["guidance"] for row in rows):
        shown.add_row(name, *(cells[name, column] for column in columns))
    return shown


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.evaluation.restoration_oracle",
        description="Every guidance against the exact posterior of a Gaussian and of a mixture.",
    )
    parser.add_argument("--draws", type=int, default=4000, help="draws given each y (4000)")
    parser.add_argument("--seed", type=int, default=0, help="of the examples and of the draws (0)")
    parser.add_argument("--json", action="store_true", help="print JSON and no table")
    flags = parser.parse_args(arguments)
    errors_to = Console(stderr=True)
    started = time.monotonic()
    try:
        with errors_to.status("") as status:
            rows = list(oracle_rows(flags.draws, flags.seed, status.update))
    except ValueError as error:
        parser.error(str(error))
    if flags.json:
        print(
            json.dumps({"draws": flags.draws, "seed": flags.seed, "sigma_y": SIGMA_Y, "rows": rows}, indent=1)
        )
        return 0
    out = Console(width=None if sys.stdout.isatty() else 160)
    for prior in PRIORS:
        out.print(table(rows, prior))
    out.print(f"{flags.draws} draws each, seed {flags.seed}, {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
