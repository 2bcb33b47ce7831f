"""MLP with residual blocks: F(x, c_noise, cond) for vectors and very small images."""

from collections.abc import Mapping

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff.networks.embeddings import ConditionEmbedding
from jaxdiff.networks.layers import check_condition, scale_and_shift


class MLP(nn.Module):
    """Residual MLP over the flattened example.

    Attributes:
        out_channels: size of the output's last axis; the axes before it are those of x.
        width: width of the hidden layers.
        blocks: number of residual blocks h + dense(dropout(silu(scale_and_shift(norm(dense(h)))))).
        dropout: probability of dropout inside each block, active when `train` (needs the rng 'dropout').
        num_classes: number of classes of cond['label'], or None.
        zero_init: the last layer is 0 at the start, so that F = 0.
        dtype: dtype of the computation; parameters and output are float32.
    """

    out_channels: int
    width: int = 128
    blocks: int = 2
    dropout: float = 0.0
    num_classes: int | None = None
    zero_init: bool = True
    dtype: jnp.dtype = jnp.float32

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
            x: (B, d) or (B, H, W, C).
            c_noise: (B,), the noise level as the preconditioning presents it.
            cond: optional 'image' (B, ...), flattened and concatenated to x, and 'label' (B,) int, -1 for
                unknown.
            train: whether dropout is active.

        Returns:
            x.shape[:-1] + (out_channels,), float32.

        Raises:
            ValueError: the condition has an unknown key, or a label for a network without classes.
        """
        cond = check_condition(cond, self.num_classes)
        out_shape = (*x.shape[:-1], self.out_channels)
        h = x.reshape(x.shape[0], -1)
        if cond.get("image") is not None:
            h = jnp.concatenate([h, cond["image"].reshape(x.shape[0], -1).astype(h.dtype)], axis=-1)
        embedding = ConditionEmbedding(self.width, self.num_classes, dtype=self.dtype)(
            c_noise, cond.get("label")
        )
        h = nn.Dense(self.width, dtype=self.dtype)(h.astype(self.dtype))
        for _ in range(self.blocks):
            inner = nn.RMSNorm(dtype=self.dtype)(nn.Dense(self.width, dtype=self.dtype)(h))
            inner = nn.silu(scale_and_shift(inner, embedding, self.dtype))
            inner = nn.Dropout(self.dropout, deterministic=not train)(inner)
            h = h + nn.Dense(self.width, dtype=self.dtype)(inner)
        init = nn.initializers.zeros if self.zero_init else nn.initializers.lecun_normal()
        size = 1
        for axis in out_shape[1:]:
            size *= axis
        h = nn.Dense(size, dtype=jnp.float32, kernel_init=init)(h)
        return h.reshape(out_shape)
