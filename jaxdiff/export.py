"""A denoiser as a directory of its own: what is needed to use it, and nothing of how it was trained.

    model.safetensors   the parameters, float32, named by their path in the network ('Conv_0/kernel')
    config.json         network and arguments, image shape, preconditioning, noise and value range, sampler
    README.md           what it is, what it was trained on, what was measured, licence
    samples.png         a grid of samples

`jaxdiff.load(directory)` reads the first two. Nothing is pickled: a directory from a stranger is read, never run.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import flax.linen as nn
import jax
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save as serialize

from jaxdiff import __version__
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import raw_network
from jaxdiff.methods.distill import whole
from jaxdiff.networks import build_network, network_spec

FORMAT, FORMAT_VERSION = "jaxdiff-denoiser", 1
CONFIG, TENSORS = "config.json", "model.safetensors"


class SamplerDefaults(NamedTuple):
    """The sampler that a model is shown with; names as in config.sample."""

    sampler: str = "heun"
    steps: int = 18
    sigma_min: float = 0.01
    sigma_max: float = 80.0
    rho: float = 7.0
    s_churn: float = 0.0
    s_min: float = 0.05
    s_max: float = 50.0
    s_noise: float = 1.0
    eta: float = 0.0


class Model(NamedTuple):
    """A denoiser that was read from a directory.

    Attributes:
      params: of the network.
      network: raw F(x, c_noise).
      image_shape: (H, W, C).
      sigma_data: of the preconditioning.
      noise_range: (lowest, highest) sigma that it was trained for.
      sampler: defaults for sampling.
      config: all of config.json.
      told: whether the network is given a coverage beside x, which is 1 everywhere (`methods/distill.py`).
    """

    params: Any
    network: nn.Module
    image_shape: tuple[int, int, int]
    sigma_data: float
    noise_range: tuple[float, float]
    sampler: SamplerDefaults
    config: Mapping[str, Any]
    told: bool = False

    def apply(self, params: Any, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """D(x, sigma) with these parameters: for `jax.jit` with the parameters as an argument."""
        denoise = precondition(raw_network(self.network, params), self.sigma_data)
        return denoise(x, sigma, whole(x) if self.told else None)

    def denoiser(self, x: jax.Array, sigma: jax.Array) -> jax.Array:
        """E[X | X + sigma Z = x]: x (B, H, W, C) for images in [-1, 1], sigma (B,); of the shape of x.

        Raises:
          ValueError: x is not a batch of images of this model's shape.
        """
        if x.shape[1:] != self.image_shape:
            raise ValueError(f"this model denoises {('B', *self.image_shape)}, got x of shape {x.shape}")
        return self.apply(self.params, x, sigma)


def tensors(params: Any) -> dict[str, np.ndarray]:
    """Parameters by the path in the network, 'Conv_0/kernel'."""
    return {"/".join(path): np.asarray(leaf) for path, leaf in flatten_dict(params).items()}


def save(
    directory: Path,
    network: nn.Module,
    params: Any,
    image_shape: tuple[int, int, int],
    sigma_data: float,
    noise_range: tuple[float, float],
    sampler: SamplerDefaults,
    told: bool = False,
) -> None:
    """Write model.safetensors and config.json into `directory` (made where it is not there)."""
    config = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "jaxdiff_version": __version__,
        "network": network_spec(network),
        "told_coverage": told,
        "image_shape": list(image_shape),
        "preconditioning": {"name": "edm", "sigma_data": float(sigma_data)},
        "noise_range": [float(sigma) for sigma in noise_range],
        "value_range": [-1.0, 1.0],
        "sampler": sampler._asdict(),
    }
    directory.mkdir(parents=True, exist_ok=True)
    contiguous = {name: np.ascontiguousarray(value) for name, value in tensors(params).items()}
    # Not save_file: it leaves a file that only its owner can read.
    (directory / TENSORS).write_bytes(serialize(contiguous))
    (directory / CONFIG).write_text(json.dumps(config, indent=1) + "\n")


def load(directory: str | Path) -> Model:
    """Read the model in `directory`.

    >>> model = jaxdiff.load("runs/digits_residual/distilled")
    >>> denoised = model.denoiser(x, sigma)

    Raises:
      ValueError: the directory is no export, of another format version, or does not fit together; says what and
        where.
    """
    directory = Path(directory)
    config = _read_config(directory)
    path = directory / CONFIG
    try:
        shape = config["image_shape"]
        if not isinstance(shape, list) or len(shape) != 3 or not all(type(n) is int and n > 0 for n in shape):
            raise ValueError(f"image_shape must be [height, width, channels], got {shape!r}")
        shape = tuple(shape)
        spec = dict(config["network"])
        network = build_network(spec.pop("name"), spec.pop("out_channels"), **spec)
        name, sigma_data = config["preconditioning"]["name"], float(config["preconditioning"]["sigma_data"])
        low, high = (float(sigma) for sigma in config["noise_range"])
        sampler = SamplerDefaults(**config["sampler"])
        told = config.get("told_coverage", False)
        if not isinstance(told, bool):
            raise ValueError(f"told_coverage must be true or false, got {told!r}")
    except KeyError as error:
        raise ValueError(f"{path}: the key {error} is missing") from None
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"{path}: {error}") from None
    if name != "edm" or not 0 < sigma_data < math.inf:
        raise ValueError(
            f"{path}: preconditioning must be 'edm' with sigma_data > 0, got '{name}', {sigma_data}"
        )
    params = _read_tensors(directory / TENSORS, network, shape, told)
    return Model(params, network, shape, sigma_data, (low, high), sampler, config, told)


def is_export(directory: Path) -> bool:
    """Whether `directory` holds a config.json of this format, of whatever version."""
    try:
        _read_config(directory, any_version=True)
    except ValueError:
        return False
    return True


def _read_config(directory: Path, any_version: bool = False) -> dict[str, Any]:
    path = directory / CONFIG
    if not directory.is_dir():
        raise ValueError(f"{directory}: no such directory")
    if not path.is_file():
        raise ValueError(f"{path} is missing: {directory} is not a model that `--mode=distill` wrote")
    try:
        config = json.loads(path.read_text())
    except (ValueError, RecursionError) as error:  # nested deeper than Python goes
        raise ValueError(f"{path} is not JSON: {error}") from None
    if not isinstance(config, dict) or config.get("format") != FORMAT:
        raise ValueError(f"{path}: not a model of the format '{FORMAT}'")
    if config.get("format_version") != FORMAT_VERSION and not any_version:
        raise ValueError(
            f"{path}: format version {config.get('format_version')}, jaxdiff {__version__} reads {FORMAT_VERSION}"
        )
    return config


def _expected(network: nn.Module, shape: tuple[int, ...], told: bool) -> dict[str, tuple[int, ...]]:
    """Shapes of the network's parameters by path; nothing is computed."""

    def init(key):
        x = np.zeros((1, *shape), np.float32)
        return network.init(key, x, np.zeros(1, np.float32), {"image": x} if told else None)["params"]

    shapes = jax.eval_shape(init, jax.random.key(0))
    return {"/".join(path): tuple(leaf.shape) for path, leaf in flatten_dict(shapes).items()}


def _read_tensors(path: Path, network: nn.Module, shape: tuple[int, ...], told: bool) -> Any:
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        with safe_open(path, framework="numpy") as stored:
            found = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118 (not a dict)
    except (SafetensorError, OSError, TypeError) as error:
        raise ValueError(f"{path} cannot be read: {error}") from None
    wanted = _expected(network, shape, told)
    for names, what in (
        (sorted({*wanted} - {*found}), "lacks"),
        (sorted({*found} - {*wanted}), "has, besides,"),
    ):
        if names:
            more = f" and {len(names) - 4} more" if len(names) > 4 else ""
            raise ValueError(
                f"{path} {what} tensors of the network in {CONFIG}: {', '.join(names[:4])}{more}"
            )
    for name, value in found.items():
        if value.shape != wanted[name] or value.dtype != np.float32:
            raise ValueError(
                f"{path}: '{name}' is {value.dtype}{list(value.shape)}, {CONFIG} needs float32{list(wanted[name])}"
            )
    return unflatten_dict({tuple(name.split("/")): jax.numpy.asarray(value) for name, value in found.items()})
