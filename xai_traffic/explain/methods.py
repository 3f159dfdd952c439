"""Attribution methods by name, with one signature: what `Run.explain` and the report call."""

from __future__ import annotations

import dataclasses

import jax
import numpy as np

from xai_traffic.explain.attention import attention_rollout
from xai_traffic.explain.cams import (
    eigen_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from xai_traffic.explain.grad_cam import grad_cam
from xai_traffic.explain.gradient_weighted_attention import gradient_weighted_attention
from xai_traffic.explain.gradients import gradient, gradient_x_input
from xai_traffic.explain.integrated_gradients import (
    empty_packets,
    integrated_gradients,
    uniform_baselines,
)
from xai_traffic.explain.lrp import Relevance, attn_lrp, lrp
from xai_traffic.explain.model_function import ModelFunction
from xai_traffic.explain.score_cam import ablation_cam, score_cam

METHODS = {
    "integrated_gradients": "Integrated Gradients",
    "integrated_gradients_seed": "Integrated Gradients, the seed study's variant",
    "gradient_x_input": "Gradient x input",
    "gradient": "Gradient",
    "lrp_epsilon": "LRP, epsilon rule",
    "lrp_gamma": "LRP, gamma rule in convolutions",
    "lrp_alpha_beta": "LRP, alpha-beta rule",
    "attn_lrp": "AttnLRP",
    "grad_cam": "Grad-CAM",
    "grad_cam_plus_plus": "Grad-CAM++",
    "hires_cam": "HiResCAM",
    "xgrad_cam": "XGrad-CAM",
    "layer_cam": "LayerCAM",
    "eigen_cam": "Eigen-CAM",
    "score_cam": "Score-CAM",
    "ablation_cam": "Ablation-CAM",
    "attention": "Attention rollout",
    "gradient_weighted_attention": "Gradient-weighted attention",
}
"""Names and titles, those first that tell bytes apart."""

PER_BYTE = (
    "integrated_gradients",
    "integrated_gradients_seed",
    "gradient_x_input",
    "gradient",
    "lrp_epsilon",
    "lrp_gamma",
    "lrp_alpha_beta",
    "attn_lrp",
)
"""Methods that give every byte a signed value of its own."""

ATTENTIVE = ("attn_lrp", "attention", "gradient_weighted_attention")
"""Methods for transformers: of a model without attention they say nothing, or nothing new."""

LRP = {"lrp_epsilon": "epsilon", "lrp_gamma": "composite", "lrp_alpha_beta": "alpha_beta"}
"""Rules of the methods that are `lrp`."""

CAMS = {
    "grad_cam": grad_cam,
    "grad_cam_plus_plus": grad_cam_plus_plus,
    "hires_cam": hires_cam,
    "xgrad_cam": xgrad_cam,
    "layer_cam": layer_cam,
    "eigen_cam": eigen_cam,
    "score_cam": score_cam,
    "ablation_cam": ablation_cam,
}
"""Methods that weigh an activation of the model, all called alike."""


TOLERANCE = 1e-3
"""Completeness error, relative, that Integrated Gradients are asked for unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What a method returns.

    Args:
        attributions: float32 [B, H, W].
        completeness_error: float32 [B], by how many logits the attributions miss what they should
            sum to, where the method says what that is, else None.
    """

    attributions: jax.Array
    completeness_error: jax.Array | None = None


def attribute(
    method: str,
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    extent: tuple[int, int] | None = None,
    **options,
) -> Attribution:
    """Explain the target's logit at x by the method of that name.

    Args:
        method: one of METHODS.
        f: `f(params, x, taps=None) -> (logits, activations)`; methods of PER_BYTE ask for logits
            only.
        extent: (height, width) of the part of the image that f reads; None for all of it.
        options: handed to the method. Integrated Gradients begin at `empty_packets` unless they
            name baselines, and take the steps that TOLERANCE needs unless they name another, their
            steps or their rule.

    Raises:
        ValueError: the method is unknown or cannot explain f.
    """
    if method == "integrated_gradients":
        options.setdefault("baselines", empty_packets(x))
        if not {"steps", "rule"} & options.keys():
            options.setdefault("tolerance", TOLERANCE)
        return Attribution(*integrated_gradients(f, params, x, target, **options))
    if method == "integrated_gradients_seed":
        options = {"steps": 50, "rule": "trapezoid", **options}
        options.setdefault("baselines", uniform_baselines(np.shape(x)[1:]))
        return Attribution(*integrated_gradients(f, params, x, target, **options))
    if method == "gradient_x_input":
        return Attribution(gradient_x_input(f, params, x, target, **options))
    if method == "gradient":
        return Attribution(gradient(f, params, x, target, **options))
    if method in CAMS:
        return Attribution(CAMS[method](f, params, x, target, extent=extent, **options))
    if method in LRP:
        return _relevance(lrp(f, params, x, target, **{"rule": LRP[method], **options}))
    if method == "attn_lrp":
        return _relevance(attn_lrp(f, params, x, target, **options))
    if method == "gradient_weighted_attention":
        weighted = gradient_weighted_attention(f, params, x, target, extent=extent, **options)
        return Attribution(weighted)
    if method == "attention":
        return Attribution(attention_rollout(f, params, x, extent=extent, **options))
    raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")


def _relevance(found: Relevance) -> Attribution:
    # Of the logit attributions miss what biases kept: the conservation error counts that in.
    return Attribution(found.attributions, abs(found.biases + found.lost))
