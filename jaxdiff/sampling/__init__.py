"""Integrators of the reverse process: functions of a denoiser."""

from jaxdiff.sampling.samplers import Churn, sample

__all__ = ["Churn", "sample"]
