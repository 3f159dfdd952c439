"""Formulations of ops/convolution.py against XLA's convolution, in value and gradients."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic.ops import convolution


def value_and_gradients(function, x, kernel):
    @jax.jit
    def run(x, kernel):
        y, pull = jax.vjp(function, x, kernel)
        return y, *pull(jnp.cos(jnp.arange(y.size, dtype=jnp.float32)).reshape(y.shape))

    return run(x, kernel)


def drawn(*shape):
    return jnp.asarray(np.random.default_rng(0).normal(size=shape), jnp.float32)


def assert_same(x, kernel, stride, padding, function):
    ours = value_and_gradients(function, x, kernel)
    direct = value_and_gradients(
        lambda x, kernel: convolution.direct_conv(x, kernel, stride, padding), x, kernel
    )
    for one, other in zip(ours, direct, strict=True):
        assert one.shape == other.shape and one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5 * np.abs(other).max())


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("size", [(8, 6), (7, 9)])
@pytest.mark.parametrize("at_once", [1, 2, 4])
def test_winograd_equals_direct(padding, size, at_once, monkeypatch):
    monkeypatch.setattr(convolution, "_images_at_once", lambda *_: at_once)
    assert_same(
        drawn(4, *size, 5),
        drawn(3, 3, 5, 7),
        1,
        padding,
        lambda x, kernel: convolution.winograd_conv(x, kernel, padding),
    )


@pytest.mark.parametrize(
    ("window", "stride", "padding", "channels", "features"),
    [
        (1, 1, "SAME", 6, 4),
        (1, 2, "SAME", 6, 4),
        (3, 1, "SAME", 32, 40),
        (3, 2, "VALID", 1, 8),
        (3, 1, "SAME", 3, 8),
        (3, 2, "SAME", 3, 8),
        (3, 2, "SAME", 12, 8),
    ],
)
def test_each_way_equals_direct(window, stride, padding, channels, features):
    assert_same(
        drawn(3, 9, 8, channels),
        drawn(window, window, channels, features),
        stride,
        padding,
        lambda x, kernel: convolution.conv(x, kernel, stride, padding),
    )


@pytest.mark.parametrize(("window", "channels"), [(1, 4), (3, 32), (3, 1)])
def test_low_precision_dtypes_are_kept(window, channels):
    x, kernel = (
        jnp.ones((2, 6, 6, channels), jnp.bfloat16),
        jnp.ones((window, window, channels, 32), jnp.float32),
    )
    dtypes = jax.eval_shape(
        lambda x, kernel: value_and_gradients(
            lambda x, kernel: convolution.conv(x, kernel).astype(jnp.float32), x, kernel
        ),
        x,
        kernel,
    )
    assert [leaf.dtype for leaf in dtypes[1:]] == [jnp.bfloat16, jnp.float32]
    assert jax.eval_shape(convolution.conv, x, kernel).dtype == jnp.bfloat16


def test_images_at_once_divide_the_batch(monkeypatch):
    monkeypatch.setattr(jax, "device_count", lambda: 1)
    assert convolution._images_at_once(16, 128, 128) == 1
    assert convolution._images_at_once(16, 32, 32) == 4
    assert convolution._images_at_once(15, 32, 32) == 3
    assert convolution._images_at_once(16, 8, 8) == 16
    monkeypatch.setattr(jax, "device_count", lambda: 2)
    assert convolution._images_at_once(16, 128, 128) == 16
