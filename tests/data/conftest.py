"""Photographs of scikit-image and scikit-learn, made small, and what a file on disk may do to them."""

import io

import numpy as np
import pytest
from PIL import Image


def encode(image: Image.Image, kind: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.fixture(scope="session")
def photos() -> list[Image.Image]:
    """Five photographs of different aspect, about 60 pixels."""
    from skimage import data
    from sklearn.datasets import load_sample_image

    arrays = [data.astronaut(), data.coffee(), data.chelsea(), load_sample_image("china.jpg")]
    arrays.append(np.rot90(load_sample_image("flower.jpg")))
    images = [Image.fromarray(np.ascontiguousarray(array)) for array in arrays]
    return [image.resize((image.width // 8, image.height // 8), Image.Resampling.BOX) for image in images]


@pytest.fixture(scope="session")
def png():
    """image, kind -> bytes."""
    return encode


@pytest.fixture
def folder(tmp_path, photos):
    """A folder of good photographs at several depths, and of files that are no images."""
    root = tmp_path / "faces"
    for i, photo in enumerate(photos):
        path = root / ("deep/er" if i % 2 else "") / f"{i:03d}.{'png' if i < 3 else 'JPG'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(photo, "PNG" if i < 3 else "JPEG"))
    (root / "list_attr.txt").write_text("not an image")
    (root / ".hidden.png").write_bytes(b"macOS leaves such files")
    return root
