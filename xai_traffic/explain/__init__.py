"""The attribution library: explains any JAX function f(params, x) -> logits.

Explainers are functions; the model's function, its parameters and the very input it was trained on
go in, float32 [B, H, W] come out, in logits. `aggregate` takes them on to bytes, protocol fields
and packets.
"""

from xai_traffic.explain.aggregate import Shares, byte_shares, field_units, session_fields, tiles_of
from xai_traffic.explain.agreement import input_dependence, spearman, top_k_overlap
from xai_traffic.explain.attention import attention, attention_layers, attention_rollout
from xai_traffic.explain.baselines import blurred_baselines, mean_baseline
from xai_traffic.explain.cams import eigen_cam, grad_cam_plus_plus, hires_cam, layer_cam, xgrad_cam
from xai_traffic.explain.card import FAIL, GRADES, LIMITS, PASS, WARN, Card, Check, card
from xai_traffic.explain.completeness import completeness_error
from xai_traffic.explain.comprehensiveness import comprehensiveness
from xai_traffic.explain.controls import edges, random_attributions
from xai_traffic.explain.counterfactual import Counterfactual, counterfactual
from xai_traffic.explain.deletion import Curves, deletion_curves, pixel_flipping
from xai_traffic.explain.devices import over_devices
from xai_traffic.explain.expected_gradients import expected_gradients
from xai_traffic.explain.faithfulness import faithfulness
from xai_traffic.explain.field_replacement import drawn_fields
from xai_traffic.explain.grad_cam import grad_cam
from xai_traffic.explain.gradient_weighted_attention import gradient_weighted_attention
from xai_traffic.explain.gradients import gradient, gradient_x_input
from xai_traffic.explain.integrated_gradients import (
    empty_packets,
    integrated_gradients,
    uniform_baselines,
)
from xai_traffic.explain.localisation import (
    by_chance,
    pointing_game,
    relevance_mass,
    relevance_rank,
)
from xai_traffic.explain.lrp import Relevance, attn_lrp, lrp
from xai_traffic.explain.methods import ATTENTIVE, METHODS, PER_BYTE, Attribution, attribute
from xai_traffic.explain.metrics import (
    AGAIN,
    CHEAPER,
    METRICS,
    QUICK,
    Explainer,
    measure,
    session_groups,
)
from xai_traffic.explain.occlusion import occlusion
from xai_traffic.explain.ordered_removal import removed_logits
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
from xai_traffic.explain.randomisation import (
    cascading_randomisation,
    complexity_rise,
    label_randomisation,
    randomised,
)
from xai_traffic.explain.removal import Removal
from xai_traffic.explain.replacement import closed_up, draw_packets, drawn_packets
from xai_traffic.explain.rise import rise
from xai_traffic.explain.road import Road, road
from xai_traffic.explain.score_cam import ablation_cam, score_cam
from xai_traffic.explain.sensitivity_n import random_subsets, sensitivity_n
from xai_traffic.explain.shapley import exact_shapley, kernel_shap
from xai_traffic.explain.smoothing import smooth_grad, var_grad
from xai_traffic.explain.sparseness import gini
from xai_traffic.explain.stability import gaussian, infidelity, max_sensitivity
from xai_traffic.explain.sufficiency import sufficiency
from xai_traffic.explain.token_grid import lay_over
from xai_traffic.explain.traffic import Traffic, traffic_of

__all__ = [
    "AGAIN",
    "ATTENTIVE",
    "CHEAPER",
    "FAIL",
    "GRADES",
    "LIMITS",
    "METHODS",
    "METRICS",
    "PASS",
    "PER_BYTE",
    "QUICK",
    "WARN",
    "Attribution",
    "Card",
    "Check",
    "Counterfactual",
    "Curves",
    "Explainer",
    "PlayerValues",
    "Relevance",
    "Removal",
    "Road",
    "Shares",
    "Traffic",
    "ablation_cam",
    "attention",
    "attention_layers",
    "attention_rollout",
    "attn_lrp",
    "attribute",
    "blur_ig",
    "blurred_baselines",
    "by_chance",
    "byte_shares",
    "card",
    "cascading_randomisation",
    "closed_up",
    "completeness_error",
    "complexity_rise",
    "comprehensiveness",
    "counterfactual",
    "deletion_curves",
    "draw_packets",
    "drawn_fields",
    "drawn_packets",
    "edges",
    "eigen_cam",
    "empty_packets",
    "exact_shapley",
    "expected_gradients",
    "faithfulness",
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
    "label_randomisation",
    "lay_over",
    "layer_cam",
    "lrp",
    "masked_logits",
    "max_sensitivity",
    "mean_baseline",
    "measure",
    "occlusion",
    "over_devices",
    "owen_values",
    "packet_groups",
    "pixel_flipping",
    "pointing_game",
    "random_attributions",
    "random_subsets",
    "randomised",
    "relevance_mass",
    "relevance_rank",
    "removed_logits",
    "rise",
    "road",
    "score_cam",
    "sensitivity_n",
    "session_fields",
    "session_groups",
    "smooth_grad",
    "spearman",
    "spread",
    "sufficiency",
    "tiles_of",
    "top_k_overlap",
    "traffic_of",
    "uniform_baselines",
    "var_grad",
    "window_groups",
    "xgrad_cam",
]
