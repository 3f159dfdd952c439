"""Grad-CAM on functions with known weights, on grids and on tokens, within the model's extent."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain.token_grid import grid_of

RNG = np.random.default_rng(2)
HEAD = RNG.normal(size=(4, 3)).astype(np.float32)


def cells(x, side):
    """Return mean and deviation features [B, h, w, 4] of square cells."""
    b, h, w, _ = x.shape
    grid = x[..., 0].reshape(b, h // side, side, w // side, side) / 255
    mean, square = grid.mean((2, 4)), (grid**2).mean((2, 4))
    return jnp.stack([mean, square, jnp.sin(3 * mean), mean * square], -1)


def pooled(params, x, taps=None, *, rows=None, side=16):
    """Global average pooling and a linear head: Grad-CAM's weights are the head's."""
    seen = x if rows is None else x[:, :rows]
    last = cells(seen, side)
    last = last + (taps or {}).get("last", 0)
    return last.mean((1, 2)) @ params, {"last": last}


def tokens(params, x, taps=None):
    """The same with a class token in front, as a transformer's block has it."""
    last = cells(x, 16)
    block = last.reshape(last.shape[0], -1, 4)
    block = jnp.concatenate([jnp.ones_like(block[:, :1]), block], 1)
    block = block + (taps or {}).get("block_00", 0)
    return jnp.tanh(block.mean(1)) @ params, {"block_00": block}


IMAGES = RNG.integers(0, 256, (3, 128, 128, 1)).astype(np.float32)


def test_under_pooling_and_a_linear_head_it_is_cam():
    result = explain.grad_cam(pooled, HEAD, IMAGES, 2)
    last = np.asarray(pooled(HEAD, IMAGES)[1]["last"])
    expected = np.maximum(last @ HEAD[:, 2] / 64, 0)
    assert result.shape == (3, 128, 128) and result.dtype == jnp.float32
    np.testing.assert_allclose(result[:, 8::16, 8::16], expected, rtol=1e-4, atol=1e-7)


def test_a_cell_that_is_a_packet_keeps_to_its_packet():
    result = np.asarray(explain.grad_cam(pooled, HEAD, IMAGES, 2))
    assert result.max() > 0
    blocks = result.reshape(3, 8, 16, 8, 16)
    assert (blocks == blocks[:, :, :1, :, :1]).all()
    smooth = np.asarray(explain.grad_cam(pooled, HEAD, IMAGES, 2, resize="bilinear"))
    np.testing.assert_array_equal(
        smooth,
        np.asarray(jax.image.resize(jnp.asarray(result[:, ::16, ::16]), (3, 128, 128), "bilinear")),
    )


def test_coarser_grids_are_blended():
    def coarse(params, x, taps=None):
        return pooled(params, x, taps, side=32)

    result = np.asarray(explain.grad_cam(coarse, HEAD, IMAGES, 2))
    blocks = result.reshape(3, 4, 32, 4, 32)
    assert (blocks != blocks[:, :, :1, :, :1]).any()


def test_only_the_part_that_the_model_reads_is_lit():
    def first_rows(params, x, taps=None):
        return pooled(params, x, taps, rows=32)

    result = np.asarray(explain.grad_cam(first_rows, HEAD, IMAGES, extent=(32, 128)))
    assert (result[:, 32:] == 0).all() and (result[:, :32] > 0).any()
    whole = np.asarray(explain.grad_cam(pooled, HEAD, IMAGES[:, :32]))
    np.testing.assert_allclose(result[:, :32], whole, rtol=1e-6)


def test_tokens_lose_the_class_token_and_become_a_grid():
    result = np.asarray(explain.grad_cam(tokens, HEAD, IMAGES, 1, layer="block_00"))

    def by_hand(block):
        return (jnp.tanh(block.mean(1)) @ HEAD)[:, 1].sum()

    block = tokens(HEAD, IMAGES)[1]["block_00"]
    weights = np.asarray(jax.grad(by_hand)(block))[:, 1:].mean(1)
    expected = np.maximum(np.einsum("btc,bc->bt", np.asarray(block)[:, 1:], weights), 0)
    np.testing.assert_allclose(result[:, ::16, ::16].reshape(3, 64), expected, rtol=1e-4, atol=1e-7)


def test_target_none_is_the_highest_logit_and_memory_changes_nothing():
    best = np.asarray(pooled(HEAD, IMAGES)[0]).argmax(1).astype(np.int32)
    result = explain.grad_cam(pooled, HEAD, IMAGES)
    np.testing.assert_array_equal(result, explain.grad_cam(pooled, HEAD, IMAGES, best))
    np.testing.assert_allclose(
        result, explain.grad_cam(pooled, HEAD, IMAGES, memory_budget=1), rtol=1e-6
    )


def test_nothing_before_the_activation_is_differentiated():
    @jax.custom_vjp
    def wall(x):
        return x

    def refuse(_, gradient):
        raise AssertionError("differentiated")

    wall.defvjp(lambda x: (x, None), refuse)

    def guarded(params, x, taps=None):
        return pooled(params, wall(x), taps)

    np.testing.assert_array_equal(
        explain.grad_cam(guarded, HEAD, IMAGES, 2), explain.grad_cam(pooled, HEAD, IMAGES, 2)
    )
    with pytest.raises(AssertionError, match="differentiated"):
        explain.gradient(guarded, HEAD, IMAGES, 0)


def test_grids_of_tokens():
    assert grid_of(64, (128, 128)) == (8, 8)
    assert grid_of(16, (32, 128)) == (2, 8)
    assert grid_of(16, (128, 128)) == (4, 4)
    for count in (65, 63):
        with pytest.raises(ValueError, match="no grid"):
            grid_of(count, (128, 128))


def test_what_cannot_be_laid_over_is_refused():
    with pytest.raises(ValueError, match="no activation 'first', only last"):
        explain.grad_cam(pooled, HEAD, IMAGES, layer="first")
    with pytest.raises(ValueError, match="larger than the image"):
        explain.grad_cam(pooled, HEAD, IMAGES, extent=(256, 256))
    with pytest.raises(ValueError, match="choose one of"):
        explain.grad_cam(pooled, HEAD, IMAGES, resize="lanczos")
    with pytest.raises(ValueError, match="images"):
        explain.grad_cam(pooled, HEAD, IMAGES[..., 0])
    with pytest.raises(ValueError, match="activations"):
        explain.grad_cam(lambda params, x, taps=None: x[:, 0, 0], HEAD, IMAGES, 0)
