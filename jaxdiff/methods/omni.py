"""Any imperfect data, used only at the noise levels at which they cannot be told from clean data.

Noise hides damage: the laws of Y + sigma Z and X + sigma Z come together as sigma grows, whatever was done to Y.
So a source of unknown damage may train a denoiser above some sigma_min, at which a noise-conditional classifier
can no longer tell it from clean data (Daras et al. 2025, Ambient Diffusion Omni, arXiv 2506.10038); crops,
whose surroundings are missing, may train one below some sigma_max. Between its two levels an example counts as
clean: with `sigma_min` and `sigma_max` in the batch the loss is that of `tweedie` (with sigma_y = 0: of
`denoising`).

Here is the classifier, as a method of its own: p(source | x_sigma) = 1 / (1 + exp(-l(x_sigma, sigma))),

    L = E - t log p - (1 - t) log(1 - p),    t = 1 for the source, 0 for clean data, in equal numbers.
    (1)
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxdiff.diffusion.noise import NoiseDistribution, expand
from jaxdiff.diffusion.preconditioning import edm_preconditioning
from jaxdiff.methods.base import Method, raw_network
from jaxdiff.networks import init_key


def source_classifier(network: nn.Module, noise: NoiseDistribution, sigma_data: float) -> Method:
    """The classifier as a method: its `denoiser(params)` is (x, sigma) -> logits (B,), > 0 for the source.

    The batch carries `source` (B,), 0 for clean; the two classes are weighted to equal numbers.

    Args:
      network: raw F(x, c_noise, cond, train); its outputs are averaged over the image to one logit.
      noise: distribution of ln sigma.
      sigma_data: standard deviation of the data, for the scale of the input.
    """

    def logits(params, dropout_key=None):
        apply = raw_network(network, params, dropout_key)

        def classify(x, sigma):
            scale = edm_preconditioning(sigma, sigma_data)
            out = apply(expand(scale.c_in, x) * x, scale.c_noise)
            return jnp.mean(out, axis=tuple(range(1, out.ndim)))

        return classify

    def init(key, batch):
        return network.init(init_key(key), batch.y, batch.sigma_y + 1.0, None, train=False)["params"]

    def loss(params, batch, key):
        sigma_key, noise_key, dropout_key = jax.random.split(key, 3)
        sigma = noise.sample_sigma(sigma_key, batch.y.shape[0])
        x = batch.y + expand(sigma, batch.y) * jax.random.normal(noise_key, batch.y.shape, batch.y.dtype)
        label = (batch.source > 0).astype(x.dtype)
        share = jnp.mean(label)
        # Equal numbers of both, whatever the batch holds; a batch of one class alone keeps its weight.
        weight = jnp.where(label > 0, 0.5 / jnp.maximum(share, 0.5 / len(label)), 1.0)
        weight = jnp.where(label > 0, weight, 0.5 / jnp.maximum(1 - share, 0.5 / len(label)))
        guess = logits(params, dropout_key)(x, sigma)
        value = jnp.mean(weight * optax.sigmoid_binary_cross_entropy(guess, label))
        return value, {"accuracy": jnp.mean(weight * ((guess > 0) == (label > 0)))}

    return Method(init, loss, logits)


def minimum_sigma(accuracy: np.ndarray, sigmas: np.ndarray, tolerance: float = 0.05) -> float:
    """The smallest level from which on the classifier is never better than chance by more than `tolerance`.

    Args:
      accuracy: (S,) share of correct guesses at each level, both classes in equal numbers, on examples that did
        not train the classifier.
      sigmas: (S,), increasing.
      tolerance: accuracy - 1/2 that still counts as chance.

    Returns:
      A level of `sigmas`; infinity where the source can be told from clean data at all of them.

    Raises:
      ValueError: shapes differ or `sigmas` does not increase.
    """
    accuracy, sigmas = np.asarray(accuracy, np.float64), np.asarray(sigmas, np.float64)
    if accuracy.shape != sigmas.shape or sigmas.ndim != 1 or not np.all(np.diff(sigmas) > 0):
        raise ValueError(
            f"minimum_sigma: needs accuracies and increasing levels of one length, got {accuracy.shape} and {sigmas}"
        )
    told = np.flatnonzero(accuracy > 0.5 + tolerance)
    if not told.size:
        return float(sigmas[0])
    return float(sigmas[told[-1] + 1]) if told[-1] + 1 < len(sigmas) else float("inf")
