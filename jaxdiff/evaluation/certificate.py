"""The certificate: how many nats one denoiser is nearer to the truth than another, from held-out clean data.

With l_D(sigma) = E|D(X + sigma Z, sigma) - X|^2, p the true density and q_D the one whose denoiser is D,

    KL(p || q_ref) - KL(p || q_D) = 1/2 int [l_ref - l_D] sigma^-4 d(sigma^2)
                                  = int [l_ref - l_D] sigma^-2 d ln sigma;

where D is not the denoiser of any density, the right-hand side is the definition. The unknown error of the
true denoiser cancels. Over [sigma_min, sigma_max] it is the gain in KL at sigma_min less that at sigma_max.
All methods are compared on the same noise: that of image i at level j depends on (seed, i, j) alone.

Source of the identity: Verdu 2010, "Mismatched estimation and relative entropy".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

# apply(params, x, sigma): a denoiser whose parameters are passed in, not compiled in as constants.
Apply = Callable[[Any, jax.Array, jax.Array], jax.Array]
Progress = Callable[[int, int], None]


def _squared_error(denoised: jax.Array, x0: jax.Array) -> jax.Array:
    return jnp.sum(jnp.square(denoised - x0), axis=tuple(range(1, x0.ndim)))


def _squared_errors(candidates: jax.Array, x0: jax.Array) -> jax.Array:
    return jax.vmap(_squared_error, in_axes=(0, None), out_axes=1)(candidates, x0)


def _error_products(candidates: jax.Array, x0: jax.Array) -> jax.Array:
    errors = (candidates - x0).reshape(*candidates.shape[:2], -1)
    return jnp.einsum("kbd,lbd->bkl", errors, errors, precision=jax.lax.Precision.HIGHEST)


def _noise(seed, indices: jax.Array, level: jax.Array, shape: tuple[int, ...]) -> jax.Array:
    """White noise (B, *shape), a function of (seed, image index, sigma index) alone."""

    def one(index):
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(seed), index), level)
        return jax.random.normal(key, shape, jnp.float32)

    return jax.vmap(one)(indices)


def _placed(value: jax.Array, mesh: Mesh | None, axes: tuple[str, ...] = ()) -> jax.Array:
    """`value` on the devices of `mesh`: its first axis split over the mesh's `axes`, or whole on every device."""
    if mesh is None:
        return value
    spec = PartitionSpec(axes) if axes else PartitionSpec()
    return jax.lax.with_sharding_constraint(value, NamedSharding(mesh, spec))


@partial(jax.jit, static_argnames=("apply", "statistic", "with_clean", "mesh"))
def _measure(apply, statistic, params, x0, indices, level, sigma, seed, with_clean, mesh):
    if mesh is not None:
        x0, indices = (_placed(value, mesh, mesh.axis_names) for value in (x0, indices))
    x = x0 + sigma * _noise(seed, indices, level, x0.shape[1:])
    known = (x0,) if with_clean else ()
    values = statistic(apply(params, x, jnp.full(x0.shape[0], sigma, x0.dtype), *known), x0)
    return _placed(values, mesh)


