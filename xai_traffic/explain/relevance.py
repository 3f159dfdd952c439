"""Relevance, handed down from a logit through everything that a model function does.

Relevance R of a value v is kept as g = R / v, which stays finite where v is zero. Then what only
moves, chooses or multiplies passes g on as plain gradients are, and attributions are input times g.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.dataflow import Flow, Step
from xai_traffic.explain.linear_layers import (
    ADDITIONS,
    CONTRACTIONS,
    MOVES,
    SUMS,
    Layer,
    contributions,
    is_linear,
    is_zero,
    offset,
    shares_weights,
    total,
)
from xai_traffic.explain.relevance_rules import (
    Rule,
    by_alpha_beta,
    by_epsilon,
    by_gamma,
    quotient,
    stable,
)

FUNCTIONS = (
    "abs", "acosh", "asin", "asinh", "atan", "atanh", "cbrt", "clamp", "cos", "cosh", "erf", "erfc",
    "exp", "exp2", "expm1", "integer_pow", "log1p", "logistic", "max", "min", "pow", "sin", "sinh",
    "sqrt", "square", "tan", "tanh",
)  # fmt: skip
"""Of one value each, finite at zero."""

CHOICES = (
    "max", "min", "reduce_max", "reduce_min", "reduce_window_max", "reduce_window_min", "select_n",
    "pad", "dynamic_update_slice",
)  # fmt: skip
"""Return some of their operands and drop the others."""

HELD = (
    "ceil", "floor", "round", "rsqrt", "sign", "stop_gradient", "nextafter", "argmax", "argmin",
)  # fmt: skip
"""What they return is held constant: no relevance goes through."""

ELEMENTWISE = (
    *FUNCTIONS, *ADDITIONS, *HELD, "mul", "div", "select_n", "convert_element_type", "log",
    "eq", "ne", "lt", "le", "gt", "ge", "and", "or", "not", "is_finite",
)  # fmt: skip

NEAR_ZERO = 1e-2
"""Inputs of smaller size take a function's derivative half way for its chord, which rounds."""


