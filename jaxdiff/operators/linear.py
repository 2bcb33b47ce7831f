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

A random family may also know its *further corruption*: an operator A~ = B A of the same family, drawn anew
whenever it is asked for, where B sets rows of A to zero. Then B y is `a.restrict(y)` with a = A~ (Ambient
Diffusion, Daras et al. 2023).
"""

from collections.abc import Callable
from functools import partial
from typing import Any

import flax.struct
import jax
import numpy as np
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
        corrupt_params: module-level function `corrupt_params(key, params, delta, in_shape, **args) ->
            params` of one example: the parameters of A~ = B A, about a share `delta` of what A sees hidden;
            or None.
        whole_params: module-level function `whole_params(params, **args) -> params` of one example: the
            parameters with which A is the identity; or None where the family has no such member.
        cover_params: module-level function `cover_params(key, count, delta, shown, in_shape, **args) -> params` with
            leading axis `count`: members as A~ = B A, stratified so that together they see every entry; or None.
        coverage_params: module-level function `coverage_params(params, in_shape, **args) -> (*in_shape)` of one
            example: what tells its member of the family from the others, 1 where it sees; or None: A^+ A 1 does.
        convolution: A commutes with periodic shifts of rows and columns and treats every channel of (H, W, C) alike
            and alone, so that the Fourier transform diagonalises it.
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
    corrupt_params: Callable[..., Any] | None = flax.struct.field(pytree_node=False, default=None)
    whole_params: Callable[..., Any] | None = flax.struct.field(pytree_node=False, default=None)
    cover_params: Callable[..., Any] | None = flax.struct.field(pytree_node=False, default=None)
    coverage_params: Callable[..., Any] | None = flax.struct.field(pytree_node=False, default=None)
    convolution: bool = flax.struct.field(pytree_node=False, default=False)

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

    def further_corrupt(self, keys: jax.Array, delta: float) -> "LinearOperator":
        """A~ = B A, B drawn from `keys` (B,): an operator of the same family that sees less.

        Args:
            keys: one typed key for each example; new ones at every training step.
            delta: expected share, in (0, 1), of what A sees that B hides.

        Raises:
            ValueError: the family has no further corruption, delta is out of range, or the operator has no
                drawn parameters yet.
        """
        if self.corrupt_params is None:
            raise ValueError(
                f"{describe(self)} has no further corruption A~ = B A: it is no family of random operators "
                "with members that see less"
            )
        if not 0.0 < delta < 1.0:
            raise ValueError(
                f"{describe(self)}: delta is the share that is hidden further, in (0, 1); got {delta}"
            )
        if not jax.tree.leaves(self.params):
            raise ValueError(
                f"{describe(self)}: further_corrupt needs its parameters: call op.draw(keys) first"
            )
        corrupt = partial(self.corrupt_params, delta=delta, in_shape=self.in_shape, **dict(self.args))
        return self.replace(params=jax.vmap(corrupt)(keys, self.params))

    def cover(self, count: int, delta: float, shown: float = 0.0, seed: int = 0) -> "LinearOperator":
        """`count` fixed members A~ of the family that together see everything as evenly as they can.

        Each is drawn as A~ = B A is in training. Families of masks with `cover_params` are stratified: every entry is
        seen by as many members as any other, up to one; others are plain draws.

        Args:
            count: how many, >= 1.
            delta: as in `further_corrupt`.
            shown: share of the entries that each member of a stratified family sees; 0: as A~ does.
            seed: of the draws.

        Raises:
            ValueError: `shown` is not in [0, 1], or given for a family that is not stratified.
        """
        if not 0.0 <= shown <= 1.0 or (shown > 0 and self.cover_params is None):
            raise ValueError(
                f"{describe(self)}: shown={shown} is a share in [0, 1], and 0 for all families but those of pixels "
                "and lines"
            )
        key = jax.random.key(seed)
        if self.cover_params is not None:
            cover = partial(
                self.cover_params, delta=delta, shown=shown, in_shape=self.in_shape, **dict(self.args)
            )
            return self.replace(params=cover(key, count))
        first, second = jax.random.split(key)
        return self.draw(jax.random.split(first, count)).further_corrupt(
            jax.random.split(second, count), delta
        )

    def whole(self, batch: int) -> "LinearOperator":
        """The member of the family that hides nothing, A = I, for a batch.

        Raises:
            ValueError: the family has no such member.
        """
        if not self.per_example and self.in_shape == self.out_shape and self.name == "identity":
            return self
        if self.whole_params is None:
            raise ValueError(f"{describe(self)} has no member that hides nothing, A = I")
        drawn = jax.eval_shape(
            lambda keys: self.draw(keys).params, jax.random.split(jax.random.key(0), batch)
        )
        zeros = jax.tree.map(lambda leaf: jax.numpy.zeros(leaf.shape, leaf.dtype), drawn)
        whole = partial(self.whole_params, **dict(self.args))
        return self.replace(params=jax.vmap(whole)(zeros))

    def reached(self, batch: int) -> jax.Array:
        """Which entries of y A can reach at all, (batch, *out_shape) bool: those whose row of A is not zero.

        A of one arbitrary positive point is not zero there, almost surely.
        """
        point = np.random.default_rng(0).uniform(0.5, 1.5, self.in_shape).astype(np.float32)
        return self(jax.numpy.broadcast_to(point, (batch, *self.in_shape))) != 0

    def restrict(self, y: jax.Array) -> jax.Array:
        """B y for an operator B A of which A's measurement y is known: y with 0 where B A has no row, (B,
        *out_shape).

        What y holds there does not matter, NaN included.
        """
        self._check(y, self.out_shape, "y")
        return jax.numpy.where(self.reached(y.shape[0]), y, jax.numpy.zeros((), y.dtype))

    def _forward_one(self, params, x):
        return self.forward(params, x, **dict(self.args))

    def _adjoint_one(self, params, y):
        x_like = jax.ShapeDtypeStruct(self.in_shape, y.dtype)
        (x,) = jax.linear_transpose(partial(self._forward_one, params), x_like)(y)
        return x

    def _least_squares_one(self, params, y):
        # Linearised first: what A makes of its parameters alone is then made once, and not in every step.
        zero = jax.numpy.zeros(self.in_shape, y.dtype)
        _, forward = jax.linearize(partial(self._forward_one, params), zero)
        transpose = jax.linear_transpose(forward, zero)

        def normal(x):
            return transpose(forward(x))[0]

        x, _ = cg(normal, transpose(y)[0], tol=PINV_TOLERANCE, maxiter=PINV_MAX_STEPS)
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
    corrupt_params: Callable[..., Any] | None = None,
    whole_params: Callable[..., Any] | None = None,
    cover_params: Callable[..., Any] | None = None,
    coverage_params: Callable[..., Any] | None = None,
    convolution: bool = False,
) -> LinearOperator:
    """The operator of a `forward`; `out_shape` is worked out by abstract evaluation (nothing is compiled).

    Args:
        name: name in the catalog.
        in_shape: shape of one example.
        forward, c, draw_params, corrupt_params, whole_params, cover_params, coverage_params, convolution: as in
            `LinearOperator`.
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
        corrupt_params=corrupt_params,
        whole_params=whole_params,
        cover_params=cover_params,
        coverage_params=coverage_params,
        convolution=convolution,
    )


def image_size(name: str, in_shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(H, W, C) of `in_shape`; raises ValueError where that is not the shape of an image."""
    if len(in_shape) != 3:
        raise ValueError(f"operator '{name}' works on images (H, W, C), got the shape {tuple(in_shape)}")
    height, width, channels = (int(size) for size in in_shape)
    return height, width, channels
