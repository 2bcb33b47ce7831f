"""--dry-run: says what would happen, with and without data; trains and writes nothing; raises what a run raises."""

import io
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict
from rich.console import Console

from configs import celeba_residual, default, digits_compare, digits_noisy_mix, digits_residual, gaussian_toy
from jaxdiff.experiment import command, dry_run, same_config
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.sketch import kept_for_backward, sketch_stages, stage_factory, stand_in_data
from jaxdiff.experiment.stages import stage_names
from jaxdiff.training.sharding import make_mesh

ROOT = Path(__file__).parents[2]


def said(config, workdir, mode="all", name="configs/digits_residual.py:tiny"):
    text = io.StringIO()
    status = dry_run.run(config, name, Path(workdir), mode, Console(file=text, width=200))
    assert status == 0 and not Path(workdir).exists()
    return text.getvalue()


def absent(variant=""):
    config = celeba_residual.get_config("tiny")
    config.data.source = "folder:/nowhere"
    config.network = ConfigDict({"name": "mlp", "width": 8, "blocks": 1})
    return config


@pytest.mark.slow
def test_without_data_the_whole_plan_is_said(tmp_path):
    text = said(absent(), tmp_path / "run")
    for words in ("folder:/nowhere: not there", "16 x 16 x 3, as config.data says", "0.2 of the pool"):
        assert words in text
    lines = text.splitlines()
    order = [
        next(i for i, line in enumerate(lines) if f"{n} " in line and "new, 60 steps" in line) for n in ORDER
    ]
    assert order == sorted(order)


ORDER = (
    "view/eyes_mouth",
    "view/gray",
    "view/low_res",
    "view/noisy",
    "view/watermarked",
    "residual",
    "clean_only",
)


def test_without_data_and_shape_the_command_that_says_it_is_given(tmp_path):
    config = absent()
    config.data.image_size = 0
    text = said(config, tmp_path / "run")
    assert "--config.data.image_size=64 --config.data.channels=3" in text and "view/noisy" in text


def test_with_data_counts_are_those_of_the_run(tmp_path):
    config = digits_residual.get_config("tiny")
    config.methods = ("clean_only",)
    text = said(config, tmp_path / "run")
    counts = load_data(config, Console(quiet=True)).counts
    for name in ("clean", "held_out", "view/top"):
        line = next(line for line in text.splitlines() if line.startswith(f"│ {name} "))
        assert line.split("│")[2].strip() == f"{counts[name]:,}"


@pytest.mark.parametrize(
    "config",
    [
        digits_residual.get_config("tiny"),
        pytest.param(digits_residual.get_config("rivals"), marks=pytest.mark.slow),
        pytest.param(digits_noisy_mix.get_config("noisy"), marks=pytest.mark.slow),
        pytest.param(digits_compare.get_config("shared"), marks=pytest.mark.slow),
    ],
    ids=["residual", "rivals", "consistency", "shared"],
)
def test_parameters_and_operations_are_those_of_the_stages(config, tmp_path):
    config.network.update(channels=4, channel_mults=(1,))
    plan = make_plan(config, (16, 16, 1))
    mesh = make_mesh(jax.devices()[:1])
    sketches = sketch_stages(plan, config, 50, {}, mesh, tmp_path / "run")
    assert [s.name for s in sketches] == stage_names(plan)
    for sketch in sketches:
        assert sketch.train_flops > 2 * sketch.forward_flops * 0.5 > 0
        # Parameters, moving average, best, and two moments, in float32, and a few counters.
        assert 0 <= sketch.memory["state"] - 5 * 4 * sketch.parameters < 100
        assert sketch.memory["activations"] > 0