NEVER_CHOSEN = 1e30
"""Size from which on a constant stands for an infinite one."""


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What each step of a flow is to relevance.

    Args:
        kinds: of the steps on relevance's way, by the number of what they make: "linear",
            "product", "function", "choice" or "softmax".
        blocks: (source, steps) by output, of steps that act as one: a function or a softmax.
        makers: step by output.
        data: values on the data's way.
        borders: values at which linear layers begin.
        shared: of `shares_weights`, by layer's output; filled as layers are found.
    """

    kinds: dict[int, str]
    blocks: dict[int, tuple[int, tuple[Step, ...]]]
    makers: dict[int, Step]
    data: set[int]
    borders: set[int]
    flow: Flow


def plan_of(flow: Flow) -> Plan:
    """Decide what each step is, and where layers begin.

    Raises:
        ValueError: a primitive on the data's way has no rule.
    """
    makers = {number: step for step in flow.steps for number in step.outputs}
    data = _on_the_way(flow)
    kinds, blocks, users = {}, {}, {}
    live = {flow.output} & data
    for step in reversed(flow.steps):
        output = step.outputs[0]
        if not live.intersection(step.outputs):
            continue
        kind, block = _kind(step, data, flow, makers)
        kinds[output] = kind
        if block is not None:
            blocks[output] = block
            read = [block[0]]
        else:
            places = step.inputs[:1] if step.name == "div" else step.inputs
            read = [number for number in places if number in data]
        live.update(read)
        for number in read:
            users.setdefault(number, []).append(output)
    borders = _borders(flow, kinds, users, makers, data)
    return Plan(kinds, blocks, makers, data, borders, flow)


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


def _on_the_way(flow: Flow) -> set[int]:
    """Return the values that depend on the argument and are not held constant."""
    data = {flow.source}
    for step in flow.steps:
        inputs = step.inputs[:1] if step.name == "div" else step.inputs
        moving = any(number in data for number in inputs)
        inverse = step.name == "integer_pow" and step.params["y"] < 0
        if not moving or inverse or step.name in HELD:
            continue
        data.update(
            number
            for number in step.outputs
            if jnp.issubdtype(flow.shapes[number].dtype, jnp.inexact)
        )
    return data


def _kind(step: Step, data, flow: Flow, makers):
    """Return the kind of a step, and its block where it ends one."""
    operands = [number for number in step.inputs if number in data]
    output = step.outputs[0]
    if step.name == "div" and len(operands) == 2:
        block = _softmax(step, flow, makers)
        if block:
            return "softmax", block
    if step.name in ELEMENTWISE and len(_dependent(step, flow)) > 1:
        source, steps = _block(step, flow, makers, ELEMENTWISE)
        if source in data and _is_function(steps, flow, source, output, data):
            return "function", (source, steps)
    if is_linear(step, data, flow):
        return "linear", None
    if step.name in ("mul", "dot_general", "conv_general_dilated") and len(operands) == 2:
        return "product", None
    if step.name in FUNCTIONS and len(operands) == 1 and len(step.outputs) == 1:
        source = operands[0]
        if flow.shapes[source].shape == flow.shapes[output].shape:
            return "function", (source, (step,))
    if step.name in CHOICES and len(step.outputs) == 1:
        return "choice", None
    raise ValueError(
        f"relevance has no rule for the primitive {step.name!r} on the way from x to the logits: "
        "write f without it, or take a method by gradients"
    )


def _dependent(step: Step, flow: Flow) -> set[int]:
    return {number for number in step.inputs if number not in flow.constants}


def _block(step: Step, flow: Flow, makers, allowed):
    """Walk back from a step until all ways meet in one value; (None, ()) where they do not."""
    pending, steps = _dependent(step, flow), [step]
    while len(pending) > 1:
        last = max(pending)
        maker = makers.get(last)
        if maker is None or maker.name not in allowed or len(maker.outputs) > 1:
            return None, ()
        pending.remove(last)
        pending |= _dependent(maker, flow)
        steps.append(maker)
    return pending.pop(), tuple(reversed(steps))


def _is_function(steps, flow, source, output, data) -> bool:
    """Tell whether a block is a nonlinear function of its source, value by value."""
    names = {step.name for step in steps}
    if len(steps) == 1:
        linear = steps[0].name in ADDITIONS or (
            steps[0].name == "select_n"  # of one value: nothing to choose
        )
    else:
        linear = names <= {*ADDITIONS, "convert_element_type", "mul", "div"} and all(
            is_linear(step, data, flow) for step in steps
        )
    same = flow.shapes[source].shape == flow.shapes[output].shape
    return same and not linear and not names & {"log", "rsqrt"}


def _softmax(step: Step, flow: Flow, makers):
    """Return (source, steps) of a softmax that ends in this division, None where it is none."""
    around = (*ELEMENTWISE, "reduce_sum", "reduce_max", "broadcast_in_dim", "reshape")
    source, steps = _block(step, flow, makers, around)
    maker = makers.get(source)
    if not any(s.name == "reduce_sum" for s in steps) or maker is None or maker.name != "exp":
        return None
    steps = (maker, *steps)
    (source,) = maker.inputs
    maker = makers.get(source)
    # What is subtracted before, for safety, changes nothing: its relevance would be arbitrary.
    if maker is not None and maker.name == "sub":
        origin, before = _block(maker, flow, makers, around)
        if origin == maker.inputs[0] and maker.inputs[0] != maker.inputs[1]:
            source, steps = origin, (*before, *steps)
    return source, steps


def _borders(flow, kinds, users, makers, data) -> set[int]:
    """Return where linear layers begin: see the head of `linear_layers`."""
    borders, mixed = {flow.source, flow.output}, set()
    for step in flow.steps:
        output = step.outputs[0]
        if output not in kinds:
            continue
        if kinds[output] != "linear":
            borders.add(output)
            continue
        inputs = {number for number in step.inputs if number in data}
        sums = len(inputs) > 1 and step.name in ADDITIONS
        if sums or step.name in CONTRACTIONS + SUMS or (inputs & mixed) - borders:
            mixed.add(output)
        after = users.get(output, [])
        if (
            any(kinds[user] != "linear" for user in after)
            or output in mixed
            and (len(after) > 1 or any(makers[user].name in CONTRACTIONS + SUMS for user in after))
        ):
            borders.add(output)
    return borders


def _layer(plan: Plan, output: int) -> Layer:
    steps, leaves, stack = {}, set(), [output]
    while stack:
        number = stack.pop()
        step = plan.makers.get(number)
        if number != output and (number in plan.borders or step is None):
            leaves.add(number)
        elif number not in steps:
            steps[number] = step
            read = step.inputs[:1] if step.name == "div" else step.inputs
            stack.extend(other for other in read if other in plan.data)
    ordered = tuple(steps[number] for number in sorted(steps))
    return Layer(ordered, tuple(sorted(leaves)), output)


def _through_layer(plan: Plan, values, step, g, rule: Rule):
    layer = _layer(plan, step.outputs[0])
    leaves = [values[number] for number in layer.leaves]
    y = values[layer.output].astype(jnp.float32)
    g = g.astype(jnp.float32)

    def sums(leaves):
        return total(layer, values, leaves)

    if all(s.name in MOVES and all(n in plan.data for n in s.inputs[:1]) for s in layer.steps):
        moved = offset(layer, values) is None
    else:
        moved = False
    if moved:
        (parts,) = jax.vjp(sums, leaves)[1](g.astype(values[layer.output].dtype))
        return list(zip(layer.leaves, parts, strict=True)), 0.0, 0.0

    bias = offset(layer, values)
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
        None if _never_negative(plan, number) else jnp.maximum(-leaf, 0)
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


def _never_negative(plan: Plan, number: int) -> bool:
    """Tell whether a value is known not to be negative, by the step that makes it."""
    step = plan.makers.get(number)
    if step is None:
        return False
    if number in plan.blocks and plan.kinds[number] == "softmax":
        return True
    if step.name in ("exp", "exp2", "abs", "logistic", "square", "sqrt"):
        return True
    inputs = [n for n in step.inputs if n in plan.data]
    if step.name == "max":
        known = [plan.flow.constants.get(n) for n in step.inputs if n in plan.flow.constants]
        if any(
            not isinstance(value, jax.core.Tracer) and np.all(np.asarray(value) >= 0)
            for value in known
        ):
            return True
    if step.name in ("max", "min", "reduce_max", "reduce_window_max", *MOVES):
        others = [n for n in step.inputs if n not in plan.data]
        fine = all(is_zero(plan.flow.constants.get(n)) for n in others)
        fine = fine or step.name in ("gather", "dynamic_slice", "reduce_window_max", "reduce_max")
        return fine and all(_never_negative(plan, n) for n in inputs)
    return False


def _through_product(plan: Plan, values, step, g, rule: Rule):
    """Halve what two factors, both data, have made (Achtibat et al. 2024, proposition 3.3)."""
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
    """Take the first-order term alone (Achtibat et al. 2024, proposition 3.1)."""
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
