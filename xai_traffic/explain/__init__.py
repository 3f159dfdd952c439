"""The attribution library: explains any JAX function f(params, x) -> logits.

Explainers are functions; the model's function, its parameters and the very input it was trained on
go in, float32 [B, H, W] come out, in logits. `aggregate` takes them on to bytes, protocol fields
and packets.
"""

from xai_traffic.explain.aggregate import Shares, byte_shares, field_units, session_fields, tiles_of
from xai_traffic.explain.attention import attention, attention_layers, attention_rollout
from xai_traffic.explain.controls import edges, random_attributions
from xai_traffic.explain.expected_gradients import expected_gradients
from xai_traffic.explain.grad_cam import grad_cam
from xai_traffic.explain.gradients import gradient, gradient_x_input
from xai_traffic.explain.integrated_gradients import (
    empty_packets,
    integrated_gradients,
    uniform_baselines,
)
from xai_traffic.explain.methods import METHODS, PER_BYTE, Attribution, attribute
from xai_traffic.explain.path_methods import blur_ig, guided_ig
from xai_traffic.explain.smoothing import smooth_grad, var_grad
from xai_traffic.explain.token_grid import lay_over

__all__ = [
    "METHODS",
    "PER_BYTE",
    "Attribution",
    "Shares",
    "attention",
    "attention_layers",
    "attention_rollout",
    "attribute",
    "blur_ig",
    "byte_shares",
    "edges",
    "empty_packets",
    "expected_gradients",
    "field_units",
    "grad_cam",
    "gradient",
    "gradient_x_input",
    "guided_ig",
    "integrated_gradients",
    "lay_over",
    "random_attributions",
    "session_fields",
    "smooth_grad",
    "tiles_of",
    "uniform_baselines",
    "var_grad",
]