@pytest.mark.slow
def test_activations_are_an_upper_estimate_of_what_xla_needs():
    """Measured against the compiled gradient: XLA needs some of what is kept, and not many times more."""
    config = digits_residual.get_config("tiny")
    plan = make_plan(config, (8, 8, 1))
    parts = sketch_parts(plan)
    example = stand_in_data(plan, {}).clean.example()
    factory, frozen = stage_factory(plan, config, "clean_only"), {"parts": parts}
    method, batch = factory(frozen), 64
    params = method.init(jax.random.key(0), example)
    many = jax.tree.map(lambda a: jnp.repeat(jnp.asarray(a), batch, axis=0), example)
    gradient = jax.jit(jax.grad(lambda p, b: method.loss(p, b, jax.random.key(1))[0]))
    used = gradient.lower(params, many).compile().memory_analysis().temp_size_in_bytes
    estimate = batch * kept_for_backward(factory, params, frozen, example)
    assert 0.2 * estimate < used < 3 * estimate


def sketch_parts(plan):
    from jaxdiff.experiment.parts import Frozen, Parts

    return Parts(sigma_data=Frozen(dict.fromkeys(plan.stages, 0.5)))


def test_fsdp_divides_the_state_and_a_micro_batch_the_activations(tmp_path):
    config = digits_residual.get_config("tiny")
    config.network = ConfigDict({"name": "mlp", "width": 512, "dropout": 0.0})
    config.train.batch = 32
    config.views = {"whole": default.view({"name": "identity"}, 1.0)}
    config.methods = ("clean_only",)

    def memory(**train):
        config.train.update(train)
        plan = make_plan(config, (8, 8, 1))
        (sketch,) = sketch_stages(plan, config, 50, {}, make_mesh(jax.devices()[:8]), tmp_path / "run")
        return sketch.memory

    whole, split = memory(), memory(sharding="fsdp")
    # Large matrices are split, biases and scales are not.
    assert split["state"] < 0.5 * whole["state"] and split["activations"] == whole["activations"]
    assert memory(accumulate=2)["activations"] == pytest.approx(whole["activations"] / 2, abs=1)


def test_what_is_there_already_is_said(tmp_path):
    stage = tmp_path / "stages" / "view" / "top"
    assert dry_run.stage_state(stage, 1200) == "new, 1,200 steps"
    (stage / "checkpoints" / "400").mkdir(parents=True)
    (stage / "checkpoints" / "800").mkdir()
    assert dry_run.stage_state(stage, 1200) == "goes on from step 800"
    (stage / "done.txt").write_text("1200\n")
    assert dry_run.stage_state(stage, 1200) == "done at step 1,200"


def test_other_tasks_and_modes(tmp_path):
    assert "nothing is trained" in said(gaussian_toy.get_config(), tmp_path / "run")
    config = digits_compare.get_config("tiny")
    text = said(config, tmp_path / "run", "compare", f"{ROOT}/configs/digits_compare.py:tiny")
    assert "seed0" in text and "0 of them done" in text


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"train.batch": 12}, "stage view/eyes_mouth: batch 12 cannot be split over 8 devices"),
        (
            {"train.accumulate": 3},
            "16 cannot be split into config.train.accumulate = 3 micro-batches; nearest valid: 15",
        ),
        ({"views.low_res.operator.factor": 3}, "config.views.low_res.operator"),
        ({"data.source": "flder:x"}, "did you mean 'folder'"),
    ],
)
def test_wrong_configs_are_the_errors_of_a_run(change, message, tmp_path):
    config = absent()
    config.update_from_flattened_dict(change)
    with pytest.raises((ConfigError, ValueError), match=message):
        dry_run.run(config, "x.py", tmp_path / "run", "all", Console(quiet=True))
    status = command.main(config, "x.py", str(tmp_path / "run"), "all", False, [], dry=True)
    assert status == 2


def untrained(**changes):
    """A config without networks to trace but a small one, of one view and the clean examples."""
    config = absent()
    config.views = {"whole": default.view({"name": "identity"}, 1.0)}
    config.methods = ("clean_only",)
    config.update_from_flattened_dict(changes)
    return config


