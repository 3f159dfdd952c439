"""Relevance, handed down from a logit through everything that a model function does.

Relevance R of a value v is kept as g = R / v, which stays finite where v is zero. Then what only
moves, chooses or multiplies passes g on as plain gradients are, and attributions are input times g.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp

from xai_traffic.explain.dataflow import Step
from xai_traffic.explain.linear_layers import (
    MOVES,
    contributions,
    is_zero,
    offset,
    shares_weights,
    total,
)
from xai_traffic.explain.relevance_plan import Plan, layer_of, never_negative
from xai_traffic.explain.relevance_rules import (
    Rule,
    by_alpha_beta,
    by_epsilon,
    by_gamma,
    quotient,
    stable,
)

NEAR_ZERO = 1e-2
"""Inputs of smaller size take a function's derivative half way for its chord, which rounds."""

NEVER_CHOSEN = 1e30
"""Size from which on a constant stands for an infinite one."""


def relevance(plan: Plan, values: dict, seed, rule: Rule):
    """Hand the relevance seed * output down to the flow's argument.

    Args:
        values: of all steps, by number, see `dataflow.run`.
        seed: of the output's shape, g at the output.

    Returns:
        attributions in the argument's shape; what biases and other constants kept; what was lost,
        see `relevance_rules.Sent`.
    """
    flow = plan.flow
    given = {flow.output: seed.astype(values[flow.output].dtype)}
    biases, lost = jnp.float32(0), jnp.float32(0)
    for step in reversed(flow.steps):
        output = step.outputs[0]
        if output not in given:
            continue
        g = given.pop(output)
        hand = HANDS[plan.kinds[output]]
        parts, kept, missing = hand(plan, values, step, g, rule)
        biases, lost = biases + kept, lost + missing
        for number, part in parts:
            part = part.astype(values[number].dtype)
            given[number] = given[number] + part if number in given else part
    x = values[flow.source]
    g = given.get(flow.source, jnp.zeros_like(x))
    return x * g, biases, lost


def _through_layer(plan: Plan, values, step, g, rule: Rule):
    layer = layer_of(plan, step.outputs[0])
    leaves = [values[number] for number in layer.leaves]
    y = values[layer.output].astype(jnp.float32)
    g = g.astype(jnp.float32)

    def sums(leaves):
        return total(layer, values, leaves)

    bias = offset(layer, values)
    if bias is None and all(part.name in MOVES for part in layer.steps):
        # Nothing is weighed against anything: no divisor, and nothing lost.
        (parts,) = jax.vjp(sums, leaves)[1](g.astype(values[layer.output].dtype))
        return list(zip(layer.leaves, parts, strict=True)), 0.0, 0.0

    bias = jnp.float32(0) if bias is None else bias.astype(jnp.float32)
    shared = shares_weights(layer, plan.data, plan.flow)
    name = rule.name
    if name == "composite":
        name = "gamma" if shared else "epsilon"
    if shared is None or name == "epsilon" or (name == "gamma" and rule.gamma == 0):
        sent = by_epsilon(rule, g, y, bias)
        out, back = jax.vjp(sums, leaves)
        (parts,) = back(sent.up.astype(out.dtype))
        return list(zip(layer.leaves, parts, strict=True)), sent.biases, sent.lost

    above = [jnp.maximum(leaf, 0) for leaf in leaves]
    below = [
        None if never_negative(plan, number) else jnp.maximum(-leaf, 0)
        for number, leaf in zip(layer.leaves, leaves, strict=True)
    ]
    found, back = jax.vjp(lambda *pair: contributions(layer, values, *pair), above, below)
    by = by_gamma if name == "gamma" else by_alpha_beta
    sent = by(rule, g, y, *(part.astype(jnp.float32) for part in found), bias)
    ups, downs = back(
        tuple(f.astype(part.dtype) for f, part in zip((sent.up, sent.down), found, strict=True))
    )
    parts = [
        up if down is None else jnp.where(leaf < 0, -down, up)
        for leaf, up, down in zip(leaves, ups, downs, strict=True)
    ]
    return list(zip(layer.leaves, parts, strict=True)), sent.biases, sent.lost


