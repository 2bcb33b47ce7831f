"""What a denoiser is worth: the certificate in nats, nearest neighbors, exact answers for toy models."""

from jaxdiff.evaluation.bootstrap import (
    bootstrap_mean,
    over_seeds_and_images,
    paired_difference,
    paired_over_seeds,
)
from jaxdiff.evaluation.certificate import (
    band_contributions,
    candidate_errors,
    candidate_gram,
    denoising_errors,
    nats,
)
from jaxdiff.evaluation.gap import NoGap, gap_closed
from jaxdiff.evaluation.grid import plan_grid
from jaxdiff.evaluation.money import money
from jaxdiff.evaluation.neighbors import nearest_neighbors
from jaxdiff.evaluation.price_list import source_entry
from jaxdiff.evaluation.toy import gaussian_toy
from jaxdiff.evaluation.worth import assess

__all__ = [
    "NoGap",
    "assess",
    "band_contributions",
    "bootstrap_mean",
    "candidate_errors",
    "candidate_gram",
    "denoising_errors",
    "gap_closed",
    "gaussian_toy",
    "money",
    "nats",
    "nearest_neighbors",
    "over_seeds_and_images",
    "paired_difference",
    "paired_over_seeds",
    "plan_grid",
    "source_entry",
]
