"""Inputs made of a part of one measurement and the rest of another: who asks for them, what they are, and training."""

import json

import jax
import numpy as np
import pytest
from rich.console import Console

from configs import digits_residual
from jaxdiff.experiment import command
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.data import load_data
from jaxdiff.experiment.made import data_of_stage
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.sketch import sketch_stages
from jaxdiff.training.sharding import make_mesh

SHAPE = (8, 8, 1)


def asking(**changes):
    """Tiny digits with halves as views; `a__b` is config.a.b."""
    config = digits_residual.get_config("tiny")
    config.methods = ("views_only", "residual", "finetune")
    for key, value in changes.items():
        part, name = key.split("__")
        config[part][name] = value
    return config


def test_made_inputs_are_halves_of_two_examples_beside_the_clean_ones():
    config = asking(residual__made_penalty=0.5, residual__made_share=0.25)
    plan, data = make_plan(config, SHAPE), load_data(config, Console(quiet=True))
    assert plan.made_pairs == ((0, 2),)
    learnt = data_of_stage(plan, config, data, 2**30, "residual")
    rows = np.linspace(0, learnt.dataset.size - 1, 400).astype(int)
    batch = learnt.dataset.take(rows)
    made = batch.source == 1
    assert np.mean(made) == pytest.approx(0.25, abs=0.01)
    clean = {image.tobytes() for image in data.clean_images().astype(np.float32)}
    assert all(image.tobytes() in clean for image in batch.y[~made])
    tops, bottoms = (data.views[name].dataset for name in ("top", "bottom"))
    tops, bottoms = ({y.tobytes() for y in d.take(np.arange(d.size)).y} for d in (tops, bottoms))
    assert all(image[:4].tobytes() in tops and image[4:].tobytes() in bottoms for image in batch.y[made])
    assert data_of_stage(plan, config, data, 2**30, "finetune") is data.clean


def test_made_inputs_need_two_parts_of_an_image():
    for change in ({"residual__made_penalty": 0.5}, {"finetune__start": "views_only"}):
        config = asking(**change)
        assert make_plan(config, SHAPE).made_pairs == ((0, 2),)
        del config.views.bottom
        name = next(iter(change)).replace("__", ".")
        with pytest.raises(ConfigError, match=f"config.{name}: inputs are made of two views"):
            make_plan(config, SHAPE)
        config.methods = ("views_only",)
        assert make_plan(config, SHAPE).made_pairs == ()


def test_a_network_that_imitates_the_views_needs_them():
    config = asking(finetune__start="views_only")
    config.methods = ("finetune",)
    plan = make_plan(config, SHAPE)
    assert plan.composes and len(plan.learnt_views) == 3
    config.finetune.start = "restored"
    assert not make_plan(config, SHAPE).composes


@pytest.mark.slow
def test_what_the_stages_cost_is_known_before(tmp_path):
    config = asking(finetune__start="views_only", finetune__penalty=0.3, residual__made_penalty=0.5)
    config.network.update(channels=4, channel_mults=(1,))
    mesh = make_mesh(jax.devices()[:1])

    def sketched():
        stages = sketch_stages(make_plan(config, SHAPE), config, 50, {}, mesh, tmp_path)
        return {stage.name: stage.train_flops for stage in stages}

    dear = sketched()
    config.finetune.start, config.finetune.penalty = "restored", 0.0
    cheap = sketched()
    # The views are asked what they say; the network of before is evaluated, forward only.
    assert dear["finetune/first"] > 1.5 * cheap["finetune/first"]
    assert 1.2 * cheap["finetune"] < dear["finetune"] < 1.6 * cheap["finetune"]


@pytest.mark.slow
def test_prices_at_made_inputs_and_an_imitation_of_the_views_end_to_end(tmp_path):
    config = asking(
        residual__made_penalty=0.5,
        finetune__start="views_only",
        finetune__first_steps=4,
        finetune__penalty=0.3,
        finetune__made_penalty=0.2,
    )
    config.train.steps, config.sample.count = 4, 4
    command.main(config, "tiny.py", str(tmp_path), "all", False, ["python", "launch.py", "--config=tiny.py"])
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["stages"]["finetune/first"]["images_seen"] == 4 * config.train.batch
    cost, views = results["methods"]["finetune"], results["methods"]["views_only"]
    assert cost["train_flops"] > views["train_flops"]  # what was imitated had to be learnt
    assert cost["parameters"] == results["stages"]["finetune"]["parameters"]
    records = [
        json.loads(line) for line in (tmp_path / "stages/finetune/metrics.jsonl").read_text().splitlines()
    ]
    assert any("made_way" in record for record in records)
