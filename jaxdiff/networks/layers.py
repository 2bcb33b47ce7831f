"""The parts that the networks share: normalization, scale and shift, the condition, space to depth."""

from collections.abc import Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp

from jaxdiff import registry

NORMS = ("group", "rms", "none")
CONDITIONS = ("image", "label")
GROUP_SIZE = 16


def check_condition(cond: Mapping[str, jax.Array] | None, num_classes: int | None) -> Mapping[str, jax.Array]:
    """`cond`, or {} in place of None.

    Raises:
        ValueError: a key is neither 'image' nor 'label', or there is a label and the network has no classes.
    """
    cond = {} if cond is None else cond
    for key in cond:
        registry.lookup(dict.fromkeys(CONDITIONS), key, "network condition")
    if cond.get("label") is not None and num_classes is None:
        raise ValueError("network: a label was given to a network without classes; set num_classes")
    return cond


def check_channel_mults(network: str, mults: Sequence[int], example: str) -> None:
    """Raises ValueError where `mults` are not whole numbers from 1 up, one for each level."""
    if not mults or not all(isinstance(mult, int) and mult >= 1 for mult in mults):
        raise ValueError(
            f"{network}: channel_mults needs a whole number from 1 up for each level, such as {example}; got {mults}"
        )


def normalize(x: jax.Array, norm: str, dtype: jnp.dtype) -> jax.Array:
    """x normalized: 'group' (about 16 channels a group), 'rms' (over channels) or 'none'."""
    if norm == "group":
        return nn.GroupNorm(num_groups=_groups(x.shape[-1]), use_bias=False, dtype=dtype)(x)
    if norm == "rms":
        return nn.RMSNorm(dtype=dtype)(x)
    return x


def scale_and_shift(x: jax.Array, embedding: jax.Array, dtype: jnp.dtype) -> jax.Array:
    """x (1 + scale) + shift with scale and shift linear in the embedding (B, E) and 0 at the start."""
    channels = x.shape[-1]
    both = nn.Dense(2 * channels, dtype=dtype, kernel_init=nn.initializers.zeros)(embedding)
    both = both.reshape(both.shape[0], *(1,) * (x.ndim - 2), 2 * channels)
    return x * (1 + both[..., :channels]) + both[..., channels:]


def space_to_depth(x: jax.Array, patch: int) -> jax.Array:
    """(B, H, W, C) -> (B, H / patch, W / patch, patch^2 C)."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height // patch, patch, width // patch, patch, channels)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height // patch, width // patch, patch * patch * channels)


def depth_to_space(x: jax.Array, patch: int) -> jax.Array:
    """(B, H, W, patch^2 C) -> (B, H patch, W patch, C), the inverse of `space_to_depth`."""
    batch, height, width, channels = x.shape
    x = x.reshape(batch, height, width, patch, patch, channels // patch**2)
    x = x.transpose(0, 1, 3, 2, 4, 5)
    return x.reshape(batch, height * patch, width * patch, channels // patch**2)


def pad_to_multiple(x: jax.Array, unit: int) -> jax.Array:
    """Height and width up to the next multiple of `unit`, with the edge's values at the bottom and right."""
    extra = [(-size) % unit for size in x.shape[1:3]]
    return jnp.pad(x, ((0, 0), (0, extra[0]), (0, extra[1]), (0, 0)), mode="edge") if any(extra) else x


def _groups(channels: int) -> int:
    """The number of groups: a divisor of `channels`, near channels / 16."""
    return min(
        (g for g in range(1, channels + 1) if channels % g == 0), key=lambda g: abs(channels / g - GROUP_SIZE)
    )
