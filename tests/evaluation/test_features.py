import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.evaluation.features import map_batches

IMAGES = np.random.default_rng(0).integers(0, 256, (7, 4, 5, 3)).astype(np.uint8)


def mean_and_max(batch):
    return np.stack([batch.mean((1, 2, 3)), batch.max((1, 2, 3))], axis=1)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7, 10])
def test_every_image_once_in_order_and_batches_of_one_shape(batch_size):
    shapes = set()

    def function(batch):
        shapes.add(batch.shape)
        return mean_and_max(batch)

    features = map_batches(function, IMAGES, batch_size)
    assert shapes == {(batch_size, 4, 5, 3)}
    assert features.dtype == np.float32
    np.testing.assert_allclose(features, mean_and_max(IMAGES), rtol=1e-6)


def test_a_batch_that_the_devices_divide_is_split_over_them():
    devices = []

    @jax.jit
    def one(batch):
        return jnp.stack([batch.astype(jnp.float32).mean((1, 2, 3)), batch.max((1, 2, 3))], axis=1)

    def function(batch):
        devices.append(len(batch.devices()) if isinstance(batch, jax.Array) else 1)
        return one(batch)

    images = np.concatenate([IMAGES, IMAGES[::-1], IMAGES])
    split, whole = map_batches(function, images, 16), map_batches(function, images, 5)
    assert devices == [8, 8, *[1] * 5]
    np.testing.assert_allclose(split, whole, rtol=1e-6)
    np.testing.assert_allclose(whole, mean_and_max(images), rtol=1e-6)


def test_progress_is_shown_for_more_than_one_batch(capsys):
    map_batches(mean_and_max, IMAGES, 7, "digits")
    assert capsys.readouterr().out == ""
    np.testing.assert_allclose(
        map_batches(mean_and_max, IMAGES, 3, "digits"), mean_and_max(IMAGES), rtol=1e-6
    )
    assert "digits           7/7" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("images", "batch_size", "message"),
    [
        (IMAGES.astype(np.float32), 2, "uint8 images, got float32"),
        (IMAGES[0], 2, r"\(N, H, W, C\).*\(4, 5, 3\)"),
        (IMAGES[:0], 2, r"\(0, 4, 5, 3\)"),
        (IMAGES, 0, "batch_size must be at least 1, got 0"),
    ],
)
def test_what_cannot_be_computed_is_refused(images, batch_size, message):
    with pytest.raises(ValueError, match=message):
        map_batches(mean_and_max, images, batch_size)
