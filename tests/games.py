"""Games with known values, as model functions: x [B, n] with ones, each value its own player."""

import itertools

import jax.numpy as jnp
import numpy as np

RNG = np.random.default_rng(5)


def table_game(table, x):
    """Logits looked up by which of the n values are not zero: table [2^n, K]."""
    number = ((x != 0) * (2 ** jnp.arange(x.shape[1]))).sum(1)
    return table[number]


def pairs_game(params, x):
    """Logits w_k x + x Q_k x, whose Shapley and Owen values are known: each pair halves its own."""
    w, q = params
    return x @ w + jnp.einsum("bi,kij,bj->bk", x, q, x)


def random_table(n, classes=3):
    return RNG.normal(size=(2**n, classes)).astype(np.float32)


def random_pairs(n, classes=2, strength=0.3):
    q = RNG.normal(size=(classes, n, n)).astype(np.float32) * strength
    q[:, np.arange(n), np.arange(n)] = 0
    return RNG.normal(size=(n, classes)).astype(np.float32), q


def values_of_pairs(params, target):
    w, q = params
    return w[:, target] + (q[target].sum(0) + q[target].sum(1)) / 2


def mean_over_orders(values, n, allowed=lambda order: True):
    """Shapley (or Owen) values by their definition: the mean rise over all allowed orders."""
    total, count = np.zeros(n), 0
    for order in itertools.permutations(range(n)):
        if not allowed(order):
            continue
        count, before = count + 1, 0
        for player in order:
            after = before | 1 << player
            total[player] += np.float64(values[after]) - values[before]
            before = after
    return total / count
