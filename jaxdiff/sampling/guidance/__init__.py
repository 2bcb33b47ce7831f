"""Guidance: from a denoiser of X and a measurement y = A X + sigma_y n to a denoiser, or a step, that knows y.

All of them are called alike, `method(denoiser, operator, y, sigma_y, **settings)`, and run by `sampling.restore`.
"""

from jaxdiff.sampling.guidance.ambient_dps import ambient_dps
from jaxdiff.sampling.guidance.ddrm import ddrm
from jaxdiff.sampling.guidance.diffpir import diffpir
from jaxdiff.sampling.guidance.dps import dps
from jaxdiff.sampling.guidance.mmps import mmps
from jaxdiff.sampling.guidance.one_step import one_step
from jaxdiff.sampling.guidance.pigdm import pigdm
from jaxdiff.sampling.guidance.repaint import repaint
from jaxdiff.sampling.guidance.spectrum import Spectrum, spectrum
from jaxdiff.sampling.guidance.step import Step, advance

__all__ = [
    "Spectrum",
    "Step",
    "advance",
    "ambient_dps",
    "ddrm",
    "diffpir",
    "dps",
    "mmps",
    "one_step",
    "pigdm",
    "repaint",
    "spectrum",
]
