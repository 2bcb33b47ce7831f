"""Theory in the loop: the parallel law of residuals, and what a noisy example of a mixture is worth.

Source:   docs/theory.md; noisy examples after "How Much is a Noisy Image Worth?" (Daras et al. 2025, arXiv 2411.02780).
Command:  python launch.py --config=configs/gaussian_theory.py
Variant:  :tiny, fewer points and repetitions, seconds
"""

from ml_collections import ConfigDict

from configs import default


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("tiny",))
    config = default.get_config()
    config.title = "Theory in the loop: measured against exact"
    config.task = "gaussian_theory"
    if variant == "tiny":
        config.theory.rhos = (0.1, 0.2, 0.8)
        config.theory.counts = (16, 64, 512)
        config.theory.repetitions = 200
        config.theory.samples = 2000
        config.theory.separations = (6.0,)
        config.theory.noise = (1.0, 2.0, 4.0)
        config.theory.sets = 100
    return config
