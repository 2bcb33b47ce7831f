"""Made-up price-list measurements with laws that are known in closed form."""

import numpy as np

CLEAN, SOURCE = (50, 100, 200, 400), (0, 325, 1300, 2600)
TOP, A, ALPHA = 330.0, 2500.0, 0.7
K, M = 0.3, 2000.0  # exchange: k, M
FLOOR, B, BETA = 20.0, 3000.0, 0.6  # parallel: F, B, beta


def grid(seeds: int = 1) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    n, m = (v.ravel().astype(float) for v in np.meshgrid(CLEAN, SOURCE, indexing="ij"))
    return np.repeat(n, seeds), np.repeat(m, seeds), np.tile(np.arange(seeds), len(n))


def exchange(n, m):
    return TOP - A * (n + K * m / (1 + m / M)) ** -ALPHA


def parallel(n, m):
    own = A * np.asarray(n, float) ** -ALPHA
    m = np.asarray(m, float)
    views = FLOOR + B * np.maximum(m, 1e-300) ** -BETA
    return TOP - np.where(m > 0, views * own / (views + own), own)


def exchange_price(n, m):
    return K / (1 + m / M) ** 2


def parallel_price(n, m, step=1e-3):
    """(dq/dm) / (dq/dn) by central differences of the formula."""
    by_source = parallel(n, m + step) - parallel(n, m - step)
    return by_source / (parallel(n + step, m) - parallel(n - step, m))
