"""Explanations over eight devices are those of one, and every device takes part."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.models import build

RNG = np.random.default_rng(5)
X = np.zeros((5, 128, 128, 1), np.float32)
X[:, :48] = RNG.integers(0, 256, (5, 48, 128, 1))
GROUPS = explain.packet_groups([256] * 24)


@functools.cache
def network(family):
    model = build(family, 3, variant="debug")
    variables = model.init(jax.random.key(0))
    noise = np.random.default_rng(0)
    shaken = jax.tree.map(
        lambda leaf: leaf + 0.03 * jnp.asarray(noise.normal(size=leaf.shape), jnp.float32),
        variables,
    )
    return model, shaken


def both_ways(method, family="xception", **options):
    model, params = network(family)
    everywhere, x = explain.over_devices(params, X)
    apart = method(model.apply, params, X, **options)
    return apart, method(model.apply, everywhere, x, **options)


@pytest.mark.parametrize(
    ("method", "family", "options"),
    [
        (explain.gradient, "xception", {"target": 1}),
        (explain.integrated_gradients, "xception", {"target": 1, "steps": 6}),
        (explain.integrated_gradients, "vit", {"target": 1, "tolerance": 0.05}),
        (explain.grad_cam, "vgg19", {"target": 1}),
        (explain.attention_rollout, "vit", {}),
    ],
)
def test_many_devices_explain_as_one(method, family, options):
    one, many = both_ways(method, family, **options)
    one, many = (part if isinstance(part, tuple) else (part,) for part in (one, many))
    for a, b in zip(one, many, strict=True):
        size = np.abs(np.asarray(a)).max()
        np.testing.assert_allclose(a, b, atol=2e-3 * size)


@pytest.mark.parametrize(
    "method", [explain.occlusion, explain.rise, functools.partial(explain.kernel_shap, samples=128)]
)
def test_masks_are_shared_out(method):
    one, many = both_ways(lambda *args: method(*args, GROUPS, 0))
    one, many = (getattr(part, "values", part) for part in (one, many))
    np.testing.assert_allclose(one, many, atol=1e-4)


def test_every_device_takes_part():
    model, params = network("xception")
    everywhere, x = explain.over_devices(params, X)
    found = explain.gradient(model.apply, everywhere, x, 0)
    assert len(found.sharding.device_set) == len(jax.devices()) == 8
    lowered = []

    def seen(p, v):
        jax.debug.inspect_array_sharding(v, callback=lowered.append)
        return model.apply(p, v)

    explain.gradient(seen, everywhere, x, 0)
    # Some call hands each device one example of eight: the five, filled up.
    assert any(s.shard_shape((8, 128, 128, 1))[0] == 1 for s in lowered if s is not None)
