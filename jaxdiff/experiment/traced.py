"""A plan whose networks are traced once for each shape: a sketch asks the same network many times for its program.

Flax builds a network anew, parameter by parameter, whenever a loss is traced; `jax.jit` remembers the program.
"""

import dataclasses
from typing import Any

import flax.linen as nn
import jax

from jaxdiff.experiment.plan import Plan, StagePlan


class TracedOnce:
    """Stands in for a Flax network wherever it is only initialized and applied."""

    def __init__(self, network: nn.Module):
        self.network = network

        def call(variables, x, c_noise, cond, rngs, train):
            return network.apply(variables, x, c_noise, cond, train=train, rngs=rngs)

        self._call = jax.jit(call, static_argnames="train")
        self._init = jax.jit(network.init, static_argnames="train")

    def __getattr__(self, name: str) -> Any:
        return getattr(self.network, name)

    def apply(
        self, variables: Any, x: Any, c_noise: Any, cond: Any = None, train=False, rngs=None
    ) -> jax.Array:
        """As of the network."""
        return self._call(variables, x, c_noise, cond, rngs, train=train)

    def init(self, key: jax.Array, x: Any, c_noise: Any, cond: Any = None, train: bool = False) -> Any:
        """As of the network."""
        return self._init(key, x, c_noise, cond, train=train)


def traced_once(plan: Plan) -> Plan:
    """The plan with a `TracedOnce` for each of its networks."""
    made: dict[nn.Module, TracedOnce] = {}

    def of_stage(stage: StagePlan | None) -> StagePlan | None:
        if stage is None:
            return None
        network = made.setdefault(stage.network, TracedOnce(stage.network))
        return dataclasses.replace(stage, network=network)

    return dataclasses.replace(
        plan,
        views=tuple(dataclasses.replace(view, stage=of_stage(view.stage)) for view in plan.views),
        stages={name: of_stage(stage) for name, stage in plan.stages.items()},
        shared=dataclasses.replace(plan.shared, later=of_stage(plan.shared.later)),
    )
