"""CIFAR-10 with a consistency term: Consistent Diffusion Models, on clean data.

Source:   Daras et al. 2023 (arXiv 2302.09057) [paper]: weight 10 on the unweighted product of two draws, s =
          max(sigma - U(0, 0.05), 0.002), 5 steps on a rho = 7 grid, gradients through all three denoisers; EDM's
          network and optimiser (configs/cifar10.py). The paper's reverse steps are Euler-Maruyama, these are
          ancestral (the same mean).
Command:  python launch.py --config=configs/cifar10_consistency.py
          python launch.py --config=configs/cifar10_consistency.py:tiny   (minutes, on a CPU)
Cost:     not measured; about 1.5 times that of plain training [paper].
Figures:  FID 1.95, against 2.01 for EDM trained again [paper]. None measured.
"""

from ml_collections import ConfigDict

from configs import cifar10, default


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("tiny",))
    config = cifar10.get_config("CIFAR-10 with a consistency term")
    config.views.clean = default.view({"name": "identity"}, 1.0, "tweedie")
    config.views.clean.consistency.update(
        weight=10.0,  # paper
        share=1.0,
        steps=5,  # paper
        start="data",  # paper
        jump=0.05,  # paper
        relative_jump=0.0,
        sigma_min=0.002,  # paper
        edm_weighted=False,  # paper
    )
    return cifar10.tiny(config) if variant == "tiny" else config
