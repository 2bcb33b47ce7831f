"""The composed denoiser is one image per image, whichever candidates the config names."""

import jax
import jax.numpy as jnp
import pytest
from ml_collections import ConfigDict

from configs import digits_residual
from jaxdiff.composition import BandTable
from jaxdiff.experiment.model import composed, method_denoiser
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


@pytest.mark.parametrize(
    ("name", "weights", "never_run"),
    [
        pytest.param(
            "residual", {"gaussian": 1.0}, ("shared", "view/low_res", "residual"), marks=pytest.mark.slow
        ),
        ("residual", {"gaussian": 0.5, "shared": 0.5}, ("view/low_res", "residual")),
        ("residual", {"fusion": 0.5, "shared": 0.5}, ("residual",)),
        ("residual", {"residual": 1.0}, ()),
        ("clean_only", {"gaussian": 1.0}, ("clean_only",)),
    ],
)
def test_networks_without_weight_are_not_run(name, weights, never_run):
    """Their parameters are NaN: had they any part in the result, it would be NaN."""
    config = digits_residual.get_config("tiny")
    config.network = ConfigDict({"name": "mlp", "width": 4, "blocks": 1, "dropout": 0.0})
    config.views.low_res.network = ConfigDict()
    for view in ("top", "bottom"):
        config.views[view].method = "shared"
    config.composition.candidates = ("gaussian", "fusion", "shared")
    plan = make_plan(config, (8, 8, 1))
    candidates = ["gaussian", name] if name == "clean_only" else [*plan.candidates, name]
    arrays = jax.tree.map(lambda leaf: 0.1 * jnp.ones(leaf.shape, leaf.dtype), untrained(plan, config))
    table = BandTable(
        jnp.linspace(0.1, 1.0, config.bands.count),
        jnp.tile(jnp.asarray([weights.get(c, 0.0) for c in candidates]), (config.bands.count, 1)),
    )
    poison = {s: jax.tree.map(lambda leaf: leaf * jnp.nan, arrays.params[s]) for s in never_run}
    nowhere = BandTable(table.sigmas, jnp.full_like(arrays.stacking["views_only"].values, jnp.nan))
    arrays = arrays.replace(
        stacking={
            **arrays.stacking,
            "views_only": nowhere,
            name: table,
        },  # a residual's z has weights of its own
        params={**arrays.params, **poison},
    )
    denoise = jax.jit(lambda parts, x, sigma: method_denoiser(plan, parts, config, name)(x, sigma))
    x, sigma = jnp.ones((2, 8, 8, 1)), jnp.full(2, 0.5)
    assert bool(jnp.isfinite(denoise(arrays, x, sigma)).all())
    used = {"clean_only"} if name == "clean_only" else {"shared", "view/low_res", "residual"}
    for stage in used - set(never_run):
        one = {stage: jax.tree.map(lambda leaf: leaf * jnp.nan, arrays.params[stage])}
        hurt = arrays.replace(params={**arrays.params, **one})
        assert bool(jnp.isnan(denoise(hurt, x, sigma)).any()), stage
