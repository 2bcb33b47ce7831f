"""One network for all views and for whole images, with the view as its condition.

Let P_i = A_i^+ A_i be the projector of view i, P_0 = I that of a clean image. The network is shown P_i x_sigma,
lifted to image space, beside the coverage m_i, and is asked for what the view shows:

    L = E lambda(s) || Q (D(Q x_sigma, s, m) - x) ||^2 / |m > 0|,    Q = P_i or part of it, s = sigma sqrt(rate)
    (1)

so that its minimiser is E[Q X | Q x_sigma] for each Q: the denoiser of every view, and at m = 1 that of whole
images. Few clean examples teach the last one; what they have in common with the views, the views teach. m is
`rate` on the pixels that Q reaches and 0 elsewhere, rate = rank Q / (pixels it reaches): 1 for crops, masks and
whole images, c for averages. A lifted view has noise sigma sqrt(rate) in each pixel that it reaches.

*Completed images.* A measurement of view i whose hidden part was drawn given what is seen is shown whole, m =
1, but only what was measured is asked for: Q x_sigma = x_sigma in (1), P_i (D - x) in the loss. What was drawn
is a setting for the network, never its target, so that it does not learn its own errors.

*Boxes.* Where A_i shows pixels (rate = 1) a smaller view shows fewer: with probability `boxes`, Q is P_i and a
random rectangle, drawn anew at every step. Borders of what is seen then lie everywhere, and not only where the
views end, so that the network learns what a pixel is worth that is not shown; and there is no end of views of
the clean examples. On the digits both this and a small share of clean examples keep the network from learning
those by heart.

One network with the mask as its condition is Ambient Diffusion's (Daras et al. 2023, arXiv 2305.19256), which
hides more than was measured to learn what is nowhere seen; here the clean examples say it. Source of (1) for
views: docs/design.md.
"""

from collections.abc import Sequence
from typing import NamedTuple

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.diffusion.noise import NoiseDistribution, edm_weight, expand
from jaxdiff.diffusion.preconditioning import precondition
from jaxdiff.methods.base import Denoiser, Method, Params, raw_network
from jaxdiff.methods.matching import asked
from jaxdiff.networks import init_key
from jaxdiff.operators import LinearOperator, build, describe


class Kind(NamedTuple):
    """A view as the network knows it.

    Attributes:
      operator: A, with A A^T = c I and no parameters of its own for each example.
      coverage: m, (H, W, C) float32: `rate` on the pixels that A reaches, 0 elsewhere.
      rate: rank A / pixels reached, in (0, 1].
      asked: the kind of what the loss asks for; None for all that is shown.
    """

    operator: LinearOperator
    coverage: np.ndarray
    rate: float
    asked: "Kind | None" = None


def kind_of(operator: LinearOperator) -> Kind:
    """What the network is told of an operator.

    Raises:
      ValueError: A A^T is not c I, or A is drawn for each example.
    """
    if operator.c is None or operator.per_example:
        raise ValueError(
            f"shared: {describe(operator)} is not a fixed operator with A A^T = c I; one network for all views knows "
            "such views only"
        )
    # Also where this is asked for while something else is being traced.
    with jax.ensure_compile_time_eval():
        probes = jax.random.normal(jax.random.key(0), (4, *operator.in_shape))
        signs = jax.random.rademacher(jax.random.key(0), (1, *operator.out_shape), jnp.float32)
        reached = np.abs(np.asarray(operator.pinv(operator(probes)))).max(axis=0) > 1e-6
        rate = float(jnp.sum(signs * operator.project(signs))) / max(int(reached.sum()), 1)
    return Kind(operator, (rate * reached).astype(np.float32), rate)


def clean_odds(weight: float, clean: int, measured: int) -> float:
    """Of a clean example against a measurement, in the batches: `weight` times their share of all measured values.

    Args:
      weight: how much oftener a value of a clean example is shown than one of a measurement.
      clean: values of all clean examples together.
      measured: values of all measurements together, the rank of the operator for each.
    """
    return weight * clean / measured


def completed_kind(measured: Kind) -> Kind:
    """Whole images of which only what `measured` shows was measured."""
    shape = measured.operator.in_shape
    return Kind(build("identity", shape), np.ones(shape, np.float32), 1.0, measured)


def matched_kind(part: np.ndarray, ask_border: bool) -> Kind:
    """Whole images put together from measurements of a `part`, (H, W, C), and of the rest (matching.py).

    Args:
      part: 1 where the first of the two views shows a pixel, 0 where the second does.
      ask_border: whether the pixels at the border of the parts are asked for.

    Raises:
      ValueError: without the border nothing is left.
    """
    pixels = np.ones(part.shape, bool) if ask_border else asked(part)
    return completed_kind(kind_of(build("mask", part.shape, mask=pixels)))


def random_boxes(key: jax.Array, count: int, shape: tuple[int, ...], least_side: int) -> jax.Array:
    """Random rectangles as masks, (count, H, W, 1): height and width uniform from `least_side` up, inside the image."""

    def spans(key, side):
        low = min(least_side, side)
        length_key, start_key = jax.random.split(key)
        length = jax.random.randint(length_key, (count, 1), low, side + 1)
        start = jnp.floor(jax.random.uniform(start_key, (count, 1)) * (side - length + 1))
        at = jnp.arange(side)
        return (at >= start) & (at < start + length)

    rows_key, columns_key = jax.random.split(key)
    rows, columns = spans(rows_key, shape[0]), spans(columns_key, shape[1])
    return (rows[:, :, None] & columns[:, None, :])[..., None].astype(jnp.float32)


