import io
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from PIL import Image

from jaxdiff import operators
from jaxdiff.data import convert, open_source
from jaxdiff.data.measured import open_measurements
from jaxdiff.data.pixels import to_bytes, to_unit
from tests.tfds_format import prepare

SIZE = (12, 16)  # height, width


def picture(seed, size=SIZE):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size, 3)).astype(np.uint8))


@pytest.fixture
def wild(tmp_path):
    """Four good pictures (one a CMYK JPEG), one of odd size, two broken."""
    root = tmp_path / "wild"
    root.mkdir()
    for i in range(3):
        picture(i).save(root / f"good{i}.png")
    picture(3).convert("CMYK").save(root / "cmyk.jpg")
    picture(4, (14, 16)).save(root / "odd.png")
    buffer = io.BytesIO()
    picture(5).save(buffer, "PNG")
    (root / "cut.png").write_bytes(buffer.getvalue()[:-60])
    (root / "page.jpeg").write_bytes(b"<html>[404]</html>")
    return root


def run(*arguments):
    return convert.main([str(argument) for argument in arguments])


def test_bytes_and_units_are_inverse():
    levels = np.arange(256).astype(np.uint8)
    np.testing.assert_array_equal(to_bytes(to_unit(levels)), levels)


def test_a_folder_as_found(wild, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(f"folder:{wild}", out, "--shard_size", 2) == 0
    source, metadata = open_source(f"records:{out}"), json.loads((out / "metadata.json").read_text())
    assert (len(source), source.shape, metadata["dtype"]) == (4, (*SIZE, 3), "uint8")
    assert (metadata["found"], metadata["skipped"], metadata["shards"]) == (7, 3, [2, 2])
    reasons = dict(metadata["skipped_files"])
    assert reasons["odd.png"] == "another size: 14x16, most are 12x16"
    assert reasons["page.jpeg"] == "UnidentifiedImageError: not a PNG or JPEG image, or its header is damaged"
    assert set(reasons) == {"odd.png", "cut.png", "page.jpeg"}
    assert sum(metadata["skipped_by_reason"].values()) == 3
    # cmyk.jpg comes first
    pixels = np.stack([np.asarray(picture(i)) for i in range(3)])
    np.testing.assert_array_equal(source.gather_pixels([1, 2, 3]), pixels)
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("12x16x3", "odd.png", "another size: 14x16", "cut.png", "page.jpeg", "skipped: 1"):
        assert words in shown


def test_with_a_size_the_odd_one_fits(wild, tmp_path):
    out = tmp_path / "out"
    assert run(f"folder:{wild}", out, "--image_size", "8x6", "--channels", 1) == 0
    metadata = json.loads((out / "metadata.json").read_text())
    assert (metadata["count"], metadata["skipped"], metadata["shape"]) == (5, 2, [8, 6, 1])
    expected = open_source(f"folder:{wild}", image_size=(8, 6), channels=1, max_bad_share=1)
    found = open_source(f"records:{out}")
    np.testing.assert_array_equal(found.gather(range(5)), expected.gather(range(5)))


def test_limit_and_labels(tmp_path, capsys):
    out = tmp_path / "out"
    assert run("sklearn_digits", out, "--limit", 5) == 0
    source, digits = open_source(f"records:{out}"), open_source("sklearn_digits")
    np.testing.assert_array_equal(source.labels, digits.labels[:5])
    np.testing.assert_array_equal(source.gather(range(5)), digits.gather(range(5)))
    assert "1792" in capsys.readouterr().out  # left out


def test_npz_of_measurements_round_trip(tmp_path):
    n, spec = 5, {"name": "pixel_mask", "in_shape": [6, 4, 3], "p": 0.5}
    drawn = operators.build("pixel_mask", (6, 4, 3), p=0.5).draw(jax.random.split(jax.random.key(0), n))
    x = np.random.default_rng(0).normal(size=(n, 6, 4, 3)).astype(np.float32)
    arrays = {"y": x, "operator": json.dumps(spec), "sigma_y": np.linspace(0, 0.4, n)}
    np.savez(tmp_path / "a.npz", **arrays, **{"params/mask": drawn.params["mask"]})
    assert run(f"npz:{tmp_path / 'a.npz'}", tmp_path / "out", "--shard_size", 2) == 0
    before, after = (open_measurements(s) for s in (f"npz:{tmp_path / 'a.npz'}", f"records:{tmp_path}/out"))
    assert before.operator == after.operator and before.shape == after.shape and len(after) == n
    a, b = before.gather([4, 0, 2]), after.gather([4, 0, 2])
    assert jax.tree.structure(a) == jax.tree.structure(b)
    for first, second in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True):
        assert first.dtype == second.dtype
        np.testing.assert_array_equal(first, second)
    assert a.y.tobytes() == np.asarray(drawn(x))[[4, 0, 2]].tobytes()
    assert len(after.gather([]).y) == 0


