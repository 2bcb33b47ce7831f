"""How fast one host makes batches: `python benchmarks/reading.py records:PATH [--image_size 64]`, printed as JSON.

Three ways that a stage can be fed: whole images read from the source for every batch, a view measured when it is asked
for (4 x 4 average pooling), and images kept in memory (`data.cache_gib`).
"""

import argparse
import json
import time

import numpy as np

from jaxdiff import operators
from jaxdiff.data import encoded
from jaxdiff.data.dataset import Dataset, clean_dataset, view_dataset
from jaxdiff.data.loader import batches
from jaxdiff.data.sources import open_source


def rate(dataset: Dataset, batch: int, seconds: float) -> float:
    """Images per second, after the first batch."""
    with batches(dataset, batch, seed=0) as made:
        next(made)
        began, count = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            next(made)
            count += batch
        return count / (time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source")
    parser.add_argument("--image_size", type=int)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--seconds", type=float, default=5.0)
    parser.add_argument(
        "--decode", action="store_true", help="PNG and JPEG: decode for every batch, keep nothing"
    )
    args = parser.parse_args()
    if args.decode:
        encoded.KEEP_BYTES = 0
    source = open_source(args.source, image_size=args.image_size)
    rows = np.arange(len(source))
    pooled = operators.build("avg_pool", tuple(source.shape), factor=4)
    made = {
        "read": clean_dataset(source, rows, cache_bytes=0),
        "read and measured": view_dataset(source, rows, pooled, 0, cache_bytes=0),
        "in memory": clean_dataset(source, rows, cache_bytes=2**40),
    }
    rates = {name: round(rate(dataset, args.batch, args.seconds)) for name, dataset in made.items()}
    print(json.dumps({"shape": list(source.shape), "examples": len(source), "images_per_second": rates}))


if __name__ == "__main__":
    main()
