"""DDPM++: F(x, c_noise, cond), the network of EDM's CIFAR-10 models (Karras et al. 2022; Song et al. 2021).

stem      3 x 3 convolution
encoder   a level begins (but for the first) with a block that halves the image, then `blocks` blocks; the output of
          the stem and of every one of these blocks is kept for the decoder
middle    at the lowest level a block with attention and one without
decoder   `blocks` + 1 blocks a level, each given one of the kept outputs; between levels a block that doubles the image
head      normalization, 3 x 3 convolution

With 128 channels, multipliers 2, 2, 2, four blocks a level and attention at 16 x 16 it has 55.7 million parameters.
The small `unet` keeps one output a level, has as many blocks up as down, and resizes between blocks. What is not here
of EDM's: the label of its augmentations (1,152 parameters).

Source: arXiv 2206.00364, table 7 and appendix F; arXiv 2011.13456, appendix H.
"""

import math
from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.networks.attention import attend
from jaxdiff.networks.convolution import Conv
from jaxdiff.networks.layers import check_channel_mults, check_condition, pad_to_multiple

GROUPS, LEAST_IN_GROUP, EPSILON = 32, 4, 1e-6
LOWEST_FREQUENCY = 1e-4
HALF = math.sqrt(0.5)  # a sum of two independent parts keeps its variance


def _xavier(gain: float = 1.0) -> nn.initializers.Initializer:
    """Uniform with the variance gain^2 / mean of fan in and fan out."""
    return nn.initializers.variance_scaling(gain**2, "fan_avg", "uniform")


NEARLY_ZERO = _xavier(1e-5)


def positional_features(c_noise: jax.Array, size: int) -> jax.Array:
    """sin and cos of f c_noise, f in geometric progression from 1 to 1e-4, both included: (B,) -> (B, size)."""
    frequencies = np.geomspace(1.0, LOWEST_FREQUENCY, size // 2).astype(np.float32)
    angles = c_noise.astype(jnp.float32)[:, None] * frequencies
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)


