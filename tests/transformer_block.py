"""One encoder block and its head, small enough to follow by hand: x [B, TOKENS, DIM]."""

import jax
import jax.numpy as jnp
import numpy as np

TOKENS, DIM, HEADS, WIDE = 5, 8, 2, 12
SHAPES = {
    "scale_0": (DIM,), "shift_0": (DIM,), "query": (DIM, DIM), "key": (DIM, DIM),
    "value": (DIM, DIM), "out": (DIM, DIM), "bias": (DIM,), "scale_1": (DIM,), "shift_1": (DIM,),
    "up": (DIM, WIDE), "up_bias": (WIDE,), "down": (WIDE, DIM), "head": (DIM, 3),
}  # fmt: skip


def draw(seed=3):
    """Return parameters and an input of three examples."""
    rng = np.random.default_rng(seed)
    params = {n: (rng.normal(size=s) * 0.4).astype(np.float32) for n, s in SHAPES.items()}
    return params, rng.normal(size=(3, TOKENS, DIM)).astype(np.float32)


def block(params, x):
    def norm(x, place):
        centred = x - x.mean(-1, keepdims=True)
        size = jnp.sqrt((centred**2).mean(-1, keepdims=True) + 1e-6)
        return centred / size * params[f"scale_{place}"] + params[f"shift_{place}"]

    def heads(x):
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(0, 2, 1, 3)

    y = norm(x, 0)
    query, key, value = (heads(y @ params[name]) for name in ("query", "key", "value"))
    scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(DIM // HEADS)
    mixed = jax.nn.softmax(scores, -1) @ value
    x = x + mixed.transpose(0, 2, 1, 3).reshape(x.shape) @ params["out"] + params["bias"]
    y = norm(x, 1)
    x = x + jax.nn.gelu(y @ params["up"] + params["up_bias"], approximate=False) @ params["down"]
    return x[:, 0] @ params["head"]
