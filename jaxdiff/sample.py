"""Sample from a distilled model: a grid of images, and if asked for the images themselves.

Steps and sampler are the model's own defaults (its config.json) unless said otherwise.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
from rich.console import Console

from jaxdiff.data.pixels import to_bytes
from jaxdiff.diffusion.noise import karras_schedule
from jaxdiff.export import Model, SamplerDefaults, load
from jaxdiff.progress import StageProgress
from jaxdiff.registry import lookup
from jaxdiff.report.images import save_grid
from jaxdiff.sampling import SAMPLERS, STOPS, Churn, image_keys, sample_images

SHOWN = 400  # images in the grid, at most
EXAMPLES = """examples:
  python -m jaxdiff.sample runs/digits_residual/distilled --count 64 --out grid.png
  python -m jaxdiff.sample DIR --count 1000 --npz images.npz --seed 1
  python -m jaxdiff.sample DIR --steps 18 --churn 0 --out quick.png    (deterministic and quicker)
"""


def draw_images(
    model: Model,
    count: int,
    settings: SamplerDefaults,
    seed: int = 0,
    batch: int = 64,
    progress: Callable[[int], None] | None = None,
    stop: str = "denoised",
) -> np.ndarray:
    """`count` images of a model, (count, H, W, C) in [-1, 1] (clipped).

    With stop 'noisy', images in noise of `settings.sigma_min`, not clipped. All noise of an image is a
    function of (seed, its number).

    Raises:
      ValueError: the sampler or the schedule makes no sense.
    """
    if count < 1 or batch < 1:
        raise ValueError(f"count and batch must be at least 1, got {count} and {batch}")
    lookup(dict.fromkeys(STOPS), stop, "stop")
    noisy = stop == "noisy"
    sigmas = karras_schedule(
        settings.steps, settings.sigma_min, settings.sigma_max, settings.rho, to_zero=not noisy
    )
    churn = Churn(settings.s_churn, settings.s_min, settings.s_max, settings.s_noise)

    @jax.jit
    def draw(params, keys):
        def denoiser(x, sigma):
            return model.apply(params, x, sigma)

        return sample_images(denoiser, keys, model.image_shape, sigmas, settings.sampler, churn, settings.eta)

    size, images = min(batch, count), []
    bounds = (-np.inf, np.inf) if noisy else (-1.0, 1.0)
    for start in range(0, count, size):
        # The last batch is filled up and cut: one compiled program for all.
        images.append(np.clip(np.asarray(draw(model.params, image_keys(seed, start, size))), *bounds))
        if progress is not None:
            progress(min(start + size, count))
    return np.concatenate(images)[:count]


def main(argv: list[str] | None = None) -> int:
    """The command; returns the exit code (0 done, 2 wrong input)."""
    args = _parser().parse_args(argv)
    console = Console()
    try:
        if not args.out and not args.npz:
            raise ValueError("nothing to write: give --out GRID.png, --npz IMAGES.npz or both")
        model = load(args.directory)
        asked = {
            "sampler": args.sampler,
            "eta": args.eta,
            "steps": args.steps,
            "sigma_min": args.sigma_min,
            "s_churn": args.churn,
        }
        settings = model.sampler._replace(**{key: value for key, value in asked.items() if value is not None})
        with StageProgress("sample", args.count, unit="images", console=console) as bar:
            images = draw_images(model, args.count, settings, args.seed, args.batch, bar.update, args.stop)
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if args.out:
        console.print(str(save_grid(args.out, images[:SHOWN])), highlight=False, soft_wrap=True)
    if args.npz:
        args.npz.parent.mkdir(parents=True, exist_ok=True)
        with args.npz.open("wb") as file:
            if args.stop == "noisy":
                np.savez_compressed(file, images=images, sigma=settings.sigma_min)
            else:
                np.savez_compressed(file, images=to_bytes(images))
        console.print(str(args.npz), highlight=False, soft_wrap=True)
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m jaxdiff.sample",
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("directory", metavar="DIR", type=Path, help="directory that `launch.py --mode=distill` wrote")
    add("--count", type=int, default=64, help="images in all (default: %(default)s)")
    add("--out", type=Path, help=f"PNG: a grid of the images (the first {SHOWN})")
    add(
        "--npz",
        type=Path,
        help="NPZ: `images`, uint8 (count, height, width, channels); float32 with --stop=noisy",
    )
    add("--steps", type=int, help="sampling steps, at least 2 (default: the model's)")
    add(
        "--sampler",
        choices=SAMPLERS,
        help="heun: two evaluations a step; the others: one; ddim and ancestral need --churn 0 (default: the model's)",
    )
    add(
        "--eta",
        type=float,
        help="ddim: fresh noise, 0 (Euler's step) to 1 (ancestral) (default: the model's)",
    )
    add(
        "--sigma-min", type=float, help="the model is not asked below this noise level (default: the model's)"
    )
    add(
        "--stop",
        choices=STOPS,
        default="denoised",
        help="what is written there: the denoised image, or the image in its noise (default: %(default)s)",
    )
    add(
        "--churn",
        type=float,
        help="EDM's S_churn, noise added on the way; 0: deterministic (default: the model's)",
    )
    add("--seed", type=int, default=0, help="another seed, other images (default: %(default)s)")
    add("--batch", type=int, default=64, help="images at a time (default: %(default)s)")
    return parser


if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    sys.exit(main())
