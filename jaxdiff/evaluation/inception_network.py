"""The Inception-v3 network of the Frechet inception distance, in Flax.

The graph `inception-2015-12-05`, which Heusel et al. (2017, arXiv 1706.08500) and nearly all since took their
features from. It is the network of Szegedy et al. (2015, arXiv 1512.00567) with three peculiarities; other
Inception-v3 networks lack some of them and give other features:

- average pools in the blocks (Mixed_5b to 5d, 6b to 6e, 7b) divide by the number of pixels there are, not by 9;
- the pool of the last block, Mixed_7c, is a max pool;
- there are 1008 classes.

A convolution here is y = relu(gamma (w * x - mean) / sqrt(var + 1e-3) + beta), without a bias of its own. Blocks
and branches carry the names of the public PyTorch checkpoint.
"""

from collections.abc import Callable, Sequence
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

FEATURES = 2048
CLASSES = 1008
EPSILON = 1e-3  # of the batch normalization

Branches = Callable[[jax.Array], Sequence[jax.Array]]


class Convolution(nn.Module):
    """Convolution, batch normalization by stored statistics, rectifier: (B, H, W, C) -> (B, H', W', features)."""

    features: int
    kernel: tuple[int, int] = (1, 1)
    stride: int = 1
    padding: str = "SAME"

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        # HIGHEST: accelerators would otherwise round the products to bfloat16 or TF32.
        x = nn.Conv(
            self.features,
            self.kernel,
            (self.stride, self.stride),
            self.padding,
            use_bias=False,
            precision=jax.lax.Precision.HIGHEST,
            name="conv",
        )(x)
        return nn.relu(nn.BatchNorm(use_running_average=True, epsilon=EPSILON, name="bn")(x))


class Mixed(nn.Module):
    """A block: what its branches make of the same x, concatenated along the channels in their order."""

    branches: Branches

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return jnp.concatenate(self.branches(x), axis=-1)


class InceptionV3(nn.Module):
    """(B, H, W, 3) in about [-1, 1] -> (pool features (B, 2048), logits (B, 1008)).

    The features are the mean of the last block over all pixels. At the intended 299 x 299 they are means over
    8 x 8; any size from 75 x 75 on works.
    """

    @nn.compact
    def __call__(self, x: jax.Array) -> tuple[jax.Array, jax.Array]:
        x = Convolution(32, (3, 3), 2, "VALID", name="Conv2d_1a_3x3")(x)
        x = Convolution(32, (3, 3), 1, "VALID", name="Conv2d_2a_3x3")(x)
        x = Convolution(64, (3, 3), name="Conv2d_2b_3x3")(x)
        x = reducing_pool(x)
        x = Convolution(80, name="Conv2d_3b_1x1")(x)
        x = Convolution(192, (3, 3), 1, "VALID", name="Conv2d_4a_3x3")(x)
        x = reducing_pool(x)
        for name, branches in BLOCKS.items():
            x = Mixed(branches, name=name)(x)
        features = x.mean(axis=(1, 2))
        logits = nn.Dense(CLASSES, precision=jax.lax.Precision.HIGHEST, name="fc")(features)
        return features, logits


def average_pool(x: jax.Array) -> jax.Array:
    """Mean over the 3 x 3 neighbors that exist: at a corner, of 4 pixels; (B, H, W, C) -> (B, H, W, C)."""
    return nn.avg_pool(x, (3, 3), (1, 1), "SAME", count_include_pad=False)


def max_pool(x: jax.Array) -> jax.Array:
    """Largest of the 3 x 3 neighbors that exist: (B, H, W, C) -> (B, H, W, C)."""
    return nn.max_pool(x, (3, 3), (1, 1), "SAME")


def reducing_pool(x: jax.Array) -> jax.Array:
    """Largest of each whole 3 x 3 window, every second one: (B, H, W, C) -> (B, (H - 1) // 2, (W - 1) // 2, C)."""
    return nn.max_pool(x, (3, 3), (2, 2), "VALID")


def _chain(x: jax.Array, prefix: str, *layers: tuple) -> jax.Array:
    """Convolutions one after another, `prefix`_1, `prefix`_2, ...; each as (features, kernel, stride, padding)."""
    for i, layer in enumerate(layers, 1):
        x = Convolution(*layer, name=f"{prefix}_{i}")(x)
    return x


def _fork(x: jax.Array, prefix: str) -> jax.Array:
    """A 1 x 3 and a 3 x 1 convolution of the same x, concatenated."""
    row = Convolution(384, (1, 3), name=f"{prefix}a")(x)
    column = Convolution(384, (3, 1), name=f"{prefix}b")(x)
    return jnp.concatenate([row, column], axis=-1)


def _block_a(x: jax.Array, pool: int) -> list[jax.Array]:
    return [
        Convolution(64, name="branch1x1")(x),
        _chain(x, "branch5x5", (48,), (64, (5, 5))),
        _chain(x, "branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3))),
        Convolution(pool, name="branch_pool")(average_pool(x)),
    ]


def _block_b(x: jax.Array) -> list[jax.Array]:
    return [
        Convolution(384, (3, 3), 2, "VALID", name="branch3x3")(x),
        _chain(x, "branch3x3dbl", (64,), (96, (3, 3)), (96, (3, 3), 2, "VALID")),
        reducing_pool(x),
    ]


def _block_c(x: jax.Array, width: int) -> list[jax.Array]:
    row, column = (1, 7), (7, 1)
    return [
        Convolution(192, name="branch1x1")(x),
        _chain(x, "branch7x7", (width,), (width, row), (192, column)),
        _chain(x, "branch7x7dbl", (width,), (width, column), (width, row), (width, column), (192, row)),
        Convolution(192, name="branch_pool")(average_pool(x)),
    ]


def _block_d(x: jax.Array) -> list[jax.Array]:
    return [
        _chain(x, "branch3x3", (192,), (320, (3, 3), 2, "VALID")),
        _chain(x, "branch7x7x3", (192,), (192, (1, 7)), (192, (7, 1)), (192, (3, 3), 2, "VALID")),
        reducing_pool(x),
    ]


def _block_e(x: jax.Array, pool: Callable[[jax.Array], jax.Array]) -> list[jax.Array]:
    return [
        Convolution(320, name="branch1x1")(x),
        _fork(_chain(x, "branch3x3", (384,)), "branch3x3_2"),
        _fork(_chain(x, "branch3x3dbl", (448,), (384, (3, 3))), "branch3x3dbl_3"),
        Convolution(192, name="branch_pool")(pool(x)),
    ]


BLOCKS: dict[str, Branches] = {
    "Mixed_5b": partial(_block_a, pool=32),
    "Mixed_5c": partial(_block_a, pool=64),
    "Mixed_5d": partial(_block_a, pool=64),
    "Mixed_6a": _block_b,
    "Mixed_6b": partial(_block_c, width=128),
    "Mixed_6c": partial(_block_c, width=160),
    "Mixed_6d": partial(_block_c, width=160),
    "Mixed_6e": partial(_block_c, width=192),
    "Mixed_7a": _block_d,
    "Mixed_7b": partial(_block_e, pool=average_pool),
    "Mixed_7c": partial(_block_e, pool=max_pool),
}
