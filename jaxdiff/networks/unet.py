"""U-Net: F(x, c_noise, cond) for images of any size.

stem      optional space-to-depth by `patch` (a 2 x 2 patch makes everything after it 4 times cheaper), 3 x 3
convolution encoder   `blocks` residual blocks a level, 2 x 2 mean between levels
decoder   the same in reverse, nearest-neighbor upsampling, the encoder's output of the level concatenated
head      normalization, 3 x 3 convolution (zero at the start), depth-to-space

The residual block is that of Ho et al. 2020 (arXiv 2006.11239, appendix B) with the noise embedding as scale
and shift (Dhariwal and Nichol 2021, arXiv 2105.05233).
"""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff import registry
from jaxdiff.networks.attention import attend
from jaxdiff.networks.convolution import Conv
from jaxdiff.networks.embeddings import ConditionEmbedding
from jaxdiff.networks.layers import (
    NORMS,
    check_channel_mults,
    check_condition,
    depth_to_space,
    normalize,
    pad_to_multiple,
    scale_and_shift,
    space_to_depth,
)


class ResidualBlock(nn.Module):
    """x + conv(dropout(silu(scale_and_shift(norm(conv(silu(norm(x)))))))); the last conv starts at 0."""

    channels: int
    norm: str
    dropout: float
    dtype: jnp.dtype
    forward_mode: bool

    @nn.compact
    def __call__(self, x: jax.Array, embedding: jax.Array, train: bool) -> jax.Array:
        """x (B, H, W, C), embedding (B, E); returns (B, H, W, channels)."""
        h = nn.silu(normalize(x, self.norm, self.dtype))
        h = Conv(self.channels, self.dtype, forward_mode=self.forward_mode)(h)
        h = scale_and_shift(normalize(h, self.norm, self.dtype), embedding, self.dtype)
        h = nn.Dropout(self.dropout, deterministic=not train)(nn.silu(h))
        h = Conv(self.channels, self.dtype, zero=True, forward_mode=self.forward_mode)(h)
        if x.shape[-1] != self.channels:
            x = nn.Dense(self.channels, dtype=self.dtype)(x)
        return x + h


class SelfAttention(nn.Module):
    """x + attention over the H W places, heads of `head_size` channels, the last layer 0 at the start."""

    norm: str
    dtype: jnp.dtype
    head_size: int = 32
    forward_mode: bool = False

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """x (B, H, W, C); returns the same shape."""
        batch, height, width, channels = x.shape
        heads = max(1, channels // self.head_size)
        h = normalize(x, self.norm, self.dtype).reshape(batch, height * width, channels)
        qkv = nn.DenseGeneral((3, heads, channels // heads), dtype=self.dtype)(h)
        h = attend(qkv[:, :, 0], qkv[:, :, 1], qkv[:, :, 2], self.forward_mode)
        zeros = nn.initializers.zeros
        h = nn.DenseGeneral(channels, axis=(-2, -1), dtype=self.dtype, kernel_init=zeros)(h)
        return x + h.reshape(x.shape)


class UNet(nn.Module):
    """U-Net; see the module's docstring.

    Attributes:
        out_channels: channels of the output; its height and width are those of x.
        channels: channels of the first level.
        channel_mults: channels of each level as a multiple of `channels`; one entry a level.
        blocks: residual blocks a level, in the encoder and again in the decoder.
        patch: side of the patches that the stem moves into channels; 1 for none.
        attention: the levels, counted from 0, whose blocks are followed by self-attention.
        dropout: probability of dropout inside each block, active when `train` (needs the rng 'dropout').
        norm: 'group', 'rms' or 'none'.
        num_classes: number of classes of cond['label'], or None.
        zero_init: the last layer is 0 at the start, so that F = 0.
        dtype: dtype of the computation; parameters and output are float32.
        forward_mode: allow `jax.jvp`, at the price of slow training inside loops on the CPU (see
            convolution.py).

    Raises ValueError for an unknown norm, no levels, a level without channels, a level of attention that
    does not exist, patch or blocks below 1. Sizes that `patch * 2^(levels - 1)` does not divide are padded at
    the bottom and right with the edge's values, and cropped back.
    """

    out_channels: int
    channels: int = 32
    channel_mults: tuple[int, ...] = (1, 2)
    blocks: int = 1
    patch: int = 1
    attention: tuple[int, ...] = ()
    dropout: float = 0.0
    norm: str = "group"
    num_classes: int | None = None
    zero_init: bool = True
    dtype: jnp.dtype = jnp.float32
    forward_mode: bool = False

    def __post_init__(self):
        registry.lookup(dict.fromkeys(NORMS), self.norm, "norm")
        levels = len(self.channel_mults)
        check_channel_mults("unet", self.channel_mults, "(1, 2)")
        if self.patch < 1 or self.blocks < 1:
            raise ValueError(f"unet: patch and blocks must be at least 1, got {self.patch} and {self.blocks}")
        if any(not 0 <= level < levels for level in self.attention):
            raise ValueError(f"unet: attention={self.attention} must be levels from 0 to {levels - 1}")
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
        embedding = ConditionEmbedding(4 * self.channels, self.num_classes, dtype=self.dtype)(
            c_noise, cond.get("label")
        )
        x = pad_to_multiple(x.astype(self.dtype), self.patch * 2 ** (len(self.channel_mults) - 1))
        h = space_to_depth(x, self.patch)
        h = Conv(self.channels * self.channel_mults[0], self.dtype, forward_mode=self.forward_mode)(h)
        h, skips = self._encode(h, embedding, train)
        h = self._decode(h, skips, embedding, train)
        h = nn.silu(normalize(h, self.norm, self.dtype))
        head = Conv(self.out_channels * self.patch**2, zero=self.zero_init, forward_mode=self.forward_mode)
        return depth_to_space(head(h), self.patch)[:, :height, :width]

    def _encode(self, h, embedding, train):
        skips = []
        for level in range(len(self.channel_mults)):
            if level > 0:
                batch, height, width, channels = h.shape
                h = h.reshape(batch, height // 2, 2, width // 2, 2, channels).mean(axis=(2, 4))
            for _ in range(self.blocks):
                h = self._block(h, level, embedding, train)
            skips.append(h)
        return h, skips

    def _decode(self, h, skips, embedding, train):
        last = len(self.channel_mults) - 1
        for level in range(last, -1, -1):
            if level < last:
                h = h.repeat(2, axis=1).repeat(2, axis=2)
                h = jnp.concatenate([h, skips[level]], axis=-1)
            for _ in range(self.blocks):
                h = self._block(h, level, embedding, train)
        return h

    def _block(self, h, level, embedding, train):
        channels = self.channels * self.channel_mults[level]
        h = ResidualBlock(channels, self.norm, self.dropout, self.dtype, self.forward_mode)(
            h, embedding, train
        )
        attention = SelfAttention(self.norm, self.dtype, forward_mode=self.forward_mode)
        return attention(h) if level in self.attention else h
