"""Raw networks F(x, c_noise, cond=None, train=False), Flax Linen; they know nothing of diffusion.

>>> network = build_network("unet", out_channels=1, channels=32, patch=2)
>>> variables = jax.jit(network.init)(init_key(key), x, c_noise)
>>> network.apply(variables, x, c_noise, {"label": label}, train=True, rngs={"dropout": key})
"""

from jaxdiff.networks.build import build_network, init_key, names, network_spec

__all__ = ["build_network", "init_key", "names", "network_spec"]
