"""How a denoiser is learnt from measurements: one file a method, each with init, loss and denoiser."""

from jaxdiff.methods.base import Method
from jaxdiff.methods.denoising import denoising
from jaxdiff.methods.residual import residual

__all__ = ["Method", "denoising", "residual"]
