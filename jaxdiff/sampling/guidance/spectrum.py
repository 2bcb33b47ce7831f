"""The singular value decomposition A = U diag(s) V^T of an operator, as far as a method in its coordinates needs it.

Where A A^T = c Pi there are two singular values, sqrt(c) and 0, and no matrix is needed: the coordinates of x are the
pair (P x, x - P x), P = A^+ A. A periodic convolution with the kernel k is diagonal in Fourier space: s = |F k| at
each frequency, with the Hartley transform as real coordinates, for images of any size. Otherwise A is written down as a
dense matrix and decomposed, which is for small examples.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxdiff.operators import LinearOperator, describe

MAX_NUMBERS = 4096**2  # of the dense matrices of a batch together
LEAST = 1e-4  # singular values below this share of the largest are float32 rounding, and taken as 0


class Spectrum(NamedTuple):
    """The coordinates of an operator; arrays that broadcast against (B, *in_shape).

    Attributes:
        singular: s, the singular value of each coordinate, 0 where A does not see it.
        to: x (B, *in_shape) -> coordinates V^T x, (..., B, *in_shape).
        back: coordinates -> x; back(to(x)) = x.
        view: y (B, *out_shape) -> coordinates of A^+ y, (U^T y) / s, 0 where s = 0.
    """

    singular: jax.Array
    to: Callable[[jax.Array], jax.Array]
    back: Callable[[jax.Array], jax.Array]
    view: Callable[[jax.Array], jax.Array]


def spectrum(operator: LinearOperator, batch: int) -> Spectrum:
    """The decomposition of an operator with its parameters drawn.

    Raises:
        ValueError: A is neither of the first two, and the dense matrices of the batch are too large.
    """
    if operator.c is not None:
        return _of_isometry(operator)
    return _of_convolution(operator) if operator.convolution else _of_matrix(operator, batch)


def _of_isometry(operator):
    def to(x):
        seen = operator.pinv(operator(x))
        return jnp.stack([seen, x - seen])

    def view(y):
        known = operator.pinv(y)
        return jnp.stack([known, jnp.zeros_like(known)])

    singular = jnp.array([operator.c**0.5, 0.0]).reshape(2, *[1] * (1 + len(operator.in_shape)))
    return Spectrum(singular, to, lambda pair: pair[0] + pair[1], view)


def _of_convolution(operator):
    """A^T A is the convolution with an even kernel, whatever A's: the Hartley transform, real, orthonormal and its own
    inverse, diagonalises it with the eigenvalues |F k|^2."""
    height, width, channels = operator.in_shape
    impulse = jnp.zeros((1, height, width, channels)).at[:, 0, 0].set(1.0)
    response = jnp.fft.fft2(
        operator(impulse)[0, ..., :1], axes=(0, 1)
    )  # F k, (H, W, 1): the channels are alike
    size = jnp.abs(response)
    kept = size > LEAST * size.max()
    inverse = jnp.where(kept, 1.0 / jnp.where(kept, response, 1.0), 0.0)

    def fourier(x):
        return jnp.fft.fft2(x, axes=(1, 2), norm="ortho")

    def to(x):
        found = fourier(x)
        return found.real - found.imag

    def view(y):
        found = inverse * fourier(y)  # F A^+ y
        return found.real - found.imag

    return Spectrum(jnp.where(kept, size, 0.0)[None], to, to, view)


def _of_matrix(operator, batch):
    matrix = dense_matrix(operator, batch)
    m, d = matrix.shape[1:]
    left, values, right = jnp.linalg.svd(jnp.swapaxes(matrix, 1, 2), full_matrices=True)
    # A^T = left diag(values) right: V = left (d, d), U^T = right (m, m).
    rank = min(m, d)
    kept = values > LEAST * values[:, :1]
    values = jnp.where(kept, values, 0.0)
    singular = jnp.pad(values, ((0, 0), (0, d - rank)))
    inverse = jnp.where(kept, 1.0 / jnp.where(kept, values, 1.0), 0.0)

    def each(matrices, vectors):  # one matrix for each example, or one for all
        return jnp.einsum(
            "bij,bj->bi",
            jnp.broadcast_to(matrices, (len(vectors), *matrices.shape[1:])),
            vectors,
            precision="highest",
        )

    def to(x):
        return each(jnp.swapaxes(left, 1, 2), x.reshape(len(x), d)).reshape(x.shape)

    def back(coordinates):
        return each(left, coordinates.reshape(len(coordinates), d)).reshape(coordinates.shape)

    def view(y):
        known = inverse * each(right, y.reshape(len(y), m))[:, :rank]
        return jnp.pad(known, ((0, 0), (0, d - rank))).reshape(len(y), *operator.in_shape)

    return Spectrum(singular.reshape(-1, *operator.in_shape), to, back, view)


def dense_matrix(operator: LinearOperator, batch: int) -> jax.Array:
    """A as matrices, (1, m, d), or (batch, m, d) where each example has its own.

    Raises:
        ValueError: they hold more than MAX_NUMBERS numbers.
    """
    d, m = (
        jax.tree.reduce(lambda a, b: a * b, shape, 1) for shape in (operator.in_shape, operator.out_shape)
    )
    count = batch if operator.per_example else 1
    if count * max(m, d) * d > MAX_NUMBERS:
        raise ValueError(
            f"{describe(operator)}: A A^T is not c I, nor is A a periodic convolution, and its singular value "
            f"decomposition needs {count} dense matrices of {max(m, d)} x {d} numbers, above {MAX_NUMBERS} in all. "
            f"Use mmps, pigdm, dps or diffpir{', or a smaller batch' if count > 1 else ''}"
        )
    basis = jnp.eye(d).reshape(d, *operator.in_shape)
    if not operator.per_example:
        return operator(basis).reshape(1, d, m).swapaxes(1, 2)
    columns = jax.lax.map(lambda e: operator(jnp.broadcast_to(e, (batch, *e.shape))), basis)
    return columns.reshape(d, batch, m).transpose(1, 2, 0)
