"""An experiment in plain arguments: what `make_plan` makes of a config."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import flax.linen as nn

from jaxdiff.diffusion.noise import NoiseDistribution
from jaxdiff.experiment.checks import OF_VIEWS, OWN_SPACE
from jaxdiff.methods.consistency import Consistency
from jaxdiff.operators import LinearOperator
from jaxdiff.training.loop import TrainSettings


@dataclasses.dataclass(frozen=True)
class StagePlan:
    """Network, noise and budget of one stage."""

    network: nn.Module
    noise: NoiseDistribution
    sigma_data: float  # 0: measured on the stage's data
    settings: TrainSettings


@dataclasses.dataclass(frozen=True)
class EmPlan:
    """How measurements are completed; see configs/default.py for the keys."""

    laps: int
    gaussian_laps: int
    rank: int
    examples: int
    batch: int
    steps: int
    sigma_min: float
    sigma_max: float
    rho: float
    cg_steps: int
    sampler: str


@dataclasses.dataclass(frozen=True)
class LawPlan:
    """The mixture of Gaussians that says which parts fit; see configs/default.py for the keys."""

    laps: int
    components: int
    rank: int
    prior: float


@dataclasses.dataclass(frozen=True)
class ViewPlan:
    """One view: its operator, the method that learns it, and the stage's budget."""

    name: str
    operator: LinearOperator
    method: str
    sigma_y: float
    with_clean: bool
    delta: float
    masks: int
    shown: float
    weighting: str
    max_gain: float
    consistency: Consistency
    sigma_min: float  # omni; below 0: estimated
    sigma_max: float
    tolerance: float
    em: EmPlan
    restored_by: str  # naive
    wavelet: Mapping[str, Any]
    stage: StagePlan
    rank: int
    full_range: bool  # whether the operator reaches all of its view space (a zero-filled mask does not)

    @property
    def stage_name(self) -> str:
        """Name of the stage that learns it."""
        return "shared" if self.method == "shared" else f"view/{self.name}"

    @property
    def of_images(self) -> bool:
        """Whether what is learnt is a denoiser of images, and not one in the view's own space."""
        whole = self.method == "denoising" and self.operator.name == "identity"
        return self.method not in OWN_SPACE or whole


@dataclasses.dataclass(frozen=True)
class SharedPlan:
    """What the network shared by views is shown; see configs/default.py for the keys."""

    clean_weight: float
    later_clean_weight: float
    completed_share: float
    boxes: float
    least_side: int
    matches: int
    seam_weight: float
    ask_border: bool
    later: StagePlan | None  # laps after the first
    law: LawPlan
    em: EmPlan


@dataclasses.dataclass(frozen=True)
class Plan:
    """An experiment on images, in plain arguments."""

    image_shape: tuple[int, int, int]
    views: tuple[ViewPlan, ...]
    methods: tuple[str, ...]
    stages: Mapping[str, StagePlan]  # residual, completed, clean_only (one for each of the grid), ...
    candidates: tuple[str, ...]
    completed_em: EmPlan
    finetune_view: str
    finetune_start: (
        str  # what its first stage learns: 'restored', A^+ y of that view, or 'views_only', what they say
    )
    # numbers of the views that made inputs (`experiment.made`) are put together from; () where nobody asks for any
    made_pairs: tuple[tuple[int, int], ...]
    cascade_view: str
    shared: SharedPlan

    @property
    def learnt_views(self) -> tuple[ViewPlan, ...]:
        """The views whose denoisers a method needs; all of them where nothing is made of them."""
        if self.composes or not self.methods:
            return self.views
        names = {self.cascade_view} if "cascade" in self.methods else set()
        if "shared" in self.methods:
            names |= {view.name for view in self.shared_views}
        return tuple(view for view in self.views if view.name in names)

    @property
    def shared_views(self) -> tuple[ViewPlan, ...]:
        """The views that one network learns together."""
        return tuple(view for view in self.views if view.method == "shared")

    def view(self, name: str) -> ViewPlan:
        """The view of this name."""
        return next(view for view in self.views if view.name == name)

    @property
    def composes(self) -> bool:
        """Whether any method is made of the views."""
        imitated = "finetune" in self.methods and self.finetune_start == "views_only"
        return imitated or any(name in OF_VIEWS for name in self.methods)
