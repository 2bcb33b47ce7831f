"""Digits of which one in ten is clean and the others are noisy: what is the noisy nine worth?

Source:   Daras et al. 2025 (arXiv 2411.02780): mixed noise levels, 10 % clean [paper]; sigma_y = 0.5 in [-1, 1], data,
          network and budget are this project's.
Command:  python launch.py --config=configs/digits_noisy_mix.py               (10 % clean, 90 % noisy)
          python launch.py --config=configs/digits_noisy_mix.py:clean_only    (the 10 % alone)
          python launch.py --config=configs/digits_noisy_mix.py:all_clean     (all of it clean)
          python launch.py --config=configs/digits_noisy_mix.py:noisy_as_clean  (all of it noisy, taken for clean)
          python launch.py --config=configs/digits_noisy_mix.py:noisy         (all of it noisy: Tweedie, consistency)
          python launch.py --config=configs/digits_noisy_mix.py:tiny          (the pipeline in a minute)
Cost:     see the README (measured).
"""

from ml_collections import ConfigDict

from configs import default, digits

VARIANTS = ("clean_only", "all_clean", "noisy_as_clean", "noisy", "tiny")
SIGMA_Y = 0.5
IDENTITY = {"name": "identity"}


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, VARIANTS)
    tenth, tuning = digits.TRAINING // 10, 50
    config = digits.get_config()
    if variant in ("", "tiny"):
        config.title = "Digits: 10 % clean, 90 % noisy"
        config.data.clean, config.data.tuning = tenth - tuning, tuning
        config.views.mix = default.view(IDENTITY, 1.0, "tweedie", SIGMA_Y)
        config.views.mix.with_clean = True
    elif variant == "clean_only":
        config.title = "Digits: 10 % clean, nothing else"
        config.data.tuning = tuning
        config.views.clean = default.view(IDENTITY, tenth - tuning)
    elif variant == "all_clean":
        config.title = "Digits: all clean"
        config.data.tuning = tuning
        config.views.clean = default.view(IDENTITY, 1.0)
    elif variant == "noisy_as_clean":
        config.title = "Digits: all noisy, taken for clean"
        config.views.noisy = default.view(IDENTITY, 1.0, "naive", SIGMA_Y)
    else:
        config.title = "Digits: all noisy"
        config.views.noisy = default.view(IDENTITY, 1.0, "tweedie", SIGMA_Y)
        # Small jumps: with jumps of 0.8 sigma, or EDM's weight, the denoiser below sigma_y diverged.
        config.views.noisy.consistency.update(
            weight=10.0, share=0.25, steps=2, start="below", jump=0.0, relative_jump=0.15, sigma_min=0.02
        )
    if variant == "tiny":
        config = digits.tiny(config)
        config.data.clean, config.data.tuning = 24, 16
    return config
