"""CIFAR-10, 10 % clean and 90 % noisy: mixed noise levels.

Source:   Daras et al. 2025 (arXiv 2411.02780) [paper]: sigma_y = 0.2 in [-1, 1], 10 % clean, weight 1 after EDM's;
          EDM's network and optimiser (configs/cifar10.py).
Command:  python launch.py --config=configs/cifar10_noisy_mix.py             (10 % clean, 90 % noisy)
          python launch.py --config=configs/cifar10_noisy_mix.py:clean_only  (also :noisy and :all_clean)
          python launch.py --config=configs/cifar10_noisy_mix.py:tiny        (minutes, on a CPU)
Cost:     not measured.
Figures:  FID: all clean 1.99, all noisy 11.93, 10 % clean alone 17.30, 10 % clean + 90 % noisy 2.81 [paper]. None
          measured.
"""

from ml_collections import ConfigDict

from configs import cifar10, default

SIGMA_Y = 0.2  # paper
IDENTITY = {"name": "identity"}


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("clean_only", "noisy", "all_clean", "tiny"))
    config = cifar10.get_config("CIFAR-10: 10 % clean, 90 % noisy")
    tenth = 4600  # of the 46,000 that are left to learn from
    if variant == "clean_only":
        config.title = "CIFAR-10: 10 % clean, nothing else"
        config.views.clean = default.view(IDENTITY, tenth)
    elif variant == "all_clean":
        config.title = "CIFAR-10: all clean"
        config.views.clean = default.view(IDENTITY, 1.0)
    else:
        config.views.mix = default.view(IDENTITY, 1.0, "tweedie", SIGMA_Y)
        config.views.mix.weighting = "unit"  # paper
        if variant == "noisy":
            config.title = "CIFAR-10: all noisy"
        else:
            config.data.clean = tenth
            config.views.mix.with_clean = True
    if variant == "tiny":
        config = cifar10.tiny(config)
        config.data.clean = 100
    return config
