"""A model written, read and sampled; every way in which a directory can be wrong has its message."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file, save_file

import jaxdiff
from jaxdiff import sample
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.export import SamplerDefaults, save, tensors
from jaxdiff.methods.shared import conditioned
from jaxdiff.networks import build_network, network_spec

SHAPE = (4, 4, 1)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """A small network with parameters that are not those of its start, and the directory that holds it."""
    network = build_network("mlp", 1, width=8, blocks=1, zero_init=False)
    x = jax.random.normal(jax.random.key(0), (3, *SHAPE))
    params = jax.jit(network.init)(jax.random.key(1), x, jnp.ones(3))["params"]
    directory = tmp_path_factory.mktemp("models") / "small"
    save(directory, network, params, SHAPE, 0.4, (0.01, 80.0), SamplerDefaults(steps=4))
    return directory, network, params


def copied(written, tmp_path):
    directory = tmp_path / "copy"
    directory.mkdir()
    for path in written[0].iterdir():
        (directory / path.name).write_bytes(path.read_bytes())
    return directory


def test_what_is_read_denoises_as_what_was_written(written):
    directory, network, params = written
    model = jaxdiff.load(directory)
    x, sigma = jax.random.normal(jax.random.key(3), (3, *SHAPE)), jnp.array([0.1, 1.0, 10.0])
    expected = precondition(lambda x, c, cond: network.apply({"params": params}, x, c), 0.4)(x, sigma)
    np.testing.assert_array_equal(model.denoiser(x, sigma), expected)
    np.testing.assert_array_equal(
        jax.jit(model.denoiser)(x, sigma), jax.jit(model.apply)(model.params, x, sigma)
    )
    assert model.image_shape == SHAPE and model.sigma_data == 0.4 and model.noise_range == (0.01, 80.0)
    assert model.sampler == SamplerDefaults(steps=4)
    with pytest.raises(ValueError, match=r"denoises \('B', 4, 4, 1\), got x of shape \(3, 4, 4\)"):
        model.denoiser(x[..., 0], sigma)


def test_a_network_that_is_told_the_coverage_is_told_of_whole_images(tmp_path):
    network = build_network("mlp", 1, width=8, blocks=1, zero_init=False)
    x, sigma = jax.random.normal(jax.random.key(0), (3, *SHAPE)), jnp.array([0.1, 1.0, 10.0])
    params = jax.jit(network.init)(jax.random.key(1), x, sigma, {"image": x})["params"]
    save(tmp_path, network, params, SHAPE, 0.4, (0.01, 80.0), SamplerDefaults(), told=True)
    expected = conditioned(network, 0.4, params)(x, sigma, jnp.ones_like(x))
    model = jaxdiff.load(tmp_path)
    np.testing.assert_allclose(model.denoiser(x, sigma), expected, atol=1e-6)
    edit(told_coverage="yes")(tmp_path)
    with pytest.raises(ValueError, match="told_coverage must be true or false, got 'yes'"):
        jaxdiff.load(tmp_path)
    edit(told_coverage=False)(tmp_path)
    with pytest.raises(ValueError, match=r"'Dense_0/kernel' is float32\[32, 8\], config.json needs"):
        jaxdiff.load(tmp_path)


def test_every_network_with_a_name_is_built_again_from_its_spec():
    for network in (
        build_network(
            "unet", 3, channels=16, channel_mults=(1, 2, 2), attention=(2,), dtype="bfloat16", patch=2
        ),
        build_network("mlp", 2, width=8, num_classes=10),
    ):
        spec = json.loads(json.dumps(network_spec(network)))
        assert build_network(spec.pop("name"), spec.pop("out_channels"), **spec) == network


def edit(**changes):
    def apply(directory):
        config = json.loads((directory / "config.json").read_text())
        for path, value in changes.items():
            *parents, key = path.split("__")
            place = config
            for parent in parents:
                place = place[parent]
            if value is None:
                del place[key]
            else:
                place[key] = value
        (directory / "config.json").write_text(json.dumps(config))

    return apply


def edit_tensors(change):
    def apply(directory):
        found = load_file(directory / "model.safetensors")
        change(found)
        save_file(found, directory / "model.safetensors")

    return apply


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda d: (d / "config.json").unlink(), "config.json is missing"),
        (lambda d: (d / "model.safetensors").unlink(), "model.safetensors is missing"),
        (lambda d: (d / "config.json").write_text("{"), "is not JSON"),
        (lambda d: (d / "config.json").write_text("[1]"), "not a model of the format 'jaxdiff-denoiser'"),
        (edit(format_version=99), "format version 99, jaxdiff .* reads 1"),
        (edit(image_shape=None), "the key 'image_shape' is missing"),
        (edit(image_shape=[4, 4]), r"image_shape must be \[height, width, channels\]"),
        (edit(network__name="mpl"), "unknown network 'mpl'; did you mean 'mlp'"),
        (edit(network__wdth=3), "did you mean 'width'"),
        (edit(preconditioning__sigma_data=0.0), "sigma_data > 0"),
        (edit(sampler__stepps=3), "stepps"),
        (edit(network__width=16), r"needs float32\["),
        (edit(network__blocks=2), "lacks tensors"),
        (edit_tensors(lambda found: found.update(extra=np.zeros(2, np.float32))), "has, besides,.* extra"),
        (edit_tensors(lambda found: found.pop("Dense_0/bias")), "lacks tensors .* Dense_0/bias"),
        (
            edit_tensors(
                lambda found: found.update({"Dense_0/bias": found["Dense_0/bias"].astype(np.float16)})
            ),
            "'Dense_0/bias' is float16",
        ),
        (lambda d: (d / "model.safetensors").write_bytes(b"\x80\x04pickle"), "cannot be read"),
    ],
)
def test_a_directory_that_does_not_fit_together_is_one_clear_error(written, tmp_path, spoil, message):
    directory = copied(written, tmp_path)
    jaxdiff.load(directory)
    spoil(directory)
    with pytest.raises(ValueError, match=message) as error:
        jaxdiff.load(directory)
    assert str(directory) in str(error.value)


def test_a_missing_directory_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere: no such directory"):
        jaxdiff.load(tmp_path / "nowhere")


def test_importing_jaxdiff_imports_no_jax():
    code = "import sys, jaxdiff; assert 'jax' not in sys.modules and not hasattr(jaxdiff, 'lod')"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_tensors_are_named_by_their_path(written):
    assert "Dense_0/kernel" in tensors(written[2])


def test_sample_command_writes_grid_and_images_by_seed(written, tmp_path, capsys):
    common = [str(written[0]), "--steps=3", "--churn=0"]

    def images(*arguments):
        path = tmp_path / "images.npz"
        assert sample.main([*common, f"--npz={path}", *arguments]) == 0
        with np.load(path) as stored:
            return stored["images"]

    first = images("--count=5", f"--out={tmp_path / 'grid.png'}")
    assert first.shape == (5, 4, 4, 1) and first.dtype == np.uint8 and first.std() > 1
    assert Image.open(tmp_path / "grid.png").size[0] > 50
    assert "grid.png" in capsys.readouterr().out
    again = images("--count=5", "--batch=2")  # another batch size, the same images
    assert np.abs(again.astype(int) - first.astype(int)).max() <= 1
    assert np.abs(images("--count=5", "--seed=1").astype(int) - first.astype(int)).max() > 10
    noisy = images("--count=4", "--sampler=ddim", "--eta=0.5", "--sigma-min=0.7", "--stop=noisy")
    assert noisy.dtype == np.float32 and noisy.std() > 0.6


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to write"),
        (["--out=x.png", "--steps=1"], "num_steps >= 2"),
        (["--out=x.png", "--count=0"], "at least 1"),
        (["--out=x.png", "--sampler=ancestral", "--churn=3"], "set it to 0 for 'ancestral'"),
        (["--out=x.png", "--eta=0.5"], "is for the sampler 'ddim'"),
    ],
)
def test_sample_command_refuses_in_one_line(written, arguments, message, capsys):
    assert sample.main([str(written[0]), *arguments]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and message in error and len(error.splitlines()) == 1


def test_sample_command_names_a_wrong_directory(tmp_path, capsys):
    assert sample.main([str(tmp_path), "--out=x.png"]) == 2
    assert "config.json is missing" in capsys.readouterr().err
