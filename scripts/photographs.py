"""A folder of small colour photographs, cut from those inside scikit-image and scikit-learn: something to
try a config on.

python scripts/photographs.py PATH --count 160
"""

import argparse
from pathlib import Path

import numpy as np
from PIL import Image
from skimage import data
from sklearn.datasets import load_sample_images


def photographs() -> list[np.ndarray]:
    """Colour photographs that come with the packages, (H, W, 3) uint8."""
    return [*load_sample_images().images, data.astronaut(), data.chelsea(), data.coffee(), data.rocket()]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--count", type=int, default=160)
    parser.add_argument("--size", type=int, default=64)
    args = parser.parse_args()
    args.path.mkdir(parents=True, exist_ok=True)
    pictures, rng = photographs(), np.random.default_rng(0)
    for index in range(args.count):
        picture = pictures[index % len(pictures)]
        side = int(rng.integers(args.size, min(picture.shape[:2])))
        top, left = (int(rng.integers(0, length - side + 1)) for length in picture.shape[:2])
        cut = Image.fromarray(picture[top : top + side, left : left + side])
        cut.resize((args.size, args.size), Image.Resampling.BILINEAR).save(args.path / f"{index:05d}.png")
    print(f"{args.count} photographs of {args.size} x {args.size} in {args.path}")


if __name__ == "__main__":
    main()
