"""Grad-CAM: where in an activation the target's logit finds what it looks for."""

from __future__ import annotations

import jax

from xai_traffic.explain.activations import gradient_maps
from xai_traffic.explain.model_function import ModelFunction


def grad_cam(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    layer: str = "last",
    extent: tuple[int, int] | None = None,
    resize: str = "auto",
    positive: bool = True,
    memory_budget: int | None = None,
) -> jax.Array:
    """Weigh an activation's channels by their mean gradient, sum them, keep what is positive.

    Source: Selvaraju et al., Grad-CAM, 2017. Only the part of f behind the activation is
    differentiated.

    Args:
        f: `f(params, x, taps=None) -> (logits [B, K], activations)`; `taps[name]` is added to the
            activation `name` before it is used.
        x: images [B, H, W, C] in the model's own scale.
        target: class, int or int32 [B]; None explains the class with the highest logit.
        layer: name of an activation: [B, h, w, C], or tokens [B, T, C] with or without a class
            token in front.
        extent: (height, width) of the part of the image that f reads, from its first pixel; None
            for all of it.
        resize: see `lay_over`.
        positive: keep what speaks for the target only, as the paper does; False keeps the signs.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        float32 [B, H, W], not negative unless `positive` is False, zero outside the extent. Not
        normalised: values of several images compare.

    Raises:
        ValueError: f has no activation of that name or it is no grid; see also `resolve_target`.
    """
    return gradient_maps(
        _mean_weights,
        f,
        params,
        x,
        target,
        layer=layer,
        extent=extent,
        resize=resize,
        positive=positive,
        memory_budget=memory_budget,
    )


def _mean_weights(gradients, values) -> jax.Array:
    return (gradients.mean((1, 2), keepdims=True) * values).sum(-1)
