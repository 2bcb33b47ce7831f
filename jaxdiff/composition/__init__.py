"""From denoisers of views to one denoiser of the whole: lifting, fusion, residual, stacking."""

from jaxdiff.composition.bands import BandTable, band_edges, smooth_over_bands
from jaxdiff.composition.fusion import anchored_fusion, fuse, sum_of_scores
from jaxdiff.composition.lifting import View, lift, lifted_score, view_denoised
from jaxdiff.composition.residual import residual_denoiser
from jaxdiff.composition.stacking import fit_gate, fit_stacking, stack, where_needed

__all__ = [
    "BandTable",
    "View",
    "anchored_fusion",
    "band_edges",
    "fit_gate",
    "fit_stacking",
    "fuse",
    "lift",
    "lifted_score",
    "residual_denoiser",
    "smooth_over_bands",
    "stack",
    "sum_of_scores",
    "view_denoised",
    "where_needed",
]
