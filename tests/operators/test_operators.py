"""Every operator against its own dense matrix."""

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff import operators

IMAGE = (6, 4, 3)
BATCH = 3
CASES = {
    "identity": (IMAGE, {}),
    "avg_pool": (IMAGE, {"factor": 2}),
    "grayscale": (IMAGE, {}),
    "crop": (IMAGE, {"top": 1, "left": 1, "height": 4, "width": 2}),
    "coordinates": ((7,), {"indices": (5, 0, 3)}),
    "mask": (IMAGE, {"mask": "left"}),
    "pixel_mask": (IMAGE, {"p": 0.4}),
    "box_mask": (IMAGE, {"size": (3, 2)}),
    "keep_patch": (IMAGE, {"size": (3, 2)}),
    "scan_lines": (IMAGE, {"p": 0.4, "keep_center": 1}),
    "overlay": (IMAGE, {"kind": "watermark", "size": 0.7}),
    "sensing": (IMAGE, {"measurements": 9, "matrices": 4, "seed": 1}),
    "fourier": ((6, 4, 2), {"acceleration": 2, "center": 1}),
    "multicoil_fourier": ((6, 4, 2), {"acceleration": 2, "center": 1, "coils": 3}),
    "motion_blur": (IMAGE, {"length": 2, "angle": 20.0, "boundary": "zero"}),
    "gaussian_blur": (IMAGE, {"std": 0.6, "boundary": "zero"}),
    "compose": (
        IMAGE,
        {"operators": [{"name": "grayscale"}, {"name": "pixel_mask", "p": 0.4}, {"name": "crop", **{
            "top": 1, "left": 0, "height": 4, "width": 4}}]},
    ),
}  # fmt: skip
EXPECTED_C = {
    "avg_pool": 0.25,
    "grayscale": 0.299**2 + 0.587**2 + 0.114**2,
    "compose": 0.299**2 + 0.587**2 + 0.114**2,
    "gaussian_blur": None,
    "motion_blur": None,
    "multicoil_fourier": None,
    "sensing": None,
}


def build_case(name):
    shape, args = CASES[name]
    return operators.build(name, shape, **args).draw(jax.random.split(jax.random.key(3), BATCH))


def dense_matrices(op):
    """(BATCH, m, n) float64 matrices of the operator, one column for each basis vector."""
    size = int(np.prod(op.in_shape))
    basis = np.eye(size, dtype=np.float32).reshape(size, *op.in_shape)
    columns = [op(jnp.broadcast_to(vector, (BATCH, *op.in_shape))) for vector in basis]
    return np.stack([np.asarray(c, np.float64).reshape(BATCH, -1) for c in columns], axis=-1)


def normal(key, *shape):
    return jax.random.normal(jax.random.key(key), shape)


def inner(a, b):
    return jnp.sum(a * b, axis=tuple(range(1, a.ndim)))


def test_every_operator_of_the_catalog_has_a_case():
    assert sorted(CASES) == operators.names()


