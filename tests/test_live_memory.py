"""What a trace says of memory: values count while something still reads them."""

import jax
import jax.numpy as jnp

from xai_traffic.explain.live_memory import peak_bytes
from xai_traffic.explain.model_function import examples_at_once

X = jax.ShapeDtypeStruct((256,), jnp.float32)
SIZE = 4 * 256


def test_values_end_with_their_last_reader():
    def chain(x):
        for _ in range(10):
            x = jnp.sin(x)
        return x

    def all_kept(x):
        return [jnp.sin(x), jnp.cos(x), jnp.tan(x)]

    assert peak_bytes(chain, X) == 2 * SIZE
    assert peak_bytes(all_kept, X) == 4 * SIZE
    assert peak_bytes(jax.jit(chain), X) == 2 * SIZE


def test_views_keep_what_they_view_and_are_nothing_more():
    def viewed(x):
        flat = x.reshape(16, 16)
        other = jnp.sin(jnp.cos(x))
        return flat.T + other.reshape(16, 16)

    assert peak_bytes(viewed, X) == 3 * SIZE


def test_judging_takes_less_than_differentiating():
    def deep(params, x):
        for _ in range(20):
            x = jnp.sin(x)
        return x @ params

    params, x = jnp.ones((4096, 3)), jnp.ones((1, 4096))
    budget = 1 << 20
    judged = examples_at_once(deep, params, x, budget, gradient=False)
    assert judged > 1.5 * examples_at_once(deep, params, x, budget)
