"""What corrupts: linear operators from image space to view space, by name.

>>> op = build("avg_pool", (16, 16, 1), factor=2)
>>> y = op(x)  # x: (B, 16, 16, 1) -> y: (B, 8, 8, 1)
"""

from jaxdiff.operators.catalog import build, names, properties, require_isometry
from jaxdiff.operators.isometry import isometry_constant
from jaxdiff.operators.linear import LinearOperator, describe
from jaxdiff.operators.measurement import Measurement

__all__ = [
    "LinearOperator",
    "Measurement",
    "build",
    "describe",
    "isometry_constant",
    "names",
    "properties",
    "require_isometry",
]
