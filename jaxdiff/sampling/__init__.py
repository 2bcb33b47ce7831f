"""Integrators of the reverse process: functions of a denoiser."""

from jaxdiff.sampling.degradation import (
    restoration_degradation,
    step_from_drift_and_diffusion,
    step_from_maps,
    step_from_mean_and_scale,
)
from jaxdiff.sampling.masked import fixed_mask, member, multi_mask_guidance
from jaxdiff.sampling.posterior import posterior_denoiser
from jaxdiff.sampling.replacement import replacement_draw
from jaxdiff.sampling.restore import GUIDANCES, posterior_draws, restore
from jaxdiff.sampling.samplers import (
    SAMPLERS,
    STOPS,
    Churn,
    evaluations,
    freshness,
    image_keys,
    sample,
    sample_images,
)
from jaxdiff.sampling.tiling import tiled

__all__ = [
    "GUIDANCES",
    "SAMPLERS",
    "STOPS",
    "Churn",
    "evaluations",
    "fixed_mask",
    "freshness",
    "image_keys",
    "member",
    "multi_mask_guidance",
    "posterior_denoiser",
    "posterior_draws",
    "replacement_draw",
    "restoration_degradation",
    "restore",
    "sample",
    "sample_images",
    "tiled",
    "step_from_drift_and_diffusion",
    "step_from_maps",
    "step_from_mean_and_scale",
]
