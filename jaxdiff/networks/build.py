"""The networks by name."""

import dataclasses
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from jaxdiff import registry
from jaxdiff.networks.mlp import MLP
from jaxdiff.networks.unet import UNet

NETWORKS = {"mlp": MLP, "unet": UNet}
DTYPES = {"float32": jnp.float32, "bfloat16": jnp.bfloat16}


def names() -> list[str]:
    """The names `build_network` knows."""
    return sorted(NETWORKS)


def build_network(name: str, out_channels: int, **args: Any) -> nn.Module:
    """The raw network F(x, c_noise, cond=None, train=False), float32 in and out.

    `build_network('unet', out_channels=1, channels=32, patch=2)`. Lists are taken as tuples and `dtype` is
    'float32' or 'bfloat16'.

    Raises:
        ValueError: the name, an argument or the dtype is unknown; the nearest valid one is named.
    """
    module = registry.lookup(NETWORKS, name, "network")
    known = {f.name for f in dataclasses.fields(module)} - {"parent", "name", "out_channels"}
    for key in args:
        if key not in known:
            raise registry.unknown(key, known, f"{name} argument")
    if isinstance(args.get("dtype"), str):
        args["dtype"] = registry.lookup(DTYPES, args["dtype"], f"{name} dtype")
    args = {key: tuple(value) if isinstance(value, list) else value for key, value in args.items()}
    return module(out_channels=out_channels, **args)