def test_a_restoration_is_planned_and_told(tmp_path):
    config = untrained(
        **{"restore.method": "ddrm,dps", "restore.count": 5, "restore.priors": ("clean_only",)}
    )
    text = said(config, tmp_path / "run", "restore")
    used, left = text.split("not used here:")
    assert "restore: " in used and "restore" not in left.splitlines()[0]
    for words in (
        "5 images of held_out by clean_only; methods ddrm, dps",
        "avg_pool",
        "it would be refused: not trained yet: clean_only",
    ):
        assert words in text
    assert f"{tmp_path}/run/restore/held_out/: PRIOR-OPERATOR-METHOD" in text
    there = said(untrained(**{"restore.input": "folder:/nowhere"}), tmp_path / "run", "restore")
    assert "to restore   not there: " in there
    assert "restore" in said(config, tmp_path / "run").split("not used here:")[1].splitlines()[0]


def test_a_distillation_is_planned_and_its_stage_told(tmp_path):
    config = untrained(**{"distill.samples": 700, "distill.train.steps": 90, "distill.train.batch": 16})
    text = said(config, tmp_path / "run", "distill")
    assert (
        "'clean_only' is imitated on 700 images" in text and f"the model: {tmp_path}/run/distilled/" in text
    )
    row = next(line for line in text.splitlines() if line.startswith("│ distill/"))
    assert "new, 90 steps" in row and "1.44 k" in row


@pytest.mark.parametrize(
    ("mode", "change", "message"),
    [
        ("restore", {"restore.method": "mmpss"}, "config.restore.method: .*did you mean 'mmps'"),
        (
            "restore",
            {"restore.operator.name": "avg_pool", "restore.operator.factor": 3},
            "restore.operator 'avg_pool'",
        ),
        ("restore", {"restore.priors": ("residual",)}, r"config.restore.priors\[0\]"),
        ("distill", {"distill.method": "clean_onli"}, "config.distill.method: .*did you mean 'clean_only'"),
        ("distill", {"distill.train.batch": 12}, "stage distill: batch 12 cannot be split over 8 devices"),
        ("sample", {"sample.method": "residual"}, "config.sample.method"),
    ],
)
def test_a_wrong_plan_of_a_mode_is_its_error(mode, change, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        dry_run.run(untrained(**change), "x.py", tmp_path / "run", mode, Console(quiet=True))


def test_a_workdir_of_another_config_is_the_error_of_a_run_and_is_left_as_it_is(
    tmp_path, capsys, monkeypatch
):
    config, workdir = untrained(), tmp_path / "run"
    same_config.claim(config, workdir)
    before = (workdir / "config.json").read_text()

    def dry(allowed=False, **change):
        monkeypatch.setenv(same_config.ALLOW, "1" if allowed else "")
        arguments = (untrained(**change), "x.py", str(workdir), "all", "off", [], True, allowed)
        return command.main(*arguments), capsys.readouterr()

    assert dry()[0] == 0 and dry(**{"restore.count": 3})[0] == 0
    status, printed = dry(seed=1)
    assert status == 2 and "holds a run of another config:\n  config.seed: 0 -> 1" in printed.err
    status, printed = dry(True, seed=1)
    assert (
        status == 0 and "gives way (--allow_config_change)" in printed.out and "seed: 0 -> 1" in printed.out
    )
    assert [path.name for path in workdir.iterdir()] == ["config.json"]
    assert (workdir / "config.json").read_text() == before


@pytest.mark.slow
def test_the_full_size_config_as_a_user_starts_it():
    done = subprocess.run(
        [sys.executable, "launch.py", "--config=configs/celeba_residual.py", "--dry-run"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    assert "view/watermarked" in done.stdout and "64 x 64 x 3" in done.stdout
    wrong = ["--config=configs/celeba_residual.py", "--dry-run", "--config.train.dtype=float61"]
    done = subprocess.run([sys.executable, "launch.py", *wrong], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 2 and "did you mean" in done.stderr
