"""Samples of an experiment's methods: any number, in batches.

All noise of an image is a function of (seed, its number) alone, and so is the image: whatever the batch, the file that
it is written to and the devices, up to the rounding of sums.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from rich.console import Console

from jaxdiff.data.pixels import to_bytes
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.experiment.arrays import write_atomically
from jaxdiff.experiment.learners import cascade_method, learnt_denoiser, masked_view_denoiser, valid_from
from jaxdiff.experiment.model import method_denoiser
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import Plan
from jaxdiff.progress import StageProgress
from jaxdiff.report.images import save_grid
from jaxdiff.sampling import Churn, fixed_mask, image_keys, member, multi_mask_guidance, sample_images
from jaxdiff.training.sharding import batch_sharding, make_mesh


def sampled_methods(plan: Plan) -> list[str]:
    """What can be sampled: the Gaussian, the views that are denoisers of images, the methods."""
    return ["gaussian", *(view.stage_name for view in plan.learnt_views if view.of_images), *plan.methods]


def make_sampler(
    plan: Plan, config: Any, method: str, stop: str = "denoised"
) -> Callable[[Parts, jax.Array], jax.Array]:
    """A jitted (parts, keys (B,)) -> images (B, H, W, C); with stop 'noisy', images in noise of `sample.sigma_min`."""
    s = config.sample
    churn = Churn(s.s_churn, s.s_min, s.s_max, s.s_noise)

    def integrate(denoiser, keys, shape, scale=1.0, stop=stop):
        grid = karras_schedule(s.steps, s.sigma_min, s.sigma_max, s.rho, to_zero=stop == "denoised")
        return sample_images(denoiser, keys, shape, grid * scale, s.sampler, churn, s.eta)

    def through_the_cascade(parts, keys):
        view = plan.view(plan.cascade_view)
        operator = parts.operators[view.name]
        first, second = jax.vmap(jax.random.split, out_axes=1)(keys)
        # The second factor is given the view without noise, wherever its own trajectory stops.
        seen = integrate(learnt_denoiser(view, parts), first, operator.out_shape, operator.c**0.5, "denoised")
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


def taught_from(plan: Plan, parts: Parts, method: str) -> float:
    """The lowest noise level that the denoiser of `method` was taught, 0 for all; what is composed has all."""
    view = next((v for v in plan.learnt_views if v.stage_name == method), None)
    return 0.0 if view is None else valid_from(view, parts.sigma_min.get(view.name, 0.0))


def say_if_untaught(plan: Plan, parts: Parts, config: Any, method: str, console: Console | None) -> None:
    """A word on the console where a denoiser is asked below what it was taught; it is sampled all the same."""
    lowest = taught_from(plan, parts, method)
    if console is not None and config.sample.sigma_min < lowest:
        console.print(
            f"{method} was taught nothing below sigma = {lowest:.3g}: config.sample.sigma_min={lowest:.3g} stops there",
            highlight=False,
            soft_wrap=True,
        )


def make_drawer(
    plan: Plan, config: Any, method: str, mesh: Mesh, most: int, stop: str = "denoised"
) -> Callable[[Parts, int, int], Iterator[np.ndarray]]:
    """(parts, first, last) -> the images first, ..., last - 1 of `sample.seed`, batch by batch.

    Batches are split over the devices of `mesh`; all its processes must ask for the same, and each gets all of it. One
    compiled program for all calls, made for `most` images at a time or fewer.
    """
    draw = make_sampler(plan, config, method, stop)
    bounds = (-np.inf, np.inf) if stop == "noisy" else (-1.0, 1.0)
    size = -(-min(config.sample.batch, most) // mesh.size) * mesh.size
    split, whole = batch_sharding(mesh), NamedSharding(mesh, PartitionSpec())

    @jax.jit
    def spread(parts, keys):
        images = draw(parts, jax.lax.with_sharding_constraint(keys, split))
        return jax.lax.with_sharding_constraint(images, whole)

    def batches(parts, first, last):
        for start in range(first, last, size):
            # The last batch is filled up and cut: one compiled program for all.
            images = np.clip(np.asarray(spread(parts, image_keys(config.sample.seed, start, size))), *bounds)
            yield images[: last - start]

    return batches


def draw_samples(
    plan: Plan,
    parts: Parts,
    config: Any,
    method: str,
    count: int,
    console: Console | None = None,
    stop: str = "denoised",
) -> np.ndarray:
    """`count` images of a method, (count, H, W, C) in [-1, 1] (clipped; with stop 'noisy' neither)."""
    say_if_untaught(plan, parts, config, method, console)
    images, done = [], 0
    with StageProgress(f"sample {method}", count, unit="images", console=console) as bar:
        for batch in make_drawer(plan, config, method, make_mesh(), count, stop)(parts, 0, count):
            images.append(batch)
            done += len(batch)
            bar.update(done)
    return np.concatenate(images)


def packed(images: np.ndarray, sigma: float = 0.0) -> dict[str, Any]:
    """What a file of samples holds: `images` in uint8, or with noise of level `sigma` > 0 as they are, and `sigma`."""
    return {"images": images, "sigma": sigma} if sigma else {"images": to_bytes(np.asarray(images))}


def write_samples(
    images: np.ndarray, directory: Path, name: str, columns: int = 0, sigma: float = 0.0
) -> tuple[Path, Path]:
    """A PNG grid (at most 400 images) and an .npz with `images` (uint8); returns both paths.

    Images with noise of level `sigma` > 0 are kept as they are, float32, with `sigma` beside them.
    """
    grid, arrays = directory / f"{name}.png", directory / f"{name}.npz"
    columns = columns or int(np.ceil(np.sqrt(min(len(images), 400))))
    write_atomically(grid, lambda path: save_grid(path, images[:400], columns))
    write_atomically(arrays, lambda path: np.savez_compressed(path, **packed(images, sigma)))
    return grid, arrays
