"""Digits of which no one is whole: Ambient Diffusion on images with 60 % (or 90 %) of their pixels missing.

Source:   Daras et al. 2023 (arXiv 2305.19256): pixel dust, p = 0.6 and 0.9, delta = 0.1 [paper]; data, network and
          budget are this project's.
Command:  python launch.py --config=configs/digits_ambient.py          (60 % missing)
          python launch.py --config=configs/digits_ambient.py:90       (90 % missing)
          python launch.py --config=configs/digits_ambient.py:em       (60 % missing, by EM in place of Ambient)
          python launch.py --config=configs/digits_ambient.py:tiny     (the pipeline in a minute)
Cost:     see the README (measured).
"""

from ml_collections import ConfigDict

from configs import default, digits


def get_config(variant: str = "") -> ConfigDict:
    default.check_variant(variant, ("60", "90", "em", "tiny"))
    missing = 0.9 if variant == "90" else 0.6
    config = digits.get_config(f"Digits with {100 * missing:.0f} % of the pixels missing, nothing clean")
    config.views.masked = default.view({"name": "pixel_mask", "p": missing}, 1.0, "ambient")
    config.views.masked.delta = 0.1
    # A little more than in training (0.36 and 0.09): the same nats, and samples less speckled (another split).
    config.views.masked.shown = 0.25 if missing == 0.9 else 0.5
    if variant == "em":
        config.views.masked.method = "em"
        config.views.masked.em.update(laps=4, examples=1900, steps=16, cg_steps=2)
    return digits.tiny(config) if variant == "tiny" else config
