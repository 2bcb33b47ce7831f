"""Convolution of stride 1 whose gradient stays fast inside `jax.lax.scan` on the CPU.

XLA's CPU compiler brings convolutions into the form that its fast kernels need (dimensions b01f, 01io ->
b01f) in the outermost computation only. The two gradients of a convolution, as JAX writes them, are not in
that form, and inside the body of a loop they run 30 times (gradient of the image) and 130 times (of the
kernel) slower: measured at 8 x 8 pixels, 32 channels, batch 128; see docs/networks.md. Here both gradients
are written in that form from the start:

    y = x * w                    padding p on both sides, kernel k
    gradient of x: g * flip(w)^T padding k - 1 - p
    gradient of w: x^T * g^T     padding p, the batch summed in the place of the channels

The sum of the gradient of w runs over B H W products, and where these are many more than fit into a core's cache
its form is slow too (38 GFLOP/s a core at 16 images of 32 x 32 pixels and 64 channels, forward 140). So it is taken
over a few images at a time, `chunk_size`, in a loop: 109 GFLOP/s there.

On other devices the gradient of the kernel is JAX's own, which their libraries recognize.
"""

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp

DIMENSIONS = ("NHWC", "HWIO", "NHWC")
SMALL = 2
PIXELS_AT_A_TIME = (
    4096  # of the gradient of the kernel; 2,048 to 4,096 were equally fast, 16,384 three times slower
)


def plain_convolve(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """The convolution with JAX's own derivatives, forward mode (`jax.jvp`) among them."""
    both_sides = [(padding[0], padding[0]), (padding[1], padding[1])]
    return jax.lax.conv_general_dilated(x, kernel, (1, 1), both_sides, dimension_numbers=DIMENSIONS)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def convolve(x: jax.Array, kernel: jax.Array, padding: tuple[int, int]) -> jax.Array:
    """The convolution with the gradients of the module's docstring; reverse mode of any order.

    Args:
        x: (B, H, W, I).
        kernel: (h, w, I, O).
        padding: zeros on both sides of the rows and of the columns.

    Returns:
        (B, H + 2 padding[0] - h + 1, W + 2 padding[1] - w + 1, O).
    """
    return plain_convolve(x, kernel, padding)


def _forward(x, kernel, padding):
    return convolve(x, kernel, padding), (x, kernel)


def _backward(padding, residuals, g):
    x, kernel = residuals
    rows, columns = kernel.shape[0] - 1 - padding[0], kernel.shape[1] - 1 - padding[1]
    grad_x = convolve(g, jnp.flip(kernel, (0, 1)).swapaxes(2, 3), (rows, columns))
    grad_kernel = jax.lax.platform_dependent(
        x,
        g,
        cpu=partial(_kernel_gradient, padding=padding),
        default=partial(_plain_kernel_gradient, like=kernel, padding=padding),
    )
    return grad_x, grad_kernel


convolve.defvjp(_forward, _backward)


def chunk_size(batch: int, pixels: int) -> int:
    """How many images of `pixels` at a time: the divisor of `batch` nearest, by ratio, to PIXELS_AT_A_TIME pixels."""
    divisors = (n for n in range(1, batch + 1) if batch % n == 0)
    return min(divisors, key=lambda n: abs(math.log(n * pixels / PIXELS_AT_A_TIME)))


def _kernel_gradient(x, g, padding):
    size = chunk_size(len(x), max(x.shape[1] * x.shape[2], 1))
    chunks = len(x) // size

    def of_chunk(x, g):
        return convolve(x.transpose(3, 1, 2, 0), g.transpose(1, 2, 0, 3), padding)

    if chunks == 1:
        return of_chunk(x, g).transpose(1, 2, 0, 3)
    # Chunk k has the images k, k + chunks, ...: a batch that is split over devices stays where it is.
    x, g = (v.reshape(size, chunks, *v.shape[1:]) for v in (x, g))

    def add(total, k):
        chunk = (jax.lax.dynamic_index_in_dim(v, k, 1, keepdims=False) for v in (x, g))
        return total + of_chunk(*chunk), None

    shape = jax.eval_shape(of_chunk, x[:, 0], g[:, 0])
    total, _ = jax.lax.scan(add, jnp.zeros(shape.shape, shape.dtype), jnp.arange(chunks))
    return total.transpose(1, 2, 0, 3)


def _plain_kernel_gradient(x, g, like, padding):
    like = jax.ShapeDtypeStruct(like.shape, like.dtype)
    (grad_kernel,) = jax.linear_transpose(lambda kernel: plain_convolve(x, kernel, padding), like)(g)
    return grad_kernel


def convolve_small(x: jax.Array, kernel: jax.Array) -> jax.Array:
    """The 3 x 3 convolution with a border of zeros, as one product of matrices: each pixel's neighborhood,
    flat.

    For images of 1 or 2 pixels a side, where the CPU's convolution is 6 to 20 times slower than this.
    """
    height, width = x.shape[1:3]
    padded = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    shifted = [padded[:, i : i + height, j : j + width] for i in range(3) for j in range(3)]
    return jnp.concatenate(shifted, axis=-1) @ kernel.reshape(-1, kernel.shape[-1])


class Conv(nn.Module):
    """3 x 3 convolution with bias, zeros around the image: (B, H, W, I) -> (B, H, W, channels).

    Attributes:
        channels: channels of the output.
        dtype: dtype of the computation; the parameters are float32.
        zero: the kernel starts at 0.
        init_kernel: how the kernel starts where it does not start at 0; None: LeCun's normal law.
        forward_mode: use JAX's own derivatives, so that `jax.jvp` works.
    """

    channels: int
    dtype: jnp.dtype = jnp.float32
    zero: bool = False
    forward_mode: bool = False
    init_kernel: nn.initializers.Initializer | None = None

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        init = nn.initializers.zeros if self.zero else self.init_kernel or nn.initializers.lecun_normal()
        kernel = self.param("kernel", init, (3, 3, x.shape[-1], self.channels))
        bias = self.param("bias", nn.initializers.zeros, (self.channels,))
        x, kernel = x.astype(self.dtype), kernel.astype(self.dtype)
        if min(x.shape[1:3]) <= SMALL:
            y = convolve_small(x, kernel)
        else:
            y = (plain_convolve if self.forward_mode else convolve)(x, kernel, (1, 1))
        return y + bias.astype(self.dtype)
