"""The composed denoiser is one image per image, whichever candidates the config names."""

import jax
import jax.numpy as jnp
import pytest

from configs import digits_residual
from jaxdiff.composition import BandTable
from jaxdiff.experiment.model import composed
from jaxdiff.experiment.plan import make_plan
from jaxdiff.experiment.sketch import abstract_parts, stage_factory, stand_in_data
from jaxdiff.experiment.stages import stage_names


def untrained(plan, config):
    """Parts of the shapes that a finished run has."""
    parts, data = abstract_parts(plan, config, 50), stand_in_data(plan, {})
    for name in stage_names(plan):
        example = data.views[name[5:]].example() if name.startswith("view/") else data.clean.example()
        factory = stage_factory(plan, config, name)
        parts = parts.with_params(
            name,
            jax.eval_shape(
                lambda p, e, factory=factory: factory({"parts": p}).init(jax.random.key(0), e), parts, example
            ),
        )
    bands = config.bands.count
    columns = jax.ShapeDtypeStruct((bands, len(plan.candidates) + 1), jnp.float32)
    table = BandTable(jax.ShapeDtypeStruct((bands,), jnp.float32), columns)
    return parts.replace(stacking={**parts.stacking, "residual": table})


@pytest.mark.parametrize(
    "candidates", [("gaussian",), ("fusion",), ("anchored", "gaussian"), ("gaussian", "fusion", "anchored")]
)
@pytest.mark.parametrize("name", ["views_only", "residual"])
def test_any_candidates_make_a_denoiser(name, candidates):
    config = digits_residual.get_config("tiny")
    config.composition.candidates = candidates
    plan = make_plan(config, (8, 8, 1))
    x, sigma = jax.ShapeDtypeStruct((3, 8, 8, 1), jnp.float32), jax.ShapeDtypeStruct((3,), jnp.float32)
    out = jax.eval_shape(
        lambda parts, x, sigma: composed(plan, parts, config, name)(x, sigma),
        untrained(plan, config),
        x,
        sigma,
    )
    assert (out.shape, out.dtype) == (x.shape, x.dtype)