@pytest.mark.parametrize("name", CASES)
def test_adjoint(name):
    op = build_case(name)
    x, y = normal(0, BATCH, *op.in_shape), normal(1, BATCH, *op.out_shape)
    chex.assert_shape(op(x), y.shape)
    np.testing.assert_allclose(inner(op(x), y), inner(x, op.adjoint(y)), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_linear(name):
    op = build_case(name)
    x, x2 = normal(0, BATCH, *op.in_shape), normal(1, BATCH, *op.in_shape)
    np.testing.assert_allclose(op(2.0 * x - 3.0 * x2), 2.0 * op(x) - 3.0 * op(x2), atol=1e-5)


@pytest.mark.parametrize("name", CASES)
def test_c_is_that_of_the_dense_matrix(name):
    op = build_case(name)
    expected = EXPECTED_C.get(name, 1.0)
    assert op.c == (expected if expected is None else pytest.approx(expected, rel=1e-6))
    for matrix in dense_matrices(op):
        gram = matrix @ matrix.T
        projector = matrix @ np.linalg.pinv(matrix)
        c = np.trace(gram) / np.trace(projector)
        if expected is None:
            assert np.abs(gram - c * projector).max() > 0.1
        else:
            np.testing.assert_allclose(gram, expected * projector, atol=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_pinv_is_moore_penrose(name):
    op = build_case(name)
    matrices = dense_matrices(op)
    size = int(np.prod(op.out_shape))
    basis = np.eye(size, dtype=np.float32).reshape(size, *op.out_shape)
    pinv = jax.jit(type(op).pinv)
    columns = [pinv(op, jnp.broadcast_to(vector, (BATCH, *op.out_shape))) for vector in basis]
    inverses = np.stack([np.asarray(c, np.float64).reshape(BATCH, -1) for c in columns], axis=-1)
    for a, a_inv in zip(matrices, inverses, strict=True):
        for left, right in [
            (a @ a_inv @ a, a),
            (a_inv @ a @ a_inv, a_inv),
            ((a @ a_inv).T, a @ a_inv),
            ((a_inv @ a).T, a_inv @ a),
        ]:
            np.testing.assert_allclose(left, right, atol=2e-4)


@pytest.mark.parametrize("name", CASES)
def test_project_keeps_measurements_and_is_idempotent(name):
    op = build_case(name)
    y = op(normal(0, BATCH, *op.in_shape))
    np.testing.assert_allclose(op.project(y), y, atol=1e-3)
    once = op.project(normal(1, BATCH, *op.out_shape))
    np.testing.assert_allclose(op.project(once), once, atol=1e-3)


@pytest.mark.parametrize("name", CASES)
def test_built_alike_is_one_program(name):
    shape, args = CASES[name]

    @jax.jit
    @chex.assert_max_traces(n=1)
    def measure(op, x):
        return op(x)

    keys = jax.random.split(jax.random.key(0), BATCH)
    outputs = [
        measure(operators.build(name, shape, **args).draw(keys), normal(0, BATCH, *shape)) for _ in "ab"
    ]
    np.testing.assert_array_equal(*outputs)
    statics = [jax.tree.structure(operators.build(name, shape, **args)) for _ in "ab"]
    assert statics[0] == statics[1] and hash(statics[0]) == hash(statics[1])
    chex.clear_trace_counter()


def test_pinv_of_a_singular_blur_has_least_norm():
    # Singular values fall below 1e-3: to float32, A A^T is singular and the solution is not unique.
    op = operators.build("gaussian_blur", (8, 1, 1), std=1.5)
    matrix = np.asarray(jax.vmap(lambda e: op(e[None])[0])(jnp.eye(8)[:, :, None, None]))[..., 0, 0].T
    assert np.linalg.svd(matrix, compute_uv=False)[-1] < 1e-3
    x = op.pinv(op(normal(0, 1, 8, 1, 1)))[0, :, 0, 0]
    smooth = np.linalg.svd(matrix)[2][:3]
    np.testing.assert_allclose(op(x[None, :, None, None]), op(normal(0, 1, 8, 1, 1)), atol=2e-3)
    np.testing.assert_allclose(smooth @ x, smooth @ normal(0, 1, 8, 1, 1)[0, :, 0, 0], atol=2e-3)
    assert np.linalg.norm(x) <= np.linalg.norm(normal(0, 1, 8, 1, 1)) + 1e-3


def test_view_noise_has_standard_deviation_sqrt_c():
    op = operators.build("grayscale", (8, 8, 3))
    seen = op(normal(0, 2000, 8, 8, 3))
    assert float(jnp.std(seen)) == pytest.approx(op.c**0.5, rel=0.02)


def test_wrong_shapes_are_refused_before_tracing():
    op = operators.build("avg_pool", (8, 8, 1), factor=2)
    with pytest.raises(ValueError, match=r"avg_pool\(factor=2\): x must have shape \(B, 8, 8, 1\), got \(2,"):
        op(jnp.zeros((2, 8, 8, 3)))
    with pytest.raises(ValueError, match=r"y must have shape \(B, 4, 4, 1\)"):
        op.adjoint(jnp.zeros((2, 8, 8, 1)))


def test_parameters_belong_to_examples():
    op = operators.build("pixel_mask", (4, 4, 1), p=0.5)
    with pytest.raises(ValueError, match=r"call op.draw\(keys\) first"):
        op(jnp.zeros((2, 4, 4, 1)))
    drawn = op.draw(jax.random.split(jax.random.key(0), 3))
    with pytest.raises(ValueError, match=r"parameters for \[3\] examples, got 2"):
        drawn(jnp.zeros((2, 4, 4, 1)))
    with pytest.raises(ValueError, match="measurement has none"):
        op.with_params(None)
    x = normal(0, 3, 4, 4, 1)
    np.testing.assert_array_equal(op.with_params(drawn.params)(x), drawn(x))
    plain = operators.build("identity", (4, 4, 1))
    assert plain.with_params(None) is plain and plain.draw(jax.random.split(jax.random.key(0), 3)) is plain


def test_measurement_is_a_pytree():
    op = build_case("pixel_mask")
    m = operators.Measurement(y=op(normal(0, BATCH, *IMAGE)), params=op.params, sigma_y=jnp.zeros(BATCH))
    half = jax.tree.map(lambda leaf: leaf[1:], m)
    chex.assert_shape(half.y, (BATCH - 1, *IMAGE))
    np.testing.assert_array_equal(op.with_params(half.params)(half.y), half.y)
