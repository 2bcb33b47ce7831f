"""What finitely many steps of each sampler do to the spread of Gaussian data, with exact denoisers: a table.

    python benchmarks/samplers.py

Every step is x <- slope x + fresh z, so the variance follows step by step, without a sample. That the samplers have
this law is tested (tests/sampling/test_stochastic.py).
"""

import numpy as np

from jaxdiff.diffusion.noise import karras_schedule, reverse_step
from jaxdiff.sampling import evaluations

DEVIATIONS = np.array([0.5, 0.05])
STEPS = (18, 32, 64, 128, 256)
SAMPLERS = (("heun", 0.0), ("euler", 0.0), ("ddim", 0.5), ("ancestral", 1.0))


def kept(sigma: float) -> np.ndarray:
    """D(x, sigma) / x, of N(0, s^2) numbers."""
    return DEVIATIONS**2 / (DEVIATIONS**2 + sigma**2)


def step(method: str, now: float, after: float, eta: float) -> tuple[np.ndarray, float]:
    """(slope, fresh) of one step."""
    first = (1 - kept(now)) / now
    if method == "heun" and after > 0:
        second = (1 - kept(after)) / after * (1 + (after - now) * first)
        return 1 + (after - now) * (first + second) / 2, 0.0
    down, up = reverse_step(now, after, eta)
    return kept(now) + down * first, up


def relative_error(method: str, eta: float, grid: np.ndarray) -> np.ndarray:
    """Standard deviation of the samples over that of the data, minus 1, in per cent."""
    variance = grid[0] ** 2 * np.ones(len(DEVIATIONS))
    for now, after in zip(grid[:-1], grid[1:], strict=True):
        slope, fresh = step(method, now, after, eta)
        variance = slope**2 * variance + fresh**2
    return 100 * (np.sqrt(variance) / DEVIATIONS - 1)


def main() -> None:
    """Print the table, as Markdown."""
    names = [f"{method}, eta {eta}" if method == "ddim" else method for method, eta in SAMPLERS]
    print("| steps | " + " | ".join(names) + " |")
    print("|---" * (1 + len(names)) + "|")
    for steps in STEPS:
        grid, cells = karras_schedule(steps).astype(np.float64), []
        for method, eta in SAMPLERS:
            wide, narrow = relative_error(method, eta, grid)
            cells.append(f"{wide:+.1f}, {narrow:+.1f} ({evaluations(method, grid)})")
        print(f"| {steps} | " + " | ".join(cells) + " |")


if __name__ == "__main__":
    main()
