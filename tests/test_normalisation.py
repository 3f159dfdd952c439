"""Batch normalisation of ops/normalisation.py against its formula, in value and gradients."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic.models.layers import batch_norm
from xai_traffic.ops.normalisation import normalise


def plain(x, scale, bias, epsilon):
    mean, variance = jnp.mean(x, (0, 1, 2)), jnp.var(x, (0, 1, 2))
    return (x - mean) / jnp.sqrt(variance + epsilon) * scale + bias, mean, variance


def test_normalise_equals_its_formula_in_value_and_gradients():
    rng = np.random.default_rng(0)
    x = jnp.asarray(rng.normal(0.5, 2, (3, 5, 4, 6)), jnp.float32)
    scale, bias = (jnp.asarray(rng.normal(size=6), jnp.float32) for _ in range(2))
    weights = [jnp.asarray(rng.normal(size=shape), jnp.float32) for shape in (x.shape, 6, 6)]

    def run(function):
        y, pull = jax.vjp(lambda *arrays: function(*arrays, 1e-3), x, scale, bias)
        return *y, *pull(tuple(weights))

    ours, theirs = jax.jit(lambda: run(normalise))(), jax.jit(lambda: run(plain))()
    for one, other in zip(ours, theirs, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("train", [True, False])
def test_layer_has_the_names_and_values_of_linen(train, dtype):
    ours = batch_norm("bn", train, dtype, 0.9)
    theirs = nn.BatchNorm(use_running_average=not train, momentum=0.9, epsilon=1e-3, dtype=dtype)
    x = jnp.asarray(np.random.default_rng(1).normal(1, 2, (4, 3, 3, 5)), dtype)
    variables = theirs.init(jax.random.key(0), x)
    assert jax.tree.structure(ours.init(jax.random.key(0), x)) == jax.tree.structure(variables)
    results = [
        jax.jit(lambda v, x, layer=layer: layer.apply(v, x, mutable="batch_stats"))(variables, x)
        for layer in (ours, theirs)
    ]
    for one, other in zip(*map(jax.tree.leaves, results), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(
            one.astype(jnp.float32), other.astype(jnp.float32), rtol=1e-5, atol=1e-5
        )
