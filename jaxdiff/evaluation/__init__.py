"""What a denoiser is worth: the certificate in nats, nearest neighbors, exact answers for toy models."""

from jaxdiff.evaluation.bootstrap import bootstrap_mean, paired_difference
from jaxdiff.evaluation.certificate import (
    band_contributions,
    candidate_errors,
    candidate_gram,
    denoising_errors,
    nats,
)
from jaxdiff.evaluation.neighbors import nearest_neighbors
from jaxdiff.evaluation.toy import gaussian_toy

__all__ = [
    "band_contributions",
    "bootstrap_mean",
    "candidate_errors",
    "candidate_gram",
    "denoising_errors",
    "gaussian_toy",
    "nats",
    "nearest_neighbors",
    "paired_difference",
]