def _through_product(plan: Plan, values, step, g, rule: Rule):
    """Halve what two factors, both data, have made (Achtibat et al. 2024)."""
    y = values[step.outputs[0]]
    wide, relevant = y.astype(jnp.float32), g.astype(jnp.float32)
    factor = quotient(relevant * wide, stable(wide, rule.epsilon))
    pair = [values[number] for number in step.inputs]
    parts = jax.vjp(lambda *pair: step.apply(*pair)[0], *pair)[1](factor.astype(y.dtype))
    halves = [(number, part / 2) for number, part in zip(step.inputs, parts, strict=True)]
    return halves, 0.0, jnp.sum(relevant * wide - factor * wide)


def _through_function(plan: Plan, values, step, g, rule: Rule):
    """Pass relevance on whole, less what the function has at zero: that is a bias."""
    output = step.outputs[0]
    source, steps = plan.blocks[output]
    s = values[source]
    if _is_relu(plan, step):
        return [(source, jnp.where(s > 0, g, 0))], 0.0, 0.0
    f = _callable(plan, values, source, steps)
    start = f(jnp.zeros_like(s)).astype(jnp.float32)
    wide, y = s.astype(jnp.float32), values[output].astype(jnp.float32)
    slope = jax.jvp(f, (s / 2,), (jnp.ones_like(s),))[1].astype(jnp.float32)
    near = jnp.where(start == 0, s == 0, jnp.abs(wide) < NEAR_ZERO)
    ratio = jnp.where(near, slope, quotient(y - start, wide))
    ratio = jnp.where(jnp.isfinite(ratio), ratio, 0.0)
    wide_g = g.astype(jnp.float32)
    given = wide_g * ratio
    # Not g * start: where the derivative stands in for the chord, the difference is the bias's.
    kept = jnp.where(start == 0, 0.0, wide_g * y - given * wide)
    return [(source, given)], jnp.sum(kept), 0.0


def _is_relu(plan: Plan, step: Step) -> bool:
    return step.name == "max" and any(is_zero(plan.flow.constants.get(n)) for n in step.inputs)


def _through_softmax(plan: Plan, values, step, g, rule: Rule):
    """Take the first-order term alone (Achtibat et al. 2024)."""
    output = step.outputs[0]
    source, steps = plan.blocks[output]
    s = values[source]
    (part,) = jax.vjp(_callable(plan, values, source, steps), s)[1](g)
    reached = jnp.where(part == 0, 0.0, part.astype(jnp.float32) * s.astype(jnp.float32))
    kept = jnp.sum(g.astype(jnp.float32) * values[output]) - jnp.sum(reached)
    return [(source, part)], kept, 0.0


def _through_choice(plan: Plan, values, step, g, rule: Rule):
    """Give all to what was chosen; constants that were keep theirs."""
    places = [
        place
        for place, number in enumerate(step.inputs)
        if jnp.issubdtype(jnp.result_type(values[number]), jnp.inexact)
    ]

    def chosen(*moving):
        operands = [values[number] for number in step.inputs]
        for place, value in zip(places, moving, strict=True):
            operands[place] = value
        return step.apply(*operands)[0]

    operands = [jnp.asarray(values[step.inputs[place]]) for place in places]
    parts = jax.vjp(chosen, *operands)[1](g)
    given, kept = [], jnp.float32(0)
    for place, operand, part in zip(places, operands, parts, strict=True):
        if step.inputs[place] in plan.data:
            given.append((step.inputs[place], part))
        else:
            # What stands for minus infinity is never chosen; its gradient is a rounding error.
            finite = jnp.where(jnp.abs(operand) < NEVER_CHOSEN, operand, 0).astype(jnp.float32)
            kept = kept + jnp.sum(part.astype(jnp.float32) * finite)
    return given, kept, 0.0


def _callable(plan: Plan, values, source: int, steps):
    def f(s):
        found = {source: s}
        for step in steps:
            arguments = [found.get(number, values.get(number)) for number in step.inputs]
            found.update(zip(step.outputs, step.apply(*arguments), strict=True))
        return found[steps[-1].outputs[0]]

    return f


HANDS = {
    "linear": _through_layer,
    "product": _through_product,
    "function": _through_function,
    "softmax": _through_softmax,
    "choice": _through_choice,
}
