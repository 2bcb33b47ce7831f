"""Which attention is taken, by device, dtype and shape; and that it is the textbook's."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxdiff.networks import attention


@pytest.mark.parametrize(
    ("platform", "capability", "dtype", "head_size", "forward_mode", "expected"),
    [
        ("gpu", 8.0, "bfloat16", 32, False, "cudnn"),
        ("gpu", 9.0, "float16", 128, False, "cudnn"),
        ("gpu", 9.0, "bfloat16", 256, False, "cudnn"),
        ("gpu", 8.6, "bfloat16", 256, False, "xla"),  # before Hopper
        ("gpu", 7.5, "float16", 32, False, "xla"),  # before Ampere
        ("gpu", 0.0, "bfloat16", 32, False, "xla"),  # not NVIDIA's
        ("gpu", 9.0, "float32", 32, False, "xla"),
        ("gpu", 9.0, "bfloat16", 20, False, "xla"),
        ("gpu", 9.0, "bfloat16", 512, False, "xla"),
        ("gpu", 9.0, "bfloat16", 32, True, "xla"),
        ("cpu", 0.0, "bfloat16", 32, False, "xla"),
        ("tpu", 0.0, "bfloat16", 128, False, "xla"),
    ],
)
def test_the_choice(platform, capability, dtype, head_size, forward_mode, expected):
    found = attention.choose_attention(platform, capability, jnp.dtype(dtype), head_size, forward_mode)
    assert found == expected


def queries(dtype=jnp.float32, size=8):
    return jax.random.normal(jax.random.key(0), (3, 2, 6, 2, size), dtype)


def test_it_is_the_textbook_s_here():
    assert attention.device() == ("cpu", 0.0)
    q, k, v = queries()
    weights = jax.nn.softmax(jnp.einsum("bthc,bshc->bhts", q, k) / np.sqrt(8), axis=-1)
    np.testing.assert_allclose(
        attention.attend(q, k, v), jnp.einsum("bhts,bshc->bthc", weights, v), atol=1e-5
    )


def test_cudnn_is_asked_on_a_gpu_and_xla_answers_where_it_cannot(monkeypatch, caplog):
    asked, real = [], jax.nn.dot_product_attention

    def answer(q, k, v, implementation):
        asked.append(implementation)
        if implementation == "cudnn":
            raise RuntimeError("cuDNN is not detected.")
        return real(q, k, v, implementation=implementation)

    monkeypatch.setattr(attention, "device", lambda: ("gpu", 9.0))
    monkeypatch.setattr(jax.nn, "dot_product_attention", answer)
    q, k, v = queries(jnp.bfloat16)
    np.testing.assert_array_equal(attention.attend(q, k, v), real(q, k, v, implementation="xla"))
    assert asked == ["cudnn", "xla"] and "cuDNN is not detected" in caplog.text
    attention.attend(*queries(), False)
    assert asked[2:] == ["xla"]


def test_an_answer_of_cudnn_is_taken(monkeypatch):
    monkeypatch.setattr(attention, "device", lambda: ("gpu", 9.0))
    monkeypatch.setattr(jax.nn, "dot_product_attention", lambda q, k, v, implementation: implementation)
    assert attention.attend(*queries(jnp.bfloat16)) == "cudnn"
