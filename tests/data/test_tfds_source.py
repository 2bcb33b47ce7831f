"""A data set in the format of TensorFlow Datasets, prepared and read without TensorFlow."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from jaxdiff.data import open_source
from tests.tfds_format import prepare


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory, photos, png):
    directory = tmp_path_factory.mktemp("tfds")
    prepare(directory, [png(photo) for photo in photos])
    prepare(directory, [png(photos[0])], version="0.9.0")
    return str(directory)


def test_pictures_come_back(data_dir, photos):
    source = open_source("tfds:small_faces", image_size=16, data_dir=data_dir)
    assert (len(source), source.shape) == (5, (16, 16, 3))
    assert source.name == "tfds:small_faces:1.0.0:train"
    expected = {
        np.asarray(photo.crop(_square(photo)).resize((16, 16), Image.Resampling.BILINEAR)).tobytes()
        for photo in photos
    }
    got = np.rint((source.gather(range(5)) + 1) * 127.5).astype(np.uint8)
    assert {image.tobytes() for image in got} == expected  # TFDS shuffles when it prepares


def _square(photo):
    side = min(photo.size)
    left, top = (photo.width - side) // 2, (photo.height - side) // 2
    return left, top, left + side, top + side


def test_version_split_and_environment(data_dir, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", data_dir)
    assert len(open_source("tfds:small_faces:0.9.0", image_size=8)) == 1
    assert len(open_source("tfds:small_faces", image_size=8, split="train[:2]")) == 2
    with pytest.raises(
        ValueError, match=r"unknown version of tfds:small_faces '1\.0\.1'; did you mean '1\.0\.0'"
    ):
        open_source("tfds:small_faces:1.0.1")
    with pytest.raises(
        ValueError, match="unknown split of tfds:small_faces:1.0.0 'trian'; did you mean 'train'"
    ):
        open_source("tfds:small_faces", split="trian")


def test_broken_records_are_skipped(tmp_path, photos, png):
    good = [png(photo, "JPEG") for photo in photos]
    prepare(tmp_path, [*good, good[0][:400]])
    source = open_source("tfds:small_faces", image_size=8, data_dir=str(tmp_path), max_bad_share=0.2)
    assert (len(source), source.report["skipped"]) == (5, 1)
    assert source.report["skipped_files"][0][0].startswith("small_faces/train[")


def test_the_only_image_is_taken_whatever_its_name(tmp_path, photos, png):
    prepare(tmp_path, [png(photos[0])], key="face")
    assert len(open_source("tfds:small_faces", data_dir=str(tmp_path))) == 1


def test_missing_data_says_how_to_prepare_it(tmp_path, data_dir):
    with pytest.raises(FileNotFoundError) as error:
        open_source("tfds:celeb_a", data_dir=str(tmp_path))
    for words in (
        'pip install -e ".[prepare]"',
        "tfds.builder('celeb_a').download_and_prepare(file_format='array_record')",
        "img_align_celeba.zip and use --config.data.source=zip:PATH",
        "--config.data.source=folder:PATH",
        str(tmp_path / "celeb_a"),
    ):
        assert words in str(error.value)
    with pytest.raises(FileNotFoundError, match="Did you mean 'tfds:small_faces'"):
        open_source("tfds:small_face", data_dir=data_dir)


def test_another_file_format_is_refused(tmp_path, photos, png):
    prepare(tmp_path, [png(photos[0])])
    info = tmp_path / "small_faces" / "1.0.0" / "dataset_info.json"
    info.write_text(info.read_text().replace("array_record", "tfrecord"))
    with pytest.raises(ValueError, match="holds 'tfrecord' files, which have no random access"):
        open_source("tfds:small_faces", data_dir=str(tmp_path))


def test_tensorflow_is_not_imported(data_dir):
    program = (
        "import sys; from jaxdiff.data import open_source; "
        f"s = open_source('tfds:small_faces', image_size=8, data_dir={data_dir!r}); s.gather([0]); "
        "sys.exit('tensorflow' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_labels_follow_their_pictures(tmp_path, photos, png):
    """TFDS shuffles, and a broken picture is left out: each label must stay with its own picture."""
    pictures = [png(photo) for photo in photos]
    prepare(tmp_path, [pictures[0], pictures[1][:100], *pictures[2:]])  # the label of picture i is i % 2
    source = open_source("tfds:small_faces", image_size=16, data_dir=str(tmp_path), max_bad_share=0.3)
    expected = {_resized(photo).tobytes(): i % 2 for i, photo in enumerate(photos) if i != 1}
    found = np.rint((source.gather(range(4)) + 1) * 127.5).astype(np.uint8)
    assert source.labels.tolist() == [expected[image.tobytes()] for image in found]


def _resized(photo):
    return np.asarray(photo.crop(_square(photo)).resize((16, 16), Image.Resampling.BILINEAR))
