"""AttnLRP against the paper's rules written out, relevance by relevance, in NumPy."""

import jax
import numpy as np
import pytest
from scipy.special import erf
from transformer_block import DIM, HEADS, block, draw

from xai_traffic import explain
from xai_traffic.models import build


def linear(x, y, weights, relevance):
    """Share relevance of y = x @ weights + bias by contribution."""
    return x * ((relevance / y) @ weights.T)


def normalised(x, scale, shift):
    matrix = np.eye(DIM) - 1 / DIM
    size = np.sqrt((x @ matrix).var(-1, keepdims=True) + 1e-6)
    return x @ matrix / size * scale + shift, matrix, size


def by_hand(params, x, target):
    """Return relevance [TOKENS, DIM] of one example's logit, and the logit."""
    p = {name: np.float64(value) for name, value in params.items()}
    x = np.float64(x)
    y, matrix, size = normalised(x, p["scale_0"], p["shift_0"])
    query, key, value = (y @ p[name] for name in ("query", "key", "value"))
    width = DIM // HEADS
    parts = [slice(head * width, (head + 1) * width) for head in range(HEADS)]
    scores = [query[:, part] @ key[:, part].T / np.sqrt(width) for part in parts]
    shares = [np.exp(s - s.max(-1, keepdims=True)) for s in scores]
    shares = [s / s.sum(-1, keepdims=True) for s in shares]
    mixed = np.concatenate([s @ value[:, part] for s, part in zip(shares, parts, strict=True)], 1)
    projected = mixed @ p["out"]
    middle = x + projected + p["bias"]
    z, _, size_ = normalised(middle, p["scale_1"], p["shift_1"])
    up = z @ p["up"] + p["up_bias"]
    active = up * (1 + erf(up / np.sqrt(2))) / 2
    down = active @ p["down"]
    last = middle + down
    logit = last[0] @ p["head"][:, target]

    r_last = np.zeros_like(x)
    r_last[0] = last[0] * p["head"][:, target]
    r_middle, r_down = (part / last * r_last for part in (middle, down))
    r_up = linear(active, down, p["down"], r_down)  # the identity rule of the gelu
    r_z = linear(z, up, p["up"], r_up)
    r_middle = r_middle + middle * ((r_z / z * p["scale_1"] / size_) @ matrix)
    r_x, r_projected = (part / middle * r_middle for part in (x, projected))
    r_mixed = linear(mixed, projected, p["out"], r_projected)
    r_y = np.zeros_like(y)
    for part, s, score in zip(parts, shares, scores, strict=True):
        ratio = r_mixed[:, part] / mixed[:, part]
        r_share = s * (ratio @ value[:, part].T) / 2
        r_value = value[:, part] * (s.T @ ratio) / 2
        r_score = score * (r_share - s * r_share.sum(-1, keepdims=True))
        ratio = r_score / score / np.sqrt(width)
        r_query = query[:, part] * (ratio @ key[:, part]) / 2
        r_key = key[:, part] * (ratio.T @ query[:, part]) / 2
        for name, made, relevance in (
            ("query", query, r_query),
            ("key", key, r_key),
            ("value", value, r_value),
        ):
            r_y += linear(y, made[:, part], p[name][:, part], relevance)
    return r_x + x * ((r_y / y * p["scale_0"] / size) @ matrix), logit


def test_a_block_follows_the_papers_rules():
    params, x = draw()
    found = explain.attn_lrp(block, params, x, 2, epsilon=1e-12)
    for row in range(3):
        expected, logit = by_hand(params, x[row], 2)
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found.attributions[row], expected, rtol=2e-3, atol=2e-4 * scale)
        rest = found.biases[row] + found.lost[row]
        assert found.attributions[row].sum() + rest == pytest.approx(logit, abs=1e-4)


def test_a_softmax_gives_the_same_with_and_without_the_usual_shift():
    def scored(normalise):
        return lambda params, x: (normalise(x @ params[0])[..., None] * params[1]).sum(1)

    def bare(z):
        e = jax.numpy.exp(z)
        return e / e.sum(-1, keepdims=True)

    rng = np.random.default_rng(0)
    params = rng.normal(size=(5, 4)).astype("f4"), rng.normal(size=(4, 3)).astype("f4")
    x = rng.normal(size=(6, 5)).astype("f4")
    a, b = (
        explain.attn_lrp(scored(normalise), params, x, 1, epsilon=1e-12)
        for normalise in (jax.nn.softmax, bare)
    )
    np.testing.assert_allclose(a.attributions, b.attributions, rtol=1e-3, atol=1e-5)
    # The rule is the first-order term: it is gradient x input here.
    expected = explain.gradient_x_input(scored(jax.nn.softmax), params, x, 1)
    np.testing.assert_allclose(a.attributions, expected, rtol=1e-3, atol=1e-5)


def test_the_vision_transformer_is_explained_through_apply():
    model = build("vit", 3, variant="debug", packets=8, depth=1, frequencies=2)
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(scale=0.05, size=leaf.shape).astype("f4"),
        model.init(jax.random.key(0)),
    )
    x = rng.integers(0, 256, (2, 128, 128, 1)).astype(np.float32)
    x[:, :, 80:] = 0
    found = explain.attn_lrp(model.apply, variables, x, rule="composite")
    logits = np.asarray(jax.jit(model.apply)(variables, x)[0]).max(1)
    total = found.attributions.sum((1, 2)) + found.biases + found.lost
    np.testing.assert_allclose(total, logits, rtol=1e-3, atol=1e-4)
    assert np.asarray(found.conservation_error).max() < 1e-4
    maps = np.asarray(found.attributions)
    assert (
        (maps[:, :16, :80] != 0).any()
        and (maps[:, 16:] == 0).all()
        and (maps[:, :, 80:] == 0).all()
    )
