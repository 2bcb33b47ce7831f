"""Samples of an experiment's methods: any number, in batches.

The initial noise of an image is a function of (seed, its number) alone; without churn so is the image.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
from rich.console import Console

from jaxdiff.data.pixels import to_bytes
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.learners import cascade_method, learnt_denoiser, masked_view_denoiser
from jaxdiff.experiment.model import method_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan
from jaxdiff.progress import StageProgress
from jaxdiff.report.images import save_grid
from jaxdiff.sampling import Churn, fixed_mask, image_keys, member, multi_mask_guidance, sample_images


def sampled_methods(plan: Plan) -> list[str]:
    """What can be sampled: the Gaussian, the views that are denoisers of images, the methods."""
    return ["gaussian", *(view.stage_name for view in plan.learnt_views if view.of_images), *plan.methods]


def make_sampler(plan: Plan, config: Any, method: str) -> Callable[[Parts, jax.Array], jax.Array]:
    """A jitted (parts, keys (B,)) -> images (B, H, W, C)."""
    s = config.sample
    churn = Churn(s.s_churn, s.s_min, s.s_max, s.s_noise)

    def integrate(denoiser, keys, shape, scale=1.0):
        sigmas = np.asarray(karras_schedule(s.steps, s.sigma_min, s.sigma_max, s.rho)) * scale
        return sample_images(denoiser, keys, shape, sigmas, s.sampler, churn)

    def through_the_cascade(parts, keys):
        view = plan.view(plan.cascade_view)
        operator = parts.operators[view.name]
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        seen = integrate(learnt_denoiser(view, parts), first, operator.out_shape, operator.c**0.5)
        given = cascade_method(plan, parts).denoiser(parts.params["cascade"])(seen)
        return integrate(given, second, plan.image_shape)

    def denoiser_of(parts, count):
        view = next((v for v in plan.views if v.stage_name == method), None)
        if view is None or view.method != "ambient" or s.through == "members":
            return method_denoiser(plan, parts, config, method)
        # The mask of the trajectory and those it is corrected by are the same for every image and every step.
        masked = masked_view_denoiser(view, parts)
        members = parts.operators[view.name].cover(1 + max(1, view.masks), view.delta, seed=s.seed)
        first, *others = (member(members, k, count) for k in range(1 + max(1, view.masks)))
        if s.through == "fixed_mask":
            return fixed_mask(masked, first)
        return multi_mask_guidance(masked, first, others, s.guidance)

    @jax.jit
    def draw(parts, keys):
        if method == "cascade":
            return through_the_cascade(parts, keys)
        return integrate(denoiser_of(parts, len(keys)), keys, plan.image_shape)

    return draw


def draw_samples(
    plan: Plan, parts: Parts, config: Any, method: str, count: int, console: Console | None = None
) -> np.ndarray:
    """`count` images of a method, (count, H, W, C) in [-1, 1] (clipped)."""
    draw, size = make_sampler(plan, config, method), min(config.sample.batch, count)
    images = []
    with StageProgress(f"sample {method}", count, unit="images", console=console) as bar:
        for start in range(0, count, size):
            # The last batch is filled up and cut: one compiled program for all.
            keys = image_keys(config.sample.seed, start, size)
            images.append(np.clip(np.asarray(draw(parts, keys)), -1.0, 1.0))
            bar.update(min(start + size, count))
    return np.concatenate(images)[:count]


def write_samples(images: np.ndarray, directory: Path, name: str, columns: int = 0) -> tuple[Path, Path]:
    """A PNG grid (at most 400 images) and an .npz with `images` (uint8); returns both paths."""
    grid, arrays = directory / f"{name}.png", directory / f"{name}.npz"
    directory.mkdir(parents=True, exist_ok=True)
    save_grid(grid, images[:400], columns or int(np.ceil(np.sqrt(min(len(images), 400)))))
    pixels = to_bytes(np.asarray(images))
    write_atomically(arrays, lambda path: np.savez_compressed(path, images=pixels))
    return grid, arrays
