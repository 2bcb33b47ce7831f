"""Magnetic resonance: lines of the centred orthonormal Fourier transform, seen by one coil or by several.

A complex image is its real and imaginary part, two channels (H, W, 2). With F the orthonormal transform, zero frequency
in the middle, M the mask of the lines that were measured and S_c the sensitivity map of coil c,

    fourier            y   = M F x               (H, W, 2)           A A^T = M, c = 1
    multicoil_fourier  y_c = M F (S_c x)         (coils, H, W, 2)    c = None

As maps of real numbers: A^T is A^H. Coil maps are scaled to sum_c |S_c|^2 = 1 (or 0, outside of the object), so that
|A| <= 1, and A^T A = I on the object when every line is measured.

The lines run along the readout, which is whole; at acceleration R, floor(lines / R) of them are measured, the central
ones always and the others at random. Further corruption with delta = 1 / (R + 1) leaves as many random lines as
acceleration R + 1 has, and all of the centre (Aali et al. 2024, arXiv 2403.08728: 54, 16, 8 and 5 of 320 lines are
dropped at R = 2, 4, 6 and 8).
"""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from jaxdiff.operators.linear import LinearOperator, image_size, make
from jaxdiff.operators.random_masks import AXES

CENTER = 1 / 16  # share of the lines that is always measured: 20 of 320
MAPS = ("drawn", "fixed")


def fourier(
    in_shape: tuple[int, ...], acceleration: float = 1.0, center: float = CENTER, axis: str = "columns"
) -> LinearOperator:
    """k-space of one coil: (H, W, 2) -> (H, W, 2), zeros where it was not measured; c = 1.

    params = {"lines": (W,) bool}, drawn for each example ((H,) for axis 'rows').

    Args:
        in_shape: (H, W, 2), real and imaginary part.
        acceleration: R >= 1; floor(lines / R) lines are measured.
        center: number of central lines that are always measured, or their share of all lines, in [0, 1).
        axis: what is measured or left out: 'columns' or 'rows'.

    Raises:
        ValueError: not two channels, an unknown axis, R below 1 or so large that not even the centre is measured.
    """
    args = _checked("fourier", in_shape, acceleration, center, axis)
    return make(
        "fourier",
        in_shape,
        _fourier,
        args,
        c=1.0,
        draw_params=_draw_lines,
        corrupt_params=_drop_lines,
        cover_params=_cover_lines,
        coverage_params=_coverage,
    )


def multicoil_fourier(
    in_shape: tuple[int, ...],
    acceleration: float = 1.0,
    coils: int = 4,
    maps: str = "drawn",
    seed: int = 0,
    center: float = CENTER,
    axis: str = "columns",
) -> LinearOperator:
    """k-space of several coils: (H, W, 2) -> (coils, H, W, 2), zeros where it was not measured; c = None.

    params = {"lines": (W,) bool, "maps": (coils, H, W, 2)}; without "maps" where these are fixed. Maps that are drawn
    are simulated (`simulated_maps`); measured ones come with the measurement, in their place.

    Args:
        in_shape, acceleration, center, axis: as in `fourier`.
        coils: how many.
        maps: 'drawn': each example has its own; 'fixed': all have the simulated ones of `seed`.
        seed: of the fixed maps.

    Raises:
        ValueError: as `fourier`; no coils, or an unknown kind of maps.
    """
    args = _checked("multicoil_fourier", in_shape, acceleration, center, axis)
    if isinstance(coils, bool) or not isinstance(coils, int) or coils < 1:
        raise ValueError(
            f"multicoil_fourier: coils={coils!r} is a number of coils, 1 or more; nearest valid: "
            f"{max(1, round(coils))}"
        )
    if maps not in MAPS:
        raise ValueError(f"multicoil_fourier: maps is one of {', '.join(MAPS)}; got '{maps}'")
    return make(
        "multicoil_fourier",
        in_shape,
        _multicoil_fourier,
        {**args, "coils": coils, "maps": maps, "seed": int(seed)},
        draw_params=_draw_lines,
        corrupt_params=_drop_lines,
        cover_params=_cover_lines,
        coverage_params=_coverage,
    )


def to_complex(x: jax.Array) -> jax.Array:
    """(..., 2) real and imaginary part -> (...) complex."""
    return jax.lax.complex(x[..., 0], x[..., 1])


def to_channels(z: jax.Array) -> jax.Array:
    """(...) complex -> (..., 2) real and imaginary part."""
    return jnp.stack([z.real, z.imag], axis=-1)


def centred_fft(z: jax.Array) -> jax.Array:
    """Orthonormal two-dimensional transform of the last two axes, position and frequency 0 in the middle."""
    axes = (-2, -1)
    return jnp.fft.fftshift(jnp.fft.fft2(jnp.fft.ifftshift(z, axes=axes), norm="ortho"), axes=axes)


# Compiled here, so that calls outside of `jax.jit` are not many small programs.
@partial(jax.jit, static_argnums=(1, 2))
def simulated_maps(key: jax.Array, shape: tuple[int, int], coils: int) -> jax.Array:
    """Sensitivity maps of coils on a ring around the image, (coils, H, W, 2), sum_c |S_c|^2 = 1.

    A Gaussian of the distance to the coil, times a phase that is linear in space; the ring's turn and radius, the
    width and the phases are drawn.
    """
    turn, radius, width, phases = jax.random.split(key, 4)
    angles = 2 * jnp.pi * (jnp.arange(coils) / coils + jax.random.uniform(turn))
    radii = jax.random.uniform(radius, (coils, 1, 1), minval=0.9, maxval=1.3)
    widths = jax.random.uniform(width, (coils, 1, 1), minval=0.7, maxval=1.0)
    rows, columns = (jnp.linspace(-1.0, 1.0, size) for size in shape)
    down = rows[:, None] - radii * jnp.sin(angles)[:, None, None]
    right = columns[None, :] - radii * jnp.cos(angles)[:, None, None]
    # The largest exponent is taken away first: far from all coils nothing underflows.
    exponent = -(jnp.square(down) + jnp.square(right)) / (2 * jnp.square(widths))
    size = jnp.exp(exponent - exponent.max(axis=0))
    constant, slope_down, slope_right = jax.random.uniform(phases, (3, coils, 1, 1), minval=-1.0, maxval=1.0)
    phase = jnp.pi * (constant + 0.5 * slope_down * rows[:, None] + 0.5 * slope_right * columns[None, :])
    size = size / jnp.sqrt(jnp.sum(jnp.square(size), axis=0))
    return jnp.stack([size * jnp.cos(phase), size * jnp.sin(phase)], axis=-1)


