"""Attention weighted by its gradient: what the class token looks at, for the sake of one class."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xai_traffic.explain.activations import gradients_of
from xai_traffic.explain.attention import attention_names, token_maps
from xai_traffic.explain.model_function import (
    ModelFunction,
    compiled,
    examples_at_once,
    map_batches,
    resolve_target,
)


def gradient_weighted_attention(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    extent: tuple[int, int] | None = None,
    resize: str = "auto",
    memory_budget: int | None = None,
) -> jax.Array:
    """Follow through all layers the attention that speaks for the target.

    Source: Chefer, Gur and Wolf, Generic Attention-model Explainability for Interpreting Bi-Modal
    and Encoder-Decoder Transformers, ICCV 2021, its rule for self-attention; not their
    Transformer Interpretability Beyond Attention Visualization, CVPR 2021, which weighs relevance
    in place of attention. In each layer R becomes R + M R with
    M = mean over heads of max(gradient * attention, 0), from R = identity on.

    Args:
        f: `f(params, x, taps=None) -> (logits, activations)` with activations "attention_00", ...
            [B, heads, T, T], the class token first; `taps[name]` is added to the activation `name`
            before it is used.
        x: images [B, H, W, C] in the model's own scale.
        target: class, int or int32 [B]; None explains the class with the highest logit.
        extent, resize: as `attention_rollout`.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float32 [B, H, W], not negative, zero outside the extent: the class token's row of R,
        without its own column. Where the head does not read the class token it misses what the
        head reads instead.

    Raises:
        ValueError: f has no such activations, or its tokens are no grid; see also
            `resolve_target`.
    """
    x, names = attention_names(f, params, x)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel = compiled(_weighted, f, names, tuple(extent or x.shape[1:3]), resize)
    return map_batches(lambda *piece: kernel(params, *piece), at_once, x, target)


def _weighted(f, names, extent, resize, params, x, target) -> jax.Array:
    gradients, values = gradients_of(f, names, params, x, target)
    relevance = None
    for name in names:
        step = jax.nn.relu(gradients[name] * values[name]).mean(1)
        if relevance is None:
            relevance = jnp.broadcast_to(jnp.eye(step.shape[-1]), step.shape)
        relevance = relevance + step @ relevance
    return token_maps(relevance, x.shape[1:3], extent, resize)
