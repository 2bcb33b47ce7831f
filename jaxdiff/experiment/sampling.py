"""Samples of an experiment's methods: any number, in batches.

The initial noise of an image is a function of (seed, its number) alone; without churn so is the image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from rich.console import Console

from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.model import Parts, method_denoiser
from jaxdiff.experiment.plan import Plan
from jaxdiff.report.images import save_grid
from jaxdiff.sampling import Churn, sample
from jaxdiff.training.progress import StageProgress


def make_sampler(plan: Plan, config: Any, method: str) -> Callable[[Parts, jax.Array], jax.Array]:
    """A jitted (parts, keys (B,)) -> images (B, H, W, C)."""
    s = config.sample
    sigmas = np.asarray(karras_schedule(s.steps, s.sigma_min, s.sigma_max, s.rho))
    churn = Churn(s.s_churn, s.s_min, s.s_max, s.s_noise)

    @jax.jit
    def draw(parts, keys):
        noise = jax.vmap(lambda key: jax.random.normal(key, plan.image_shape))(keys)
        denoiser = method_denoiser(plan, parts, config, method)
        return sample(denoiser, sigmas[0] * noise, sigmas, keys[0], method=s.sampler, churn=churn)

    return draw


def draw_samples(
    plan: Plan, parts: Parts, config: Any, method: str, count: int, console: Console | None = None
) -> np.ndarray:
    """`count` images of a method, (count, H, W, C) in [-1, 1] (clipped)."""
    draw, size = make_sampler(plan, config, method), min(config.sample.batch, count)
    root = jax.random.key(config.sample.seed)
    images = []
    with StageProgress(f"sample {method}", count, unit="images", console=console) as bar:
        for start in range(0, count, size):
            # The last batch is filled up and cut: one compiled program for all.
            keys = jax.vmap(lambda i: jax.random.fold_in(root, i))(jnp.arange(start, start + size))
            images.append(np.clip(np.asarray(draw(parts, keys)), -1.0, 1.0))
            bar.update(min(start + size, count))
    return np.concatenate(images)[:count]


def write_samples(images: np.ndarray, directory: Path, name: str, columns: int = 0) -> tuple[Path, Path]:
    """A PNG grid (at most 400 images) and an .npz with `images` (uint8); returns both paths."""
    grid, arrays = directory / f"{name}.png", directory / f"{name}.npz"
    directory.mkdir(parents=True, exist_ok=True)
    save_grid(grid, images[:400], columns or int(np.ceil(np.sqrt(min(len(images), 400)))))
    pixels = np.clip(np.rint((np.asarray(images) + 1.0) * 127.5), 0, 255).astype(np.uint8)
    write_atomically(arrays, lambda path: np.savez_compressed(path, images=pixels))
    return grid, arrays
