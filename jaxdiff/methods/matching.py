"""Whole images put together from measurements of two views that share no pixel and leave none out.

Let view 1 show the part P of an image and view 2 the rest, Q = I - P (a top and a bottom half, say), of different
images. Both are completed by posterior draws, c_i and d_j; the draws are not kept, but say who fits whom:

    cost(i, j) = sum_p w_p (c_i - d_j)_p^2                 w_p = 1, and 1 + seam_weight on both sides of the border
    pairs      = argmin over one-to-one assignments of sum cost(i, j), then the best without a pair of before, ...
    image      = P c_i + Q d_j                             every pixel of it measured                              (1)

An image completed by a draw teaches only what was measured of it; of (1) every pixel may be asked for, which is twice
as much for the same forward pass, and each marginal, that of P X and that of Q X, stays exactly that of the data,
which no draw can promise. What is not exact is the coupling, which is the draws'; it is at its worst where the parts
meet, since strokes seldom go on where they should. The pixels at the border are shown, but not asked for (`asked`): a
network learns them from clean images, and from what it knows of the other pixels.

One-to-one, because the nearest part for each would favour the parts that fit everything. Assignment: Kuhn-Munkres
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


def matched(
    first: np.ndarray, second: np.ndarray, part: np.ndarray, matches: int = 1, seam_weight: float = 0.0
) -> np.ndarray:
    """Images (1), (n, H, W, C), n = up to `matches` times the smaller of N and M; no pair twice.

    Args:
      first: completed measurements of the view that shows `part`, (N, H, W, C).
      second: completed measurements of the view that shows the rest, (M, H, W, C).
      part: (H, W, C), 1 where the first view shows a pixel and 0 where the second does.
      matches: number of assignments.
      seam_weight: added to the weight 1 of pixels at the border of the parts.

    Raises:
      ValueError: shapes that do not fit, `matches` below 1, or a negative weight.
    """
    if first.shape[1:] != second.shape[1:] or first.shape[1:] != part.shape or not len(first) * len(second):
        raise ValueError(f"matched: images {first.shape} and {second.shape}, part {part.shape}")
    if matches < 1 or seam_weight < 0:
        raise ValueError(f"matched: at least 1 match and no negative weight; got {matches}, {seam_weight}")
    root = np.sqrt(1.0 + seam_weight * seam(part)).ravel()
    flat = [root * images.reshape(len(images), -1).astype(np.float64) for images in (first, second)]
    cost = cdist(*flat, "sqeuclidean")
    dear, pairs = 1.0 + cost.max() * min(cost.shape), []
    for _ in range(min(matches, max(cost.shape))):
        rows, columns = linear_sum_assignment(cost)
        new = cost[rows, columns] < dear
        pairs += [np.stack([rows[new], columns[new]], axis=1)]
        cost[rows, columns] = dear
    i, j = np.concatenate(pairs).T
    return np.where(part > 0, first[i], second[j])
