"""Integrators of the reverse process: functions of a denoiser."""

from jaxdiff.sampling.masked import fixed_mask, member, multi_mask_guidance
from jaxdiff.sampling.posterior import posterior_denoiser
from jaxdiff.sampling.replacement import replacement_draw
from jaxdiff.sampling.restore import GUIDANCES, posterior_draws, restore
from jaxdiff.sampling.samplers import Churn, image_keys, sample, sample_images

__all__ = [
    "GUIDANCES",
    "Churn",
    "fixed_mask",
    "image_keys",
    "member",
    "multi_mask_guidance",
    "posterior_denoiser",
    "posterior_draws",
    "replacement_draw",
    "restore",
    "sample",
    "sample_images",
]
