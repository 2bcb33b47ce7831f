"""The arrays of a (partly) trained experiment: one pytree, passed to jitted functions as an argument."""

from typing import Any

import flax.struct

from jaxdiff.composition import BandTable
from jaxdiff.diffusion.gaussian import Gaussian
from jaxdiff.operators import LinearOperator


class Frozen(dict):
    """A dict that can be static in a pytree."""

    def __hash__(self):
        return hash(tuple(sorted(self.items())))


@flax.struct.dataclass
class Parts:
    """What is not there yet is None or missing from its dict.

    Attributes:
      reference: the Gaussian that nats are counted from.
      gaussian: D_G, fitted to the clean training examples.
      operators, view_gaussians: by view.
      params: of the networks, by stage ('view/<name>', 'residual', 'clean_only', ...).
      fusion: weights w_i(sigma), columns in the order of the views.
      stacking: by method, the weights of its candidates.
      sigma_data: by stage, measured on the stage's data.
      sigma_min: by view of the method 'omni', the level above which it is used.
      clean_only: the stage that `clean_only` uses (the best of its grid).
    """

    reference: Gaussian | None = None
    gaussian: Gaussian | None = None
    operators: dict[str, LinearOperator] = flax.struct.field(default_factory=dict)
    view_gaussians: dict[str, Gaussian] = flax.struct.field(default_factory=dict)
    params: dict[str, Any] = flax.struct.field(default_factory=dict)
    fusion: BandTable | None = None
    stacking: dict[str, BandTable] = flax.struct.field(default_factory=dict)
    sigma_data: dict[str, float] = flax.struct.field(pytree_node=False, default_factory=Frozen)
    sigma_min: dict[str, float] = flax.struct.field(pytree_node=False, default_factory=Frozen)
    clean_only: str = flax.struct.field(pytree_node=False, default="clean_only")

    def with_params(self, stage: str, params: Any) -> "Parts":
        """With the parameters of one more stage."""
        return self.replace(params={**self.params, stage: params})

    def with_sigma_data(self, **values: float) -> "Parts":
        """With sigma_data of further stages ('/' in a stage's name is written as it is)."""
        return self.replace(sigma_data=Frozen({**self.sigma_data, **values}))

    def with_sigma_min(self, **values: float) -> "Parts":
        """With the level above which a view of the method 'omni' is used."""
        return self.replace(sigma_min=Frozen({**self.sigma_min, **values}))

    def only(self, *views: str) -> "Parts":
        """Operators of these views and the scales: what a view's stage may know."""
        kept = {name: self.operators[name] for name in views}
        return Parts(operators=kept, sigma_data=self.sigma_data, sigma_min=self.sigma_min)
