"""Every operator of the catalog by `--config.restore.operator.name=NAME`, with arguments from the command line."""

import inspect

import jax
import numpy as np
import pytest
from absl import flags
from ml_collections import config_flags

from configs import default, digits_residual
from jaxdiff import operators
from jaxdiff.experiment.checks import ConfigError
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.restore_plan import build_operators, make_restore_plan
from jaxdiff.operators.catalog import FAMILIES

SHAPES = {"grayscale": (8, 8, 3), "fourier": (8, 8, 2), "multicoil_fourier": (8, 8, 2)}
# What cannot be done with images and a name alone, and what is said of it.
MISSING = {
    "compose": "operator 'compose' needs the argument operators",
    "coordinates": "operator 'coordinates' needs the argument indices",
}


def built(shape, **arguments):
    """The one operator of a command line, `--config.restore.operator.KEY=VALUE` for each of `arguments`."""
    values = flags.FlagValues()
    line = ["launch.py", *(f"--config.restore.operator.{key}={value}" for key, value in arguments.items())]
    start = digits_residual.get_config("tiny")
    config_flags.DEFINE_config_dict("config", start, flag_values=values, sys_argv=line)
    values(line)
    config = values.config
    plan = make_restore_plan(config, make_plan(config, (8, 8, 1)))
    (found,) = build_operators(plan, shape).values()
    return found


@pytest.mark.parametrize("name", operators.names())
def test_every_operator_is_built_by_its_name_or_says_what_is_missing(name):
    shape = SHAPES.get(name, (8, 8, 1))
    if name in MISSING:
        with pytest.raises(ConfigError, match=f"config.restore.operator '{name}': {MISSING[name]}"):
            built(shape, name=name)
        return
    operator = built(shape, name=name).draw(jax.random.split(jax.random.key(0), 2))
    x = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    y = np.asarray(operator(x))
    assert y.shape == (2, *operator.out_shape) and np.isfinite(y).all() and np.any(y != 0)
    if name != "identity":  # a usual one leaves something to be restored
        assert y.shape != x.shape or np.abs(y - x).max() > 0.1


def test_every_argument_of_every_operator_can_be_set():
    """Mutation: a new argument of a family that the config does not know fails."""
    known = set(default.operator_arguments()) - {"name"}
    wanted = {key for family in FAMILIES.values() for key in inspect.signature(family).parameters} - {
        "in_shape"
    }
    assert known == wanted | {"operators"}


@pytest.mark.parametrize(
    ("shape", "arguments", "said"),
    [
        ((8, 6, 1), {"name": "crop", "top": 1, "left": 0, "height": 2, "width": 3}, "height=2, width=3"),
        ((8, 8, 1), {"name": "crop", "top": 0}, "top=0, left=2, height=4, width=4"),
        ((8, 8, 1), {"name": "mask", "mask": "top"}, "mask(mask=top)"),
        ((8, 8, 1), {"name": "mask", "box": "(1,2,3,4)"}, "Box(top=1, left=2, height=3, width=4)"),
        ((8, 8, 1), {"name": "box_mask", "size": "(2,3)"}, "size=(2, 3)"),
        (
            (8, 8, 2),
            {"name": "fourier", "center": 2, "axis": "rows"},
            "acceleration=4.0, center=2, axis=rows",
        ),
        ((32, 32, 2), {"name": "fourier", "center": 0.125}, "center=4"),
        ((8, 8, 2), {"name": "multicoil_fourier"}, "acceleration=4.0, coils=8, maps=drawn"),  # data.coils
        ((8, 8, 2), {"name": "multicoil_fourier", "coils": 3, "maps": "fixed"}, "coils=3, maps=fixed"),
        ((8, 8, 3), {"name": "grayscale", "weights": "(0.5,0.25,0.25)"}, "(0.5, 0.25, 0.25)"),
        ((8, 8, 1), {"name": "sensing", "measurements": 10, "orthonormal": "true"}, "orthonormal=True"),
        ((8, 8, 1), {"name": "overlay", "kind": "logo", "size": 0.4}, "kind=logo, size=0.4"),
        ((4,), {"name": "coordinates", "indices": "(0,2)"}, "indices=(0, 2)"),
        ((8, 8, 3), {"name": "compose", "operators": "('grayscale','avg_pool')"}, "avg_pool(factor=4)"),
    ],
)
def test_arguments_come_from_the_command_line(shape, arguments, said):
    described = operators.describe(built(shape, **arguments))
    for part in said.split(", ") if "(" not in said else (said,):
        assert part in described, described


def test_parts_of_a_composition_in_a_config_have_the_usual_arguments():
    config = digits_residual.get_config("tiny")
    parts = {"0": {"name": "pixel_mask"}, "1": {"name": "avg_pool", "factor": 2}}
    config.restore.operators = {"both": {"name": "compose", "operators": parts}}
    (found,) = build_operators(make_restore_plan(config, make_plan(config, (8, 8, 1))), (8, 8, 1)).values()
    assert "pixel_mask(p=0.6" in operators.describe(found) and found.out_shape == (4, 4, 1)


def test_an_argument_of_another_operator_is_refused():
    with pytest.raises(ConfigError, match="restore.operator 'box_mask': unknown box_mask argument 'coils'"):
        built((8, 8, 1), name="box_mask", coils=4)
    with pytest.raises(ConfigError, match="exactly one of mask, box, hidden_box"):
        built((8, 8, 1), name="mask", mask="top", box="(1,2,3,4)")
