"""How a denoiser is learnt from measurements: one file a method, each with init, loss and denoiser."""

from jaxdiff.methods.ambient import ambient
from jaxdiff.methods.base import Method
from jaxdiff.methods.cascade import cascade
from jaxdiff.methods.consistency import Consistency
from jaxdiff.methods.denoising import denoising
from jaxdiff.methods.distill import distill
from jaxdiff.methods.em import complete
from jaxdiff.methods.finetune import finetune
from jaxdiff.methods.gsure import gsure
from jaxdiff.methods.omni import source_classifier
from jaxdiff.methods.residual import residual
from jaxdiff.methods.shared import shared
from jaxdiff.methods.tweedie import tweedie

__all__ = [
    "Consistency",
    "Method",
    "ambient",
    "cascade",
    "complete",
    "denoising",
    "distill",
    "finetune",
    "gsure",
    "residual",
    "shared",
    "source_classifier",
    "tweedie",
]