def central_lines(lines: int, center: int) -> np.ndarray:
    """(lines,) bool: `center` lines around frequency 0, which is line lines // 2."""
    first = lines // 2 - center // 2
    return (np.arange(lines) >= first) & (np.arange(lines) < first + center)


def _fourier(params, x: jax.Array, acceleration, center, axis) -> jax.Array:
    return _measure(params["lines"], to_complex(x), axis)


def _multicoil_fourier(params, x: jax.Array, acceleration, center, axis, coils, maps, seed) -> jax.Array:
    fixed = maps == "fixed"
    sensitivity = simulated_maps(jax.random.key(seed), x.shape[:2], coils) if fixed else params["maps"]
    return _measure(params["lines"], to_complex(sensitivity.astype(x.dtype)) * to_complex(x), axis)


def _measure(lines, z, axis):
    k_space = to_channels(centred_fft(z))
    return jnp.where(_spread(lines, axis), k_space, jnp.zeros((), k_space.dtype))


def _spread(lines, axis):
    """(lines,) -> what broadcasts to (..., H, W, 2)."""
    return lines[:, None, None] if axis == "rows" else lines[None, :, None]


def _coverage(params, in_shape, axis, **_settings):
    return jnp.broadcast_to(_spread(params["lines"], axis), in_shape).astype(jnp.float32)


def _draw_lines(key, in_shape, acceleration, center, axis, coils=None, maps="fixed", **_settings):
    # In `fourier` and with fixed maps nothing else is drawn.
    key_lines, key_maps = jax.random.split(key)
    lines = in_shape[AXES.index(axis)]
    score = jnp.where(central_lines(lines, center), -1.0, jax.random.uniform(key_lines, (lines,)))
    params = {"lines": _rank(score) < _measured(lines, acceleration)}
    if maps == "drawn":
        params["maps"] = simulated_maps(key_maps, in_shape[:2], coils)
    return params


def _drop_lines(key, params, delta, in_shape, center, axis, **_settings):
    seen = params["lines"]
    central = central_lines(seen.size, center)
    score = jnp.where(central, -1.0, jax.random.uniform(key, seen.shape))
    score = jnp.where(seen, score, 2.0)
    # Rounded down, as floor(lines / (R + 1)) is; a little is added for rounding in float32.
    left = jnp.floor(seen.sum() * (1.0 - delta) + 1e-3).astype(int)
    left = jnp.maximum(left, jnp.sum(seen & central))
    return {**params, "lines": seen & (_rank(score) < left)}


def _cover_lines(key, count, delta, shown, in_shape, acceleration, center, axis, **settings):
    key_draw, key_lines = jax.random.split(key)
    lines = in_shape[AXES.index(axis)]
    left = shown * lines or max(center, math.floor(_measured(lines, acceleration) * (1 - delta) + 1e-3))
    share = max(0.0, left - center) / max(1, lines - center)
    # Every line outside of the centre is seen by the same number of members, at least 1.
    order = jnp.argsort(jax.random.uniform(key_lines, (count, lines)), axis=0)
    seen = (order < max(1, round(share * count))) | central_lines(lines, center)

    def draw(one):
        return _draw_lines(one, in_shape, acceleration, center, axis, **settings)

    return {**jax.vmap(draw)(jax.random.split(key_draw, count)), "lines": seen}


def _rank(score):
    return jnp.argsort(jnp.argsort(score))


def _measured(lines: int, acceleration: float) -> int:
    return math.floor(lines / acceleration + 1e-6)


def _checked(name, in_shape, acceleration, center, axis) -> dict[str, object]:
    height, width, channels = image_size(name, in_shape)
    if channels != 2:
        raise ValueError(
            f"{name}: a complex image has two channels, its real and imaginary part; got {tuple(in_shape)}, "
            f"nearest valid: {(height, width, 2)}"
        )
    if axis not in AXES:
        raise ValueError(f"{name}: axis is one of {', '.join(AXES)}; got '{axis}'")
    lines = (height, width)[AXES.index(axis)]
    count = round(center * lines) if isinstance(center, float) and 0 <= center < 1 else center
    if isinstance(count, bool) or count != int(count) or not 0 <= count <= lines:
        raise ValueError(
            f"{name}: center={center!r} is a number of {axis}, 0 to {lines}, or a share of them in [0, 1); nearest "
            f"valid: {min(max(round(center), 0), lines)}"
        )
    if not acceleration >= 1:
        raise ValueError(f"{name}: acceleration={acceleration} must be 1 or more; nearest valid: 1")
    if _measured(lines, acceleration) < max(1, count):
        raise ValueError(
            f"{name}: acceleration={acceleration} leaves {_measured(lines, acceleration)} of {lines} {axis}, fewer "
            f"than the {int(count)} of the centre; nearest valid: {lines / max(1, count):g}"
        )
    return {"acceleration": float(acceleration), "center": int(count), "axis": axis}
