"""Integrators of the reverse process: functions of a denoiser."""

from jaxdiff.sampling.masked import fixed_mask, member, multi_mask_guidance
from jaxdiff.sampling.posterior import posterior_denoiser
from jaxdiff.sampling.replacement import replacement_draw
from jaxdiff.sampling.samplers import Churn, image_keys, sample, sample_images

__all__ = [
    "Churn",
    "fixed_mask",
    "image_keys",
    "member",
    "multi_mask_guidance",
    "posterior_denoiser",
    "replacement_draw",
    "sample",
    "sample_images",
]
