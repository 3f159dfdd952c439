"""The attribution library: explains any JAX function f(params, x) -> logits.

Explainers are functions; the model's function, its parameters and the very input it was trained on
go in, float32 [B, H, W] come out, in logits. `aggregate` takes them on to bytes, protocol fields
and packets.
"""

from xai_traffic.explain.aggregate import Shares, byte_shares, field_units, session_fields, tiles_of
from xai_traffic.explain.agreement import input_dependence, spearman, top_k_overlap
from xai_traffic.explain.attention import attention, attention_layers, attention_rollout
from xai_traffic.explain.baselines import blurred_baselines, mean_baseline
from xai_traffic.explain.cams import (
    eigen_cam,
    grad_cam_plus_plus,
    hires_cam,
    layer_cam,
    xgrad_cam,
)
from xai_traffic.explain.controls import edges, random_attributions
from xai_traffic.explain.counterfactual import Counterfactual, counterfactual
from xai_traffic.explain.deletion import Curves, deletion_curves
from xai_traffic.explain.expected_gradients import expected_gradients
from xai_traffic.explain.grad_cam import grad_cam
from xai_traffic.explain.gradient_weighted_attention import gradient_weighted_attention
from xai_traffic.explain.gradients import gradient, gradient_x_input
from xai_traffic.explain.integrated_gradients import (
    empty_packets,
    integrated_gradients,
    uniform_baselines,
)
from xai_traffic.explain.lrp import Relevance, attn_lrp, lrp
from xai_traffic.explain.methods import (
    METHODS,
    NEED_ATTENTION,
    PER_BYTE,
    Attribution,
    attribute,
)
from xai_traffic.explain.occlusion import occlusion
from xai_traffic.explain.owen import owen_values
from xai_traffic.explain.path_methods import blur_ig, guided_ig
from xai_traffic.explain.players import (
    PlayerValues,
    field_groups,
    masked_logits,
    packet_groups,
    spread,
    window_groups,
)
from xai_traffic.explain.randomisation import cascading_randomisation, randomised
from xai_traffic.explain.rise import rise
from xai_traffic.explain.score_cam import ablation_cam, score_cam
from xai_traffic.explain.shapley import exact_shapley, kernel_shap
from xai_traffic.explain.smoothing import smooth_grad, var_grad
from xai_traffic.explain.sparseness import gini
from xai_traffic.explain.stability import gaussian, infidelity, max_sensitivity
from xai_traffic.explain.token_grid import lay_over

__all__ = [
    "METHODS",
    "NEED_ATTENTION",
    "PER_BYTE",
    "Attribution",
    "Counterfactual",
    "Curves",
    "PlayerValues",
    "Relevance",
    "Shares",
    "ablation_cam",
    "attention",
    "attention_layers",
    "attention_rollout",
    "attn_lrp",
    "attribute",
    "blur_ig",
    "blurred_baselines",
    "byte_shares",
    "cascading_randomisation",
    "counterfactual",
    "deletion_curves",
    "edges",
    "eigen_cam",
    "empty_packets",
    "exact_shapley",
    "expected_gradients",
    "field_groups",
    "field_units",
    "gaussian",
    "gini",
    "grad_cam",
    "grad_cam_plus_plus",
    "gradient",
    "gradient_weighted_attention",
    "gradient_x_input",
    "guided_ig",
    "hires_cam",
    "infidelity",
    "input_dependence",
    "integrated_gradients",
    "kernel_shap",
    "lay_over",
    "layer_cam",
    "lrp",
    "masked_logits",
    "max_sensitivity",
    "mean_baseline",
    "occlusion",
    "owen_values",
    "packet_groups",
    "random_attributions",
    "randomised",
    "rise",
    "score_cam",
    "session_fields",
    "smooth_grad",
    "spearman",
    "spread",
    "tiles_of",
    "top_k_overlap",
    "uniform_baselines",
    "var_grad",
    "window_groups",
    "xgrad_cam",
]
