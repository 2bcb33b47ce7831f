"""The parts of --mode=distill that need no trained experiment; the whole of it is in test_experiment.py."""

import dataclasses
import functools
import signal
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import digits_compare, digits_residual
from jaxdiff.diffusion.gaussian import gaussian_from_covariance
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.distill_results import teacher_parameters
from jaxdiff.experiment.distilling import (
    expected_start,
    is_told,
    make_distill_plan,
    starting_stage,
    teacher_samples,
    teachers,
)
from jaxdiff.experiment.parts import Parts
from jaxdiff.experiment.plan import make_plan
from jaxdiff.training.stopping import Interrupted, StopRequest

SHAPE = (8, 8, 1)


def tiny(**changes):
    config = digits_residual.get_config("tiny")
    config.distill.update({"samples": 6, "batch": 4, "steps": 3, **changes})
    return config


@functools.cache
def tiny_plan():
    """config.distill has no part in it."""
    return make_plan(tiny(), SHAPE)


def planned(tmp_path, **changes):
    return make_distill_plan(tiny(**changes), tiny_plan(), tmp_path)


def test_the_teacher_is_the_last_method_that_is_composed_unless_another_is_named(tmp_path):
    assert planned(tmp_path).method == "residual"
    assert planned(tmp_path, method="clean_only").method == "clean_only"
    plan = dataclasses.replace(tiny_plan(), methods=("views_only", "clean_only", "cascade"))
    assert make_distill_plan(tiny(), plan, tmp_path).method == "views_only"
    assert "cascade" not in teachers(plan)
    plan = dataclasses.replace(tiny_plan(), methods=("clean_only",))
    assert make_distill_plan(tiny(), plan, tmp_path).method == "clean_only"


def test_other_settings_are_another_stage_and_the_same_ones_go_on(tmp_path):
    first = planned(tmp_path)
    for change in ({"samples": 7}, {"spread": 0.5}, {"start": "scratch"}):
        other = planned(tmp_path, **change)
        assert other.key != first.key and other.samples_key == first.samples_key
    for change in ({"steps": 5}, {"method": "views_only"}):
        assert planned(tmp_path, **change).samples_key != first.samples_key
    same = planned(tmp_path, licence="CC-BY-4.0", out=str(tmp_path / "elsewhere"))
    assert same.key == first.key and same.out.name == "elsewhere"


def test_the_student_starts_from_the_clean_network_where_shapes_fit(tmp_path):
    network = planned(tmp_path).stage.network
    shapes = jax.eval_shape(network.init, jax.random.key(0), np.zeros((1, *SHAPE)), np.zeros(1))["params"]
    params = jax.tree.map(lambda leaf: np.zeros(leaf.shape), shapes)
    parts = Parts(params={"clean_only/1": params}, clean_only="clean_only/1")
    stage, start = starting_stage(planned(tmp_path), parts, SHAPE)
    assert stage == "clean_only/1" and start is params
    assert starting_stage(planned(tmp_path, start="scratch"), parts, SHAPE) == ("", None)
    wider = planned(tmp_path)._replace(stage=planned(tmp_path, network={"channels": 16}).stage)
    assert starting_stage(wider, parts, SHAPE) == ("", None)
    with pytest.raises(ConfigError, match="config.distill.start: 'clean_only' was not trained here or"):
        starting_stage(wider._replace(start="clean_only"), parts, SHAPE)


def shared_config(**distill):
    config = digits_compare.get_config("tiny-shared")
    config.distill.update({"samples": 6, "batch": 4, "steps": 3, **distill})
    return config


@functools.cache
def shared_plan():
    return make_plan(shared_config(), SHAPE)


def shared_params():
    network, x = shared_plan().stages["shared"].network, np.zeros((1, *SHAPE))
    params = jax.eval_shape(network.init, jax.random.key(0), x, np.zeros(1), {"image": x})["params"]
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.standard_normal(leaf.shape).astype(np.float32), params)


@pytest.mark.parametrize("start", ["shared", "auto"])
def test_the_student_starts_from_the_network_that_views_share(start, tmp_path):
    distilled = make_distill_plan(shared_config(start=start), shared_plan(), tmp_path)
    params = shared_params()
    stage, found = starting_stage(distilled, Parts(params={"shared": params}), SHAPE)
    assert stage == "shared" and found is params
    assert expected_start(shared_plan(), distilled) == "shared" and is_told("shared")


def test_the_start_is_known_before_anything_is_trained(tmp_path):
    for start, expected in (("auto", "clean_only"), ("scratch", ""), ("clean_only", "clean_only")):
        distilled = planned(tmp_path, start=start)
        assert expected_start(tiny_plan(), distilled) == expected and not is_told(expected)
    assert expected_start(tiny_plan(), planned(tmp_path, network={"channels": 16})) == ""


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (
            {"start": "shared", "network": {"channels": 16}},
            "start: 'shared' has another network than config.distill.network; valid here: auto, scratch$",
        ),
        (
            {"start": "clean_only"},
            "'clean_only' is not among what this config trains; valid here: auto, scratch, shared$",
        ),
    ],
)
def test_a_start_that_cannot_be_is_refused_before_anything_is_trained(change, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        make_distill_plan(shared_config(**change), shared_plan(), tmp_path)
    with pytest.raises(
        ConfigError, match="'shared' is not among what this config trains; valid here: auto, scratch, "
    ):
        planned(tmp_path, start="shared")


def test_a_network_that_views_share_is_counted_once():
    parts = Parts(params={"shared": {"a": np.zeros((3, 4))}, "view/top": {"b": np.zeros(5)}})
    run = SimpleNamespace(plan=shared_plan())
    assert len(shared_plan().views) == 3
    assert teacher_parameters(run, parts, "views_only") == 12
    assert teacher_parameters(run, parts, "shared") == 12
    apart = Parts(params={f"view/{name}": np.zeros(5) for name in ("top", "bottom", "low_res")})
    assert teacher_parameters(SimpleNamespace(plan=tiny_plan()), apart, "views_only") == 15


def test_samples_of_the_teacher_are_drawn_once_and_a_stop_keeps_what_is_drawn(tmp_path):
    config = tiny(method="gaussian")
    plan = tiny_plan()
    law = gaussian_from_covariance(np.full(SHAPE, 0.25), 0.01 * np.eye(64))
    run = SimpleNamespace(plan=plan, config=config, workdir=tmp_path, console=Console(), stop=StopRequest())
    distilled, parts = make_distill_plan(config, plan, tmp_path), Parts(reference=law)
    whole = teacher_samples(run, parts, distilled)
    assert whole.shape == (6, *SHAPE) and whole.mean() == pytest.approx(0.25, abs=0.1)
    files = sorted((tmp_path / "fits").rglob("*.npy"))
    assert len(files) == 2
    files[1].unlink()
    run.stop.signal = signal.SIGTERM
    with pytest.raises(Interrupted, match="SIGTERM: 4 of 6 samples of gaussian are kept"):
        teacher_samples(run, parts, distilled)
    run.stop.signal = None
    kept = files[0].stat().st_mtime_ns
    np.testing.assert_array_equal(teacher_samples(run, parts, distilled), whole)
    assert files[0].stat().st_mtime_ns == kept
