"""Grad-CAM's kin: other ways to weigh an activation by its gradient, and one that needs none.

Every function takes the arguments of `grad_cam`, options included, and returns and raises what it
does. Those that take gradients differ in one line, which makes a map of gradients and values
[B, h, w, C]. A quotient whose divisor is zero counts as zero: an epsilon, as pytorch-grad-cam adds,
would let the scale of the logits decide how channels compare.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xai_traffic.explain.activations import (
    as_grid,
    as_images,
    finish,
    gradient_maps,
    values_at,
)
from xai_traffic.explain.model_function import (
    ModelFunction,
    compiled,
    examples_at_once,
    map_batches,
)


def grad_cam_plus_plus(f: ModelFunction, params, x, target=None, **options) -> jax.Array:
    """Weigh channels by their positive gradients, so that small and repeated evidence counts.

    Source: Chattopadhay et al., Grad-CAM++, 2018, equation 19. The paper's derivatives are those of
    exp(logit); the factor exp(logit), the same for all of an image, is left out as in
    pytorch-grad-cam, for it overflows.
    """
    return gradient_maps(_plus_plus, f, params, x, target, **options)


def hires_cam(f: ModelFunction, params, x, target=None, **options) -> jax.Array:
    """Multiply the activation by its gradient place by place, and sum the channels.

    Source: Draelos and Carin, Use HiResCAM instead of Grad-CAM, 2020. Where f is linear behind the
    activation, the cells of the signed map (`positive=False`) sum to the logit less its bias.
    """
    return gradient_maps(_elementwise, f, params, x, target, **options)


def xgrad_cam(f: ModelFunction, params, x, target=None, **options) -> jax.Array:
    """Weigh channels by their gradient, averaged with the activation itself as the weight.

    Source: Fu et al., Axiom-based Grad-CAM, 2020. The cells of the signed map sum to the sum of
    gradient times activation, whatever f (conservation). Made for activations behind a ReLU: a
    channel whose positive and negative values cancel out gets an arbitrarily large weight.
    """
    return gradient_maps(_axiomatic, f, params, x, target, **options)


def layer_cam(f: ModelFunction, params, x, target=None, **options) -> jax.Array:
    """Multiply the activation by its positive gradient place by place, and sum the channels.

    Source: Jiang et al., LayerCAM, 2021. Meant for early layers too, whose maps are fine.
    """
    return gradient_maps(_positive_elementwise, f, params, x, target, **options)


def eigen_cam(
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
    """Project an activation on its first principal component: what stands out, for any class.

    Source: Muhammad and Yeasin, Eigen-CAM, 2020. Channels are centred first, as in
    pytorch-grad-cam and unlike in the paper. The sign, which the decomposition leaves open, is the
    one that makes the value of largest magnitude positive (Chung and Ying, Seg-Eigen-CAM, 2025,
    equation 13).

    Args:
        target: not used; there so that all maps are called alike.
    """
    x = as_images(f, params, x, layer)
    extent = tuple(extent or x.shape[1:3])
    at_once = examples_at_once(f, params, x, memory_budget)
    kernel = compiled(_eigen_maps, f, layer, extent, resize, positive)
    return map_batches(lambda piece: kernel(params, piece), at_once, x)


def _plus_plus(gradients, values) -> jax.Array:
    # Equation 19 less the g^2 that numerator and denominator share.
    alphas = _quotient(1.0, 2 + values.sum((1, 2), keepdims=True) * gradients)
    weights = (alphas * jax.nn.relu(gradients)).sum((1, 2), keepdims=True)
    return (weights * values).sum(-1)


def _elementwise(gradients, values) -> jax.Array:
    return (gradients * values).sum(-1)


def _axiomatic(gradients, values) -> jax.Array:
    products = (gradients * values).sum((1, 2), keepdims=True)
    return (_quotient(products, values.sum((1, 2), keepdims=True)) * values).sum(-1)


def _positive_elementwise(gradients, values) -> jax.Array:
    return (jax.nn.relu(gradients) * values).sum(-1)


def _eigen_maps(f, layer, extent, resize, positive, params, x) -> jax.Array:
    values = as_grid(values_at(f, layer, params, x), extent)
    maps = first_component(values)
    return finish(maps, x.shape[1:3], extent, resize, positive)


def first_component(values: jax.Array) -> jax.Array:
    """Return positions' scores on the first principal component: [B, h, w, C] -> [B, h, w]."""
    points = values.reshape(values.shape[0], -1, values.shape[-1])
    points = points - points.mean(1, keepdims=True)
    left, lengths, _ = jnp.linalg.svd(points, full_matrices=False)
    scores = left[..., 0] * lengths[:, :1]
    flip = -scores.min(1, keepdims=True) > scores.max(1, keepdims=True)
    return jnp.where(flip, -scores, scores).reshape(values.shape[:-1])


def _quotient(above, below) -> jax.Array:
    """Return above / below, zero where below is."""
    return jnp.where(below == 0, 0.0, above / jnp.where(below == 0, 1.0, below))