def conditioned(network: nn.Module, sigma_data: float, params: Params, dropout_key: jax.Array | None = None):
    """D(u, s, m), preconditioned as EDM: lifted noisy view u and coverage m (B, H, W, C), noise of a pixel s (B,)."""
    denoise = precondition(raw_network(network, params, dropout_key), sigma_data)
    return lambda u, s, coverage: denoise(u, s, {"image": coverage})


def shared(
    network: nn.Module,
    noise: NoiseDistribution,
    sigma_data: float,
    kinds: Sequence[Kind],
    boxes: float = 0.0,
    least_side: int = 4,
) -> Method:
    """The method `shared`; `denoiser(params)` is that of whole images, `view_denoiser` has the views'.

    Batches hold lifted measurements A^+ y (B, H, W, C), with `source` the number of their kind.

    Args:
      network: raw F(x, c_noise, cond, train) with cond = {'image': coverage}.
      noise: distribution of ln sigma, in image space.
      sigma_data: standard deviation of the clean data.
      kinds: the views, by source number; a clean example is of a kind whose operator is the identity.
      boxes: probability of a random rectangle, in [0, 1].
      least_side: of such a rectangle, in pixels; of the whole image where that is smaller.

    Raises:
      ValueError: no kinds, `boxes` is not in [0, 1], or `least_side` is below 1.
    """
    if not kinds:
        raise ValueError("shared: no kinds of views")
    if not 0.0 <= boxes <= 1.0:
        raise ValueError(f"shared: boxes is a probability, in [0, 1]; got {boxes}")
    if least_side < 1:
        raise ValueError(f"shared: least_side is a number of pixels, at least 1; got {least_side}")
    coverages = jnp.asarray(np.stack([kind.coverage for kind in kinds]))
    rates = jnp.asarray([kind.rate for kind in kinds], jnp.float32)
    targets = [kind.asked or kind for kind in kinds]
    reached = jnp.asarray(np.stack([target.coverage > 0 for target in targets]))
    boxed = jnp.asarray([kind.rate > 0.999 and kind.asked is None for kind in kinds])

    def projected(values, source, of=kinds):
        """P_i of each example's own kind."""
        every = [kind.operator.pinv(kind.operator(values)) for kind in of]
        return sum(
            jnp.where(expand(source == number, values), value, 0.0) for number, value in enumerate(every)
        )

    def init(key, batch):
        sigma = noise.sample_sigma(key, batch.y.shape[0])
        image = {"image": jnp.zeros_like(batch.y)}
        return network.init(init_key(key), batch.y, sigma, image, train=False)["params"]

    def shown(key, source):
        """Coverage and the rectangle within it, (B, H, W, C) each."""
        coverage, count = coverages[source], source.shape[0]
        use_key, box_key = jax.random.split(key)
        box = jnp.broadcast_to(random_boxes(box_key, count, coverage.shape[1:], least_side), coverage.shape)
        use = (jax.random.uniform(use_key, (count,)) < boxes) & boxed[source]
        # A rectangle that shows nothing of the view would be an example without content.
        use &= jnp.sum(coverage * box, axis=(1, 2, 3)) > 0
        box = jnp.where(expand(use, box), box, 1.0)
        return coverage * box, box

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key, box_key = jax.random.split(key, 4)
        x, source = batch.y, batch.source
        sigma = noise.sample_sigma(sigma_key, x.shape[0])
        level = sigma * jnp.sqrt(rates[source])
        coverage, box = shown(box_key, source) if boxes > 0 else (coverages[source], jnp.float32(1.0))
        white = jax.random.normal(noise_key, x.shape, x.dtype)
        noisy = box * (x + expand(sigma, x) * projected(white, source))
        denoised = conditioned(network, sigma_data, params, dropout_key)(noisy, level, coverage)
        error = box * projected(denoised - x, source, targets)
        asked = jnp.maximum(jnp.sum(reached[source] & (box > 0), axis=(1, 2, 3)), 1)
        squares = jnp.sum(jnp.square(error), axis=(1, 2, 3)) / asked
        return (edm_weight(level, sigma_data) * squares).mean(), {}

    def denoiser(params):
        denoise = conditioned(network, sigma_data, params)
        return lambda x, sigma: denoise(x, sigma, jnp.ones_like(x))

    return Method(init, loss, denoiser)


def view_denoiser(network: nn.Module, sigma_data: float, params: Params, kind: Kind) -> Denoiser:
    """The denoiser of a view in the view's own space: (v, s) -> A D(A^+ v, s sqrt(rate / c), m).

    Noise s in the view is sigma = s / sqrt(c) in the image, of which a lifted pixel has sigma sqrt(rate).
    """
    denoise, operator = conditioned(network, sigma_data, params), kind.operator
    shift = (kind.rate / operator.c) ** 0.5

    def in_view(v, s):
        lifted = operator.pinv(v)
        coverage = jnp.broadcast_to(jnp.asarray(kind.coverage), lifted.shape)
        return operator(denoise(lifted, s * shift, coverage))

    return in_view
