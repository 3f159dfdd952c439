"""Layer-wise relevance propagation on any JAX function, transformers included."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp

from xai_traffic.explain.dataflow import flow_of, run
from xai_traffic.explain.linear_layers import is_bilinear_call
from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    logits_of,
    map_batches,
    resolve_target,
    sum_channels,
)
from xai_traffic.explain.relevance import relevance
from xai_traffic.explain.relevance_plan import plan_of
from xai_traffic.explain.relevance_rules import Rule

HELD = {"epsilon": 2, "composite": 4, "gamma": 4, "alpha_beta": 4}
"""How many times the memory of a gradient a rule takes, about."""


class Relevance(NamedTuple):
    """Relevance of the input, and where the rest of the logit went.

    Args:
        attributions: float32 [B, H, W], channels summed (other shapes: that of x).
        conservation_error: float32 [B], |logit - attributions - biases - lost| in logits, each
            summed.
        biases: float32 [B], what biases and other constants of the model kept.
        lost: float32 [B], what nobody got: what epsilon keeps, and under alpha-beta what a layer
            could not share, having no contribution of that sign.
    """

    attributions: jax.Array
    conservation_error: jax.Array
    biases: jax.Array
    lost: jax.Array


def lrp(
    f: ModelFunction,
    params,
    x,
    target=None,
    *,
    rule: str = "composite",
    epsilon: float = 1e-6,
    gamma: float = 0.25,
    alpha: float = 2.0,
    beta: float = 1.0,
    memory_budget: int | None = None,
) -> Relevance:
    """Hand the target's logit down through f, layer by layer, to the values of x.

    Sources: Bach et al., On Pixel-Wise Explanations for Non-Linear Classifier Decisions by
    Layer-Wise Relevance Propagation, PLoS ONE 2015 (epsilon, alpha-beta); Montavon et al.,
    Layer-Wise Relevance Propagation: An Overview, 2019 (gamma); Achtibat et al., AttnLRP, ICML 2024
    (what transformers have besides, see `attn_lrp`).

    f may be any function: its steps are read off its trace, and rules apply to linear layers,
    however they are written (see `linear_layers`). Batch normalisation in inference mode folds into
    the layer before it. Biases are layers' inputs like others: what they get is counted, not handed
    on. Sums of branches belong to the layer whose result they add. Layers without weights (means,
    sums of branches alone, a layer norm's centring) always take epsilon. A function of one value
    hands on all but what it has at zero; a maximum gives all to what it chose. Bytes of value zero
    have no relevance.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: images [B, H, W, C] in the model's own scale, or any shape [B, ...].
        target: class, int or int32 [B]; None explains the class with the highest logit.
        rule: "epsilon" is gradient x input in networks of linear layers, ReLU and maxima, and as
            noisy; "gamma" favours, "alpha_beta" separates contributions by sign, and both are
            calmer. "composite", the default, is gamma where weights are shared between places (in
            convolutions, where sums cancel most) and epsilon in dense layers (where a verdict
            weighs pro and contra), as Montavon et al. advise.
        epsilon: added to divisors, away from zero.
        gamma: of "gamma" and "composite".
        alpha, beta: of "alpha_beta"; (1, 0) leaves out what speaks against.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        Relevance. Attributions, biases and what was lost sum to the logit.

    Raises:
        ValueError: a primitive of f has no rule, such as a loop's, and is named; a value of the
            rule's means nothing; see also `resolve_target`.
    """
    x = as_float(x)
    choice = Rule(rule, float(epsilon), float(gamma), float(alpha), float(beta))
    choice.check()
    at_once = examples_at_once(f, params, x, memory_budget)
    target = resolve_target(f, params, x, target, at_once)
    kernel = compiled(_relevance, f, choice)
    at_once = max(1, at_once // HELD[rule])
    return map_batches(lambda *piece: kernel(params, *piece), at_once, x, target)


def attn_lrp(f: ModelFunction, params, x, target=None, **options) -> Relevance:
    """Hand the target's logit down through a transformer by AttnLRP's rules.

    Source: Achtibat et al., AttnLRP: Attention-Aware Layer-Wise Relevance Propagation for
    Transformers, ICML 2024. Softmax by its first-order term, products of two data-dependent values
    half to each, layer norms with their standard deviation held constant, functions of one value
    by the identity rule, linear layers by epsilon. It is `lrp` with `rule="epsilon"`, which knows
    these rules; `rule="composite"` takes gamma in the layers of tokens, which the paper advises
    for vision transformers. Arguments, result and errors as `lrp`.
    """
    return lrp(f, params, x, target, **{"rule": "epsilon", **options})


def _relevance(f, rule, params, x, target) -> Relevance:
    flow = flow_of(lambda v: logits_of(f, params, v), x[:1], is_bilinear_call)
    plan = plan_of(flow)

    def one(x, target):
        values = run(flow, x[None])
        logits = values[flow.output]
        seed = jax.nn.one_hot(target, logits.shape[1], dtype=logits.dtype)[None]
        attributions, biases, lost = relevance(plan, values, seed, rule)
        error = jnp.abs((seed * logits).sum() - attributions.sum() - biases - lost)
        return Relevance(attributions[0], error, biases, lost)

    found = jax.vmap(one)(x, target)
    return found._replace(attributions=sum_channels(found.attributions))
