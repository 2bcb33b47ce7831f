"""A denoiser of small images as one of larger images: overlapping tiles, blended with smooth weights.

    D(x, sigma) = sum_t w_t E_t D_tile(R_t x, sigma),      sum_t w_t = 1 in every pixel                    (1)

R_t cuts tile t out, E_t puts it back. It is a denoiser of the whole image, blended anew at every noise level, so that
a sampler or a guidance with any operator needs to know nothing of tiles.

Along one axis, with overlap o and margin m = o // 4, the weight of a tile rises from its inner edge as

    f(j) = sin^2(pi/2 (j + 1/2 - m) / (o - 2 m)),   0 for j < m,   1 for j >= o - m,      f(j) + f(o - 1 - j) = 1

and is 1 at an edge that is the image's own. What lies within m pixels of an inner edge, where a network has seen
padding in place of the image, has no weight: (1) is exact for every denoiser that looks no further than m pixels. What
depends on more of the image than a tile shows is lost.
"""

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

Denoiser = Callable[[jax.Array, jax.Array], jax.Array]


def tile_starts(size: int, tile: int, overlap: int) -> list[int]:
    """First pixels of the tiles along an axis of `size` pixels; the last one ends with the image."""
    starts = list(range(0, max(size - tile, 0), tile - overlap))
    return [*starts, size - tile]


def tile_weights(size: int, tile: int, overlap: int) -> tuple[list[int], np.ndarray]:
    """Starts along one axis, and the tiles' weights (tiles, tile), which sum to 1 in every pixel.

    Raises:
        ValueError: the axis is shorter than a tile, or the overlap is not in [0, tile / 2].
    """
    if size < tile:
        raise ValueError(f"tiles of {tile} pixels do not fit in an image of {size}")
    if not 0 <= overlap <= tile // 2:
        raise ValueError(
            f"the overlap of tiles of {tile} pixels is in [0, {tile // 2}]; got {overlap}, nearest valid: "
            f"{min(max(overlap, 0), tile // 2)}"
        )
    starts, margin = tile_starts(size, tile, overlap), overlap // 4
    place = (np.arange(tile) + 0.5 - margin) / max(overlap - 2 * margin, 1)
    rise = np.ones(tile) if overlap == 0 else np.sin(np.pi / 2 * np.clip(place, 0.0, 1.0)) ** 2
    weights = np.ones((len(starts), tile))
    weights[1:] *= rise
    weights[:-1] *= rise[::-1]
    total = np.zeros(size)
    for start, weight in zip(starts, weights, strict=True):
        total[start : start + tile] += weight
    return starts, np.stack([w / total[s : s + tile] for s, w in zip(starts, weights, strict=True)])


def tiled(
    denoiser: Denoiser, tile_shape: tuple[int, int, int], image_shape: tuple[int, int, int], overlap: int
) -> Denoiser:
    """The denoiser of equation 1, x (B, *image_shape), sigma (B,); memory is that of one tile of the batch.

    Args:
        denoiser: of images of `tile_shape`.
        tile_shape, image_shape: (H, W, C) with the same C.
        overlap: pixels that neighbouring tiles share at least, up to half a tile.

    Raises:
        ValueError: the channels differ, or as `tile_weights`.
    """
    if tile_shape[2] != image_shape[2]:
        raise ValueError(f"tiles have {tile_shape[2]} channels, the image {image_shape[2]}")
    if tile_shape == image_shape:
        return denoiser
    axes = [tile_weights(image_shape[axis], tile_shape[axis], overlap) for axis in (0, 1)]
    starts = jnp.asarray([(top, left) for top in axes[0][0] for left in axes[1][0]])
    weights = np.einsum("ai,bj->abij", axes[0][1], axes[1][1]).reshape(-1, *tile_shape[:2], 1)
    weights = jnp.asarray(weights, jnp.float32)

    def denoise(x, sigma):
        size = (len(x), *tile_shape)

        # `jax.checkpoint`: a product with J^T makes the activations of one tile after another anew.
        @jax.checkpoint
        def add(total, tile):
            (top, left), weight = tile
            seen = jax.lax.dynamic_slice(x, (0, top, left, 0), size)
            part = jax.lax.dynamic_slice(total, (0, top, left, 0), size) + weight * denoiser(seen, sigma)
            return jax.lax.dynamic_update_slice(total, part, (0, top, left, 0)), None

        return jax.lax.scan(add, jnp.zeros_like(x), (starts, weights))[0]

    return denoise