def normalize(x: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """Group normalization: at most 32 groups, of at least 4 channels where there are so many."""
    channels = x.shape[-1]
    most = max(1, min(GROUPS, channels // LEAST_IN_GROUP))
    groups = next(n for n in range(most, 0, -1) if channels % n == 0)
    return nn.GroupNorm(num_groups=groups, epsilon=EPSILON, dtype=dtype)(x)


def resize(x: jax.Array, resample: str) -> jax.Array:
    """Resampling by the filter (1, 1): the mean of 2 x 2 pixels ('down'), every pixel four times ('up'), or nothing."""
    batch, height, width, channels = x.shape
    if resample == "down":
        return x.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
    return x.repeat(2, axis=1).repeat(2, axis=2) if resample == "up" else x


class Block(nn.Module):
    """sqrt(1/2) (skip(x) + conv(dropout(silu(norm(conv(resize(silu(norm(x)))) + dense(embedding)))))), then attention.

    `skip` is resized alike, and multiplied by a matrix where it is resized or the channels change.
    """

    channels: int
    resample: str = ""  # '', 'up' or 'down'
    attention: bool = False
    dropout: float = 0.0
    dtype: jnp.dtype = jnp.float32
    forward_mode: bool = False

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, train: bool) -> jax.Array:
        """x (B, H, W, C), embedding (B, E); returns (B, H', W', channels)."""

        def conv(init):
            return Conv(self.channels, self.dtype, forward_mode=self.forward_mode, init_kernel=init)

        def dense(init=None):
            return nn.Dense(self.channels, dtype=self.dtype, kernel_init=init or _xavier())

        h = conv(_xavier())(resize(nn.silu(normalize(x, self.dtype)), self.resample))
        h = h + dense()(embedding)[:, None, None]
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(normalize(h, self.dtype)))
        h = conv(NEARLY_ZERO)(h)
        x = resize(x, self.resample)
        if self.resample or x.shape[-1] != self.channels:
            x = dense()(x)
        x = HALF * (x + h)
        return self._attended(x, dense(NEARLY_ZERO)) if self.attention else x

    def _attended(self, x, last):
        batch, height, width, channels = x.shape
        h = normalize(x, self.dtype).reshape(batch, height * width, channels)
        qkv = nn.DenseGeneral((3, 1, channels), dtype=self.dtype, kernel_init=_xavier(math.sqrt(0.2)))(h)
        h = attend(*(qkv[:, :, i] for i in range(3)), forward_mode=self.forward_mode)  # one head
        return HALF * (x + last(h.reshape(batch, height * width, channels)).reshape(x.shape))


class DDPMpp(nn.Module):
    """DDPM++; see the module's docstring.

    Attributes:
        out_channels: channels of the output; its height and width are those of x.
        channels: channels of the stem.
        channel_mults: channels of each level as a multiple of `channels`; one entry a level.
        blocks: residual blocks a level in the encoder; in the decoder one more.
        attention: the levels, counted from 0, where all blocks of the encoder and the last of the decoder attend.
        dropout: probability of dropout inside each block, active when `train` (needs the rng 'dropout').
        num_classes: number of classes of cond['label'], or None; label -1 stands for "not known".
        zero_init: the last layer is 0 at the start, so that F = 0 (in EDM's code nearly 0).
        dtype: dtype of the computation; parameters and output are float32.
        forward_mode: allow `jax.jvp`, see convolution.py.

    Raises ValueError for no levels, a level of attention that does not exist, blocks below 1, or an odd number of
    channels. Sizes that 2^(levels - 1) does not divide are padded at the bottom and right with the edge's values, and
    cropped back.
    """

    out_channels: int
    channels: int = 128
    channel_mults: tuple[int, ...] = (2, 2, 2)
    blocks: int = 4
    attention: tuple[int, ...] = (1,)
    dropout: float = 0.0
    num_classes: int | None = None
    zero_init: bool = True
    dtype: jnp.dtype = jnp.float32
    forward_mode: bool = False

    def __post_init__(self):
        levels = len(self.channel_mults)
        check_channel_mults("ddpmpp", self.channel_mults, "(2, 2, 2)")
        if self.blocks < 1:
            raise ValueError(f"ddpmpp: blocks must be at least 1, got {self.blocks}")
        if self.channels < 4 or self.channels % 2:
            raise ValueError(f"ddpmpp: channels must be even and at least 4, got {self.channels}")
        if any(not 0 <= level < levels for level in self.attention):
            raise ValueError(f"ddpmpp: attention={self.attention} must be levels from 0 to {levels - 1}")
        super().__post_init__()

    @nn.compact
    def __call__(
        self,
        x: jax.Array,
        c_noise: jax.Array,
        cond: Mapping[str, jax.Array] | None = None,
        train: bool = False,
    ) -> jax.Array:
        """F(x, c_noise, cond).

        Args:
            x: (B, H, W, C).
            c_noise: (B,), the noise level as the preconditioning presents it.
            cond: optional 'image' (B, H, W, C'), concatenated to x, and 'label' (B,) int, -1 for unknown.
            train: whether dropout is active.

        Returns:
            (B, H, W, out_channels) float32.

        Raises:
            ValueError: the condition has an unknown key, or a label for a network without classes.
        """
        cond = check_condition(cond, self.num_classes)
        height, width = x.shape[1:3]
        if cond.get("image") is not None:
            x = jnp.concatenate([x, cond["image"].astype(x.dtype)], axis=-1)
        embedding = self._embedding(c_noise, cond.get("label"))
        x = pad_to_multiple(x.astype(self.dtype), 2 ** (len(self.channel_mults) - 1))
        h, kept = self._encode(x, embedding, train)
        h = self._decode(h, kept, embedding, train)
        h = nn.silu(normalize(h, self.dtype))
        head = Conv(
            self.out_channels,
            zero=self.zero_init,
            forward_mode=self.forward_mode,
            init_kernel=_xavier(),
        )
        return head(h)[:, :height, :width]

    def _embedding(self, c_noise, label):
        hidden = positional_features(c_noise, self.channels)
        if self.num_classes is not None:
            table = nn.Embed(self.num_classes, self.channels)
            label = jnp.full(c_noise.shape, -1) if label is None else label
            hidden += jnp.where(label[:, None] >= 0, table(jnp.maximum(label, 0)), 0)
        for _ in range(2):
            hidden = nn.silu(nn.Dense(4 * self.channels, dtype=self.dtype, kernel_init=_xavier())(hidden))
        return hidden

    def _block(self, level, resample="", attention=False, of_level=None):
        of_level = level if of_level is None else of_level
        return Block(
            self.channels * self.channel_mults[of_level],
            resample,
            attention,
            self.dropout,
            self.dtype,
            self.forward_mode,
        )

    def _encode(self, x, embedding, train):
        h = Conv(self.channels, self.dtype, forward_mode=self.forward_mode, init_kernel=_xavier())(x)
        kept = [h]
        for level in range(len(self.channel_mults)):
            if level > 0:
                # In the channels of the level above: only then do they change.
                kept.append(h := self._block(level, "down", of_level=level - 1)(h, embedding, train))
            for _ in range(self.blocks):
                h = self._block(level, attention=level in self.attention)(h, embedding, train)
                kept.append(h)
        return h, kept

    def _decode(self, h, kept, embedding, train):
        last = len(self.channel_mults) - 1
        for level in range(last, -1, -1):
            if level == last:
                h = self._block(level, attention=True)(h, embedding, train)
                h = self._block(level)(h, embedding, train)
            else:
                h = self._block(level, "up", of_level=level + 1)(h, embedding, train)
            for index in range(self.blocks + 1):
                attention = level in self.attention and index == self.blocks
                h = jnp.concatenate([h, kept.pop()], axis=-1)
                h = self._block(level, attention=attention)(h, embedding, train)
        return h
