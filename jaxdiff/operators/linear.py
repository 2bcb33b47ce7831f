"""Linear operators A from image space to view space.

An operator knows four maps, all of them batched over the leading axis:

    op(x)          A x
    op.adjoint(y)  A^T y             from `jax.linear_transpose`, so it cannot disagree with A
    op.pinv(y)     A^+ y             Moore-Penrose
    op.project(y)  A A^+ y           orthogonal projection on range(A)

and the constant `c` with A A^T = c Pi, Pi the orthogonal projector on range(A), where such a constant exists
(`c = None` where it does not). Then A^+ = A^T / c, and noise sigma Z seen through A is sigma sqrt(c) times
white noise on range(A): a denoiser learnt in the view is queried at sigma sqrt(c). A zero-filled mask
A = diag(m) has c = 1.

What is fixed about an operator is static (it is hashed, so two operators built alike share one compiled
program). What is drawn for each example (a random mask) is a pytree leaf with a batch axis, in `params`.
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
from jax.scipy.sparse.linalg import cg

PINV_TOLERANCE = 1e-6
PINV_MAX_STEPS = 500


@flax.struct.dataclass
class LinearOperator:
    """A linear map x -> A x, a pytree whose leaves are `params`; see the module's docstring.

    Attributes:
        params: pytree; `{}` when there are none. Leaves have a leading batch axis when `per_example`.
        name: name in the catalog.
        forward: module-level function `forward(params, x, **args)` of one example, x of shape `in_shape`,
            linear in x.
        args: the keyword arguments of `forward` as a tuple of (name, hashable value).
        in_shape, out_shape: shapes of one example, without the batch axis.
        c: A A^T = c Pi, or None where A A^T is not a multiple of a projector.
        per_example: each example has its own parameters (drawn by `draw`, or read with the measurement).
        draw_params: module-level function `draw_params(key, in_shape, **args) -> params` of one example, or
            None.
    """

    params: Any
    name: str = flax.struct.field(pytree_node=False)
    forward: Callable[..., jax.Array] = flax.struct.field(pytree_node=False)
    args: tuple[tuple[str, Any], ...] = flax.struct.field(pytree_node=False)
    in_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    out_shape: tuple[int, ...] = flax.struct.field(pytree_node=False)
    c: float | None = flax.struct.field(pytree_node=False, default=None)
    per_example: bool = flax.struct.field(pytree_node=False, default=False)
    draw_params: Callable[..., Any] | None = flax.struct.field(pytree_node=False, default=None)

    def __call__(self, x: jax.Array) -> jax.Array:
        """A x for x of shape (B, *in_shape); returns (B, *out_shape)."""
        self._check(x, self.in_shape, "x")
        return self._map(self._forward_one, x)

    def adjoint(self, y: jax.Array) -> jax.Array:
        """A^T y for y of shape (B, *out_shape); returns (B, *in_shape)."""
        self._check(y, self.out_shape, "y")
        return self._map(self._adjoint_one, y)

    def pinv(self, y: jax.Array) -> jax.Array:
        """A^+ y for y of shape (B, *out_shape); returns (B, *in_shape), the shortest least-squares solution.

        A^T y / c where c is known. Otherwise conjugate gradients, example by example, on A^T A x = A^T y
        from x = 0: the iterates stay in range(A^T), so that the limit is the solution of least norm, also
        for y outside range(A). At most `PINV_MAX_STEPS` steps, relative tolerance `PINV_TOLERANCE` on the
        residual of the normal equations: the components whose singular value is below about 1e-3 of the
        largest are not recovered.
        """
        self._check(y, self.out_shape, "y")
        if self.c is not None:
            return self._map(self._adjoint_one, y) / self.c
        return self._map(self._least_squares_one, y)

    def project(self, y: jax.Array) -> jax.Array:
        """A A^+ y for y of shape (B, *out_shape): the part of y that A can produce."""
        return self(self.pinv(y))

    def draw(self, keys: jax.Array) -> "LinearOperator":
        """The operator with parameters drawn from `keys`, (B,) typed keys, one for each example.

        An operator without random parameters is returned as it is.
        """
        if self.draw_params is None:
            return self
        draw_one = partial(self.draw_params, in_shape=self.in_shape, **dict(self.args))
        return self.replace(params=jax.vmap(draw_one)(keys))

    def with_params(self, params: Any) -> "LinearOperator":
        """The operator with the parameters that came with a measurement; None where it has none."""
        if not self.per_example:
            return self
        if params is None:
            raise ValueError(
                f"{describe(self)} needs the parameters of each example, and the measurement has none"
            )
        return self.replace(params=params)

    def _forward_one(self, params, x):
        return self.forward(params, x, **dict(self.args))

    def _adjoint_one(self, params, y):
        x_like = jax.ShapeDtypeStruct(self.in_shape, y.dtype)
        (x,) = jax.linear_transpose(partial(self._forward_one, params), x_like)(y)
        return x

    def _least_squares_one(self, params, y):
        def normal(x):
            return self._adjoint_one(params, self._forward_one(params, x))

        x, _ = cg(normal, self._adjoint_one(params, y), tol=PINV_TOLERANCE, maxiter=PINV_MAX_STEPS)
        return x

    def _map(self, function, batch):
        return jax.vmap(function, in_axes=(0 if self.per_example else None, 0))(
            self.params, jax.numpy.asarray(batch)
        )

    def _check(self, batch, shape, symbol):
        if batch.shape[1:] != shape:
            wanted = ", ".join(["B", *map(str, shape)])
            raise ValueError(
                f"{describe(self)}: {symbol} must have shape ({wanted}), got {tuple(batch.shape)}"
            )
        if not self.per_example:
            return
        sizes = {leaf.shape[0] for leaf in jax.tree.leaves(self.params)}
        if not sizes:
            raise ValueError(
                f"{describe(self)} has its own parameters for each example: call op.draw(keys) first"
            )
        if sizes != {batch.shape[0]}:
            raise ValueError(
                f"{describe(self)} holds parameters for {sorted(sizes)} examples, got {batch.shape[0]}"
            )


def describe(op: LinearOperator) -> str:
    """The operator as a person would write it: `avg_pool(factor=2)`; arguments that are None are left out."""
    return f"{op.name}({', '.join(f'{key}={value}' for key, value in op.args if value is not None)})"


def make(
    name: str,
    in_shape: tuple[int, ...],
    forward: Callable[..., jax.Array],
    args: dict[str, Any],
    c: float | None = None,
    draw_params: Callable[..., Any] | None = None,
) -> LinearOperator:
    """The operator of a `forward`; `out_shape` is worked out by abstract evaluation (nothing is compiled).

    Args:
        name: name in the catalog.
        in_shape: shape of one example.
        forward, c, draw_params: as in `LinearOperator`.
        args: keyword arguments of `forward` and of `draw_params`; the values must be hashable.
    """
    in_shape = tuple(int(size) for size in in_shape)
    params: Any = {}
    if draw_params is not None:
        params = jax.eval_shape(partial(draw_params, in_shape=in_shape, **args), jax.random.key(0))
    x_like = jax.ShapeDtypeStruct(in_shape, jax.numpy.float32)
    out_shape = jax.eval_shape(partial(forward, **args), params, x_like).shape
    return LinearOperator(
        params={},
        name=name,
        forward=forward,
        args=tuple(args.items()),
        in_shape=in_shape,
        out_shape=out_shape,
        c=c,
        per_example=draw_params is not None,
        draw_params=draw_params,
    )


def image_size(name: str, in_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of `in_shape`; raises ValueError where that is not the shape of an image."""
    if len(in_shape) != 3:
        raise ValueError(f"operator '{name}' works on images (H, W, C), got the shape {tuple(in_shape)}")
    height, width, channels = (int(size) for size in in_shape)
    return height, width, channels