def test_masks_make_measurements(wild, tmp_path):
    seen = np.ones(SIZE, bool)
    seen[3:6, 2:9] = False
    Image.fromarray(255 * seen.astype(np.uint8)).save(wild / "good1.mask.png")
    assert run(f"folder:{wild}", tmp_path / "out") == 0
    after = open_measurements(f"records:{tmp_path / 'out'}")
    assert len(after) == 4 and after.report["operator"]["p"] == round(21 / 192 / 4, 4)
    m = after.gather([2])
    np.testing.assert_array_equal(m.params["mask"][0, ..., 0], seen)
    expected = np.where(seen[..., None], np.asarray(picture(1)) / np.float32(127.5) - np.float32(1), 0)
    np.testing.assert_array_equal(m.y[0], expected)
    assert run(f"folder:{wild}", tmp_path / "clean", "--kind", "images") == 0
    assert len(open_source(f"records:{tmp_path / 'clean'}")) == 4


def test_a_tfds_data_set(tmp_path):
    pictures = []
    for i in range(3):
        buffer = io.BytesIO()
        picture(i).save(buffer, "PNG")
        pictures.append(buffer.getvalue())
    prepare(tmp_path / "tfds", pictures)
    out = tmp_path / "out"
    assert run("tfds:small_faces", out, "--data_dir", tmp_path / "tfds", "--split", "train[:2]") == 0
    assert len(open_source(f"records:{out}")) == 2


def test_errors_are_one_line_and_code_2(wild, tmp_path, capsys):
    (tmp_path / "there").mkdir()
    only_bad = tmp_path / "bad"
    only_bad.mkdir()
    (only_bad / "a.png").write_bytes(b"")
    for arguments, message in [
        ((f"folder:{wild}", tmp_path / "there"), "nothing is overwritten"),
        ((f"foldr:{wild}", tmp_path / "out"), "did you mean 'folder'"),
        ((f"folder:{tmp_path / 'no'}", tmp_path / "out"), "does not exist"),
        ((f"folder:{only_bad}", tmp_path / "out"), "1 of 1 images are broken"),
        ((f"folder:{wild}", tmp_path / "out", "--max_bad_share", "0.1"), "3 of 7 images are broken"),
        ((f"folder:{wild}", tmp_path / "out", "--max_bad_share", "2"), "must be in [0, 1]"),
        ((f"folder:{wild}", tmp_path / "out", "--resize", "bilinar"), "did you mean 'bilinear'"),
        ((f"folder:{wild}", tmp_path / "out", "--limit", "0"), "limit must be at least 1"),
        ((f"folder:{wild}", tmp_path / "out", "--shard_size", "0"), "shard_size >= 1"),
        (("sklearn_digits", tmp_path / "out", "--kind", "measurements"), "unknown source of measurements"),
    ]:
        assert run(*arguments) == 2
        error = capsys.readouterr().err
        assert error.startswith("error: ") and message in error and error.count("\n") == 1
    assert not (tmp_path / "out").exists() and not list((tmp_path / "there").iterdir())
    with pytest.raises(SystemExit, match="2"):
        run(f"folder:{wild}", tmp_path / "out", "--image_size", "big")


def test_the_module_runs(wild, tmp_path):
    command = [sys.executable, "-m", "jaxdiff.data.convert", f"folder:{wild}", str(tmp_path / "out")]
    done = subprocess.run([*command, "--limit", "1"], capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0, done.stderr
    assert "another size" in done.stdout and len(open_source(f"records:{tmp_path / 'out'}")) == 1