def _check(
    apply, params, x0, sigmas, batch_size, leading: int, with_clean: bool
) -> tuple[np.ndarray, np.ndarray]:
    x0, sigmas = np.asarray(x0, np.float32), np.asarray(sigmas, np.float32)
    if x0.ndim < 2 or len(x0) == 0:
        raise ValueError(f"the certificate needs images (N, ...), got shape {x0.shape}")
    if sigmas.ndim != 1 or len(sigmas) == 0 or not np.all(sigmas > 0):
        raise ValueError(f"sigmas must be a list of positive noise levels, got {sigmas}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    try:
        hash(apply)
    except TypeError:
        raise ValueError(
            "apply must be a plain function apply(params, x, sigma) with its arrays in params; for a method "
            "write apply=lambda model, x, sigma: model.denoiser(x, sigma), params=model"
        ) from None
    x = jax.ShapeDtypeStruct((min(batch_size, len(x0)), *x0.shape[1:]), jnp.float32)
    sigma = jax.ShapeDtypeStruct(x.shape[:1], jnp.float32)
    shape = jax.eval_shape(apply, params, x, sigma, *((x,) if with_clean else ())).shape
    if len(shape) != leading + x0.ndim or shape[leading:] != x.shape:
        wanted = f"(K, {', '.join(map(str, x.shape))})" if leading else str(x.shape)
        raise ValueError(f"apply returns shape {shape}, expected {wanted}")
    return x0, sigmas


def _over_images_and_levels(
    statistic, apply, params, x0, sigmas, seed, batch_size, progress, leading, with_clean=False, mesh=None
):
    """statistic(apply(...), x0) for every image and level, (N, S, ...) float64; one compilation."""
    x0, sigmas = _check(apply, params, x0, sigmas, batch_size, leading, with_clean)
    devices = 1 if mesh is None else mesh.size
    batch_size = -(-min(batch_size, len(x0)) // devices) * devices
    starts = range(0, len(x0), batch_size)
    total, results = len(starts) * len(sigmas), []
    for start in starts:
        # The last batch is filled up with its last image: one shape, hence one compilation.
        indices = np.minimum(np.arange(start, start + batch_size), len(x0) - 1).astype(np.uint32)
        batch = jnp.asarray(x0[indices])
        for level, sigma in enumerate(sigmas):
            results.append(
                _measure(
                    apply, statistic, params, batch, indices, np.uint32(level), sigma, seed, with_clean, mesh
                )
            )
            if progress is not None:
                results[-1].block_until_ready()
                progress(len(results), total)
    values = np.asarray(jax.device_get(results), np.float64)
    values = values.reshape(len(starts), len(sigmas), batch_size, *values.shape[2:])
    return np.concatenate(np.moveaxis(values, 1, 2))[: len(x0)]


def denoising_errors(
    apply: Apply,
    params: Any,
    x0: np.ndarray,
    sigmas: np.ndarray,
    seed: int,
    batch_size: int = 128,
    progress: Progress | None = None,
) -> np.ndarray:
    """|D(x0 + sigma z, sigma) - x0|^2, summed over the values of an image, (N, S).

    Args:
        apply: apply(params, x, sigma) -> (B, ...); a function, not a method of an object that holds arrays.
        params: any pytree.
        x0: clean held-out images in [-1, 1], (N, ...).
        sigmas: (S,), positive.
        seed: of the noise. The same seed, images and sigmas give every method the same noise.
        batch_size: images per call of `apply`.
        progress: progress(done, total) after each call.

    Raises:
        ValueError: for bad shapes or levels, or where apply does not return the shape of x. Raised before
            compilation.
    """
    return _over_images_and_levels(
        _squared_error, apply, params, x0, sigmas, seed, batch_size, progress, leading=0
    )


def candidate_errors(
    apply, params, x0, sigmas, seed, batch_size=128, progress=None, with_clean=False, mesh=None
) -> np.ndarray:
    """`denoising_errors` of an apply that returns K denoised arrays at once, (K, B, ...): (K, N, S).

    With `with_clean` it is apply(params, x, sigma, x0): for denoisers that are given a view of x0 itself. With `mesh`
    every batch is split over its devices (of all processes, each of which gets all errors).
    """
    errors = _over_images_and_levels(
        _squared_errors,
        apply,
        params,
        x0,
        sigmas,
        seed,
        batch_size,
        progress,
        leading=1,
        with_clean=with_clean,
        mesh=mesh,
    )
    return np.moveaxis(errors, -1, 0)


def candidate_gram(apply, params, x0, sigmas, seed, batch_size=128, progress=None) -> np.ndarray:
    """Gram matrices of the candidates' errors, G_s[k, l] = mean <D_k - x0, D_l - x0>, (S, K, K).

    The error of a convex combination with weights w is w^T G_s w: what stacking minimizes. Arguments as in
    `candidate_errors`.
    """
    products = _over_images_and_levels(
        _error_products, apply, params, x0, sigmas, seed, batch_size, progress, leading=1
    )
    return products.mean(axis=0)


def band_contributions(errors_ref: np.ndarray, errors: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """What each image and noise band adds to the certificate, in nats, (N, S): trapezoid rule in ln sigma.

    Args:
        errors_ref, errors: (N, S), from `denoising_errors` with the same images, sigmas and seed.
        sigmas: (S,), increasing, S >= 2.

    Raises:
        ValueError: if the shapes differ or `sigmas` does not increase.
    """
    errors_ref, errors, sigmas = (np.asarray(v, np.float64) for v in (errors_ref, errors, sigmas))
    if errors.shape != errors_ref.shape or errors.ndim != 2 or errors.shape[1:] != sigmas.shape:
        raise ValueError(
            f"errors must be (N, S), got {errors_ref.shape} and {errors.shape} for {len(sigmas)} sigmas"
        )
    steps = np.diff(np.log(sigmas))
    if len(steps) == 0 or not np.all(steps > 0):
        raise ValueError(f"the certificate needs at least two increasing sigmas, got {sigmas}")
    widths = (np.append(steps, 0.0) + np.insert(steps, 0, 0.0)) / 2
    return (errors_ref - errors) / sigmas**2 * widths


def nats(errors_ref: np.ndarray, errors: np.ndarray, sigmas: np.ndarray) -> np.ndarray:
    """Per-image certificate (N,): its mean estimates by how many nats the method is nearer to the truth.

    Arguments as in `band_contributions`, of which this is the sum over bands.
    """
    return band_contributions(errors_ref, errors, sigmas).sum(axis=1)
