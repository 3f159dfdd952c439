"""Attribution methods by name, with one signature: what `Run.explain` and the report call."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.attention import attention_rollout
from xai_traffic.explain.cams import (
    eigen_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from xai_traffic.explain.expected_gradients import expected_gradients
from xai_traffic.explain.grad_cam import grad_cam
from xai_traffic.explain.gradient_weighted_attention import gradient_weighted_attention
from xai_traffic.explain.gradients import gradient, gradient_x_input
from xai_traffic.explain.integrated_gradients import (
    empty_packets,
    integrated_gradients,
    uniform_baselines,
)
from xai_traffic.explain.lrp import attn_lrp, lrp
from xai_traffic.explain.model_function import ModelFunction
from xai_traffic.explain.occlusion import occlusion
from xai_traffic.explain.owen import owen_values
from xai_traffic.explain.path_methods import blur_ig, guided_ig
from xai_traffic.explain.players import PlayerValues, spread
from xai_traffic.explain.rise import rise
from xai_traffic.explain.score_cam import ablation_cam, score_cam
from xai_traffic.explain.shapley import kernel_shap
from xai_traffic.explain.short_sessions import Extents, explain_cut
from xai_traffic.explain.smoothing import smooth_grad, var_grad

METHODS = {
    "integrated_gradients": "Integrated Gradients",
    "integrated_gradients_seed": "Integrated Gradients, the seed study's variant",
    "gradient_x_input": "Gradient x input",
    "gradient": "Gradient",
    "lrp_epsilon": "LRP, epsilon rule",
    "lrp_gamma": "LRP, gamma rule in convolutions",
    "lrp_alpha_beta": "LRP, alpha-beta rule",
    "attn_lrp": "AttnLRP",
    "smooth_grad": "SmoothGrad",
    "var_grad": "VarGrad",
    "expected_gradients": "Expected Gradients",
    "blur_ig": "Blur IG",
    "guided_ig": "Guided IG",
    "occlusion": "Occlusion of fields",
    "owen_values": "Owen values of fields in packets",
    "kernel_shap": "Shapley values of packets",
    "rise": "RISE over packets",
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
    "smooth_grad",
    "expected_gradients",
    "blur_ig",
    "guided_ig",
    "occlusion",
    "owen_values",
    "kernel_shap",
    "rise",
)
"""Methods that give every byte a signed value: its own, or its part of its field's or packet's."""

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

GRADIENTS = {"gradient": gradient, "gradient_x_input": gradient_x_input}
PATHS = {"blur_ig": blur_ig, "guided_ig": guided_ig}
NOISY = {"smooth_grad": smooth_grad, "var_grad": var_grad}

PLAYERS = {
    "occlusion": (occlusion, "fields"),
    "owen_values": (owen_values, "fields"),
    "kernel_shap": (kernel_shap, "packets"),
    "rise": (rise, "packets"),
}
"""Methods that ask what players add, and the unit that is a player."""

EMPTY_STAYS = (
    *("integrated_gradients", "gradient", "gradient_x_input"),
    *("occlusion", "owen_values", "kernel_shap", "rise"),
)
"""Methods that leave empty packets empty, of their own accord."""

FILLING = ("baselines", "baseline", "removal")
"""Options that may put something there."""

RESAMPLED = "expected_gradients"
"""The method that draws its baselines from data."""


TOLERANCE = 1e-3
"""Completeness error, relative, that Integrated Gradients are asked for unless told otherwise."""


@dataclasses.dataclass(frozen=True)
class Attribution:
    """What a method returns.

    Args:
        attributions: float32 [B, H, W].
        completeness_error: float32 [B], by how many logits the attributions miss the rise of the
            logit that they should sum to, where the method has one, else None.
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
    groups: Mapping[str, np.ndarray] | None = None,
    references=None,
    extents: Extents = (),
    **options,
) -> Attribution:
    """Explain the target's logit at x by the method of that name.

    Args:
        method: one of METHODS.
        f: `f(params, x, taps=None) -> (logits, activations)`; methods of PER_BYTE ask for logits
            only.
        extent: (height, width) of the part of the image that f reads; None for all of it.
        groups: players by unit, see `session_groups`; methods of PLAYERS need them.
        references: [N, ...], of x's kind, for Expected Gradients alone.
        extents: (height, width) that f takes images in as well (`Model.extents`), and gives the
            same logits while all that is cut off is empty: methods of EMPTY_STAYS then cost the
            packets that there are, unless they name one of FILLING.
        options: handed to the method. Integrated Gradients begin at `empty_packets` unless they
            name baselines, and take the steps that TOLERANCE needs unless they name another, their
            steps or their rule. What is drawn is drawn from `jax.random.key(0)` or seed 0.

    Raises:
        ValueError: the method is unknown, cannot explain f, or lacks groups or references.
    """
    if extents and method in EMPTY_STAYS and not options.keys() & set(FILLING):

        def explain(x, target, groups) -> tuple:
            found = attribute(method, f, params, x, target, groups=groups, **options)
            return found.attributions, found.completeness_error

        return Attribution(*explain_cut(explain, x, target, groups, extents))
    places = (f, params, x)
    if method == "integrated_gradients":
        options.setdefault("baselines", empty_packets(x))
        if not {"steps", "rule"} & options.keys():
            options.setdefault("tolerance", TOLERANCE)
        return Attribution(*integrated_gradients(*places, target, **options))
    if method == "integrated_gradients_seed":
        options = {"steps": 50, "rule": "trapezoid", **options}
        options.setdefault("baselines", uniform_baselines(np.shape(x)[1:]))
        return Attribution(*integrated_gradients(*places, target, **options))
    if method in GRADIENTS:
        return Attribution(GRADIENTS[method](*places, target, **options))
    if method in NOISY:
        options.setdefault("rng", jax.random.key(0))
        return Attribution(NOISY[method](*places, target, **options))
    if method in PATHS:
        return Attribution(*PATHS[method](*places, target, **options))
    if method == RESAMPLED:
        if references is None:
            raise ValueError("name references, inputs that baselines are drawn from")
        options.setdefault("rng", jax.random.key(0))
        return Attribution(*expected_gradients(*places, references, target, **options))
    if method in CAMS:
        return Attribution(CAMS[method](*places, target, extent=extent, **options))
    if method in LRP:
        # What biases keep is no error: `lrp` itself tells of it.
        return Attribution(lrp(*places, target, **{"rule": LRP[method], **options}).attributions)
    if method == "attn_lrp":
        return Attribution(attn_lrp(*places, target, **options).attributions)
    if method == "attention":
        return Attribution(attention_rollout(*places, extent=extent, **options))
    if method == "gradient_weighted_attention":
        return Attribution(gradient_weighted_attention(*places, target, extent=extent, **options))
    if method in PLAYERS:
        if groups is None:
            raise ValueError("hand over groups, the players of each session (session_groups)")
        return _players(method, places, groups, target, options)
    raise ValueError(f"method {method!r} is unknown: choose one of {', '.join(METHODS)}")


def _players(method: str, places: tuple, groups, target, options: dict) -> Attribution:
    """Lay what players are worth over their bytes."""
    explain, unit = PLAYERS[method]
    more = (_packets_of(groups),) if method == "owen_values" else ()
    found = explain(*places, groups[unit], *more, target, **options)
    error = None
    if isinstance(found, PlayerValues):
        error = jnp.asarray(found.completeness_error, np.float32)
        found = found.values
    elif isinstance(found, tuple):
        found = found[0]  # RISE: the rest is its standard errors
    laid = spread(found, groups[unit], places[2])
    return Attribution(jnp.asarray(laid[..., 0], np.float32), error)


def _packets_of(groups) -> np.ndarray:
    """Return the packet that each field lies in, int [B, P]."""
    fields, packets = (
        groups[unit].reshape(len(groups[unit]), -1) for unit in ("fields", "packets")
    )
    found = np.zeros((len(fields), fields.max() + 2), np.int32)
    np.put_along_axis(found, fields, packets, axis=1)  # what has no field falls upon the last
    return found[:, :-1]
