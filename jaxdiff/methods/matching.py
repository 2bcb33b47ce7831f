"""Whole images put together from measurements of two views that share no pixel and leave none out.

Let view 1 show the part P of an image and view 2 the rest, Q = I - P (a top and a bottom half, say), of different
images x_i and y_j. What is put together is

    pairs = argmin over one-to-one assignments of sum cost(i, j), then the best without a pair of before, ...
    image = P x_i + Q y_j                                  every pixel of it measured                             (1)

with one of two costs:

    - log p(P x_i + Q y_j) / (p(P x_i) p(Q y_j))           under a law of whole images (`log_ratio` of a mixture,
                                                           diffusion/ppca_mixture.py): the likeliest assignment
    sum_p w_p (c_i - d_j)_p^2                              c_i and d_j posterior draws of the hidden rest and part,
                                                           w_p = 1, and 1 + seam_weight on both sides of the border

An image completed by a draw teaches only what was measured of it; of (1) every pixel may be asked for, which is twice
as much for the same forward pass, and each marginal, that of P X and that of Q X, stays exactly that of the data,
which no draw can promise. What is not exact is the coupling, which is that of the cost; it is at its worst where the
parts meet, since strokes seldom go on where they should. The pixels at the border are shown, but not asked for
(`asked`): a network learns them from clean images, and from what it knows of the other pixels.

One-to-one, because the best part for each would favour the parts that fit everything. Assignment: Kuhn-Munkres
(`scipy.optimize.linear_sum_assignment`), cubic in the number of measurements: seconds for 2,000, minutes for 10,000.
"""

from collections.abc import Sequence

import numpy as np
from scipy.ndimage import binary_dilation
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist


def complementary(coverages: Sequence[np.ndarray]) -> list[tuple[int, int]]:
    """Numbers of views that show the two parts of an image, (first, second), each view in one pair at most.

    Args:
      coverages: of each view, (H, W, C): 1 where it shows a pixel, 0 where not; others (averages) are in no pair.
    """
    pairs, taken = [], set()
    for first, of_first in enumerate(coverages):
        for second in range(first + 1, len(coverages)):
            tiles = np.array_equal(of_first + coverages[second], np.ones_like(of_first))
            shown = np.isin(of_first, (0.0, 1.0)).all() and 0 < of_first.mean() < 1
            if tiles and shown and not {first, second} & taken:
                pairs.append((first, second))
                taken |= {first, second}
    return pairs


def seam(part: np.ndarray) -> np.ndarray:
    """Pixels on both sides of the border of a part, (H, W, C) bool: those with a neighbour in the other part."""
    cross = np.zeros((3, 3, 1), bool)
    cross[1, :, 0] = cross[:, 1, 0] = True
    inside = part > 0
    return (binary_dilation(inside, cross) & ~inside) | (binary_dilation(~inside, cross) & inside)


def asked(part: np.ndarray) -> np.ndarray:
    """Pixels of a matched image that the loss asks for, (H, W, C) bool: all but the `seam`.

    Raises:
      ValueError: there is none (a checkerboard).
    """
    inside = ~seam(part)
    if not inside.any():
        raise ValueError("every pixel lies at the border of the two parts: nothing is left to ask for")
    return inside


def draw_distances(
    first: np.ndarray, second: np.ndarray, part: np.ndarray, seam_weight: float = 0.0
) -> np.ndarray:
    """Weighted squared distances between completed images of two views, (N, M).

    Args:
      first: completed measurements of one view, (N, H, W, C).
      second: completed measurements of the other view, (M, H, W, C).
      part: (H, W, C), what the first shows.
      seam_weight: added to the weight 1 of pixels at the border of the parts.

    Raises:
      ValueError: shapes that do not fit, or a negative weight.
    """
    if first.shape[1:] != second.shape[1:] or first.shape[1:] != part.shape:
        raise ValueError(f"draw_distances: images {first.shape} and {second.shape}, part {part.shape}")
    if seam_weight < 0:
        raise ValueError(f"draw_distances: no negative weight; got {seam_weight}")
    root = np.sqrt(1.0 + seam_weight * seam(part)).ravel()
    flat = [root * images.reshape(len(images), -1).astype(np.float64) for images in (first, second)]
    return cdist(*flat, "sqeuclidean")


def assignments(cost: np.ndarray, matches: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Rows and columns of up to `matches` one-to-one assignments of least cost, no pair twice.

    Args:
      cost: (N, M), finite.
      matches: number of assignments; at most max(N, M) can be had.

    Raises:
      ValueError: no rows or columns, costs that are not finite, or `matches` below 1.
    """
    if cost.ndim != 2 or not cost.size or not np.isfinite(cost).all():
        raise ValueError(f"assignments: costs (N, M), finite and at least one; got shape {cost.shape}")
    if matches < 1:
        raise ValueError(f"assignments: at least 1 match; got {matches}")
    cost = cost - cost.min()
    dear, pairs = 1.0 + cost.max() * min(cost.shape), []
    for _ in range(min(matches, max(cost.shape))):
        rows, columns = linear_sum_assignment(cost)
        new = cost[rows, columns] < dear
        pairs += [np.stack([rows[new], columns[new]], axis=1)]
        cost[rows, columns] = dear
    return tuple(np.concatenate(pairs).T)


def matched(
    first: np.ndarray, second: np.ndarray, part: np.ndarray, cost: np.ndarray, matches: int = 1
) -> np.ndarray:
    """Images (1), (n, H, W, C), n = up to `matches` times the smaller of N and M; no pair twice.

    Args:
      first: images that hold at least the `part`, (N, H, W, C).
      second: images that hold at least the rest, (M, H, W, C).
      part: (H, W, C), 1 where the first counts and 0 where the second does.
      cost: of every pair, (N, M).
      matches: number of assignments.

    Raises:
      ValueError: shapes that do not fit, and whatever `assignments` refuses.
    """
    if first.shape[1:] != second.shape[1:] or first.shape[1:] != part.shape:
        raise ValueError(f"matched: images {first.shape} and {second.shape}, part {part.shape}")
    if cost.shape != (len(first), len(second)):
        raise ValueError(f"matched: costs {cost.shape} for {len(first)} and {len(second)} images")
    i, j = assignments(cost, matches)
    return np.where(part > 0, first[i], second[j])
