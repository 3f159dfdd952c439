"""What each step of a flow is to relevance, and where its linear layers begin and end."""

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
    is_linear,
    is_zero,
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


@dataclasses.dataclass(frozen=True, eq=False)
class Plan:
    """What each step of a flow is to relevance.

    Args:
        kinds: of the steps on relevance's way, by the number of what they make: "linear",
            "product", "function", "choice" or "softmax".
        blocks: (source, steps) by output, of steps that act as one: a function or a softmax.
        makers: step by output.
        data: values on the data's way.
        borders: values at which linear layers begin and end.
        flow: what it is the plan of.
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


def layer_of(plan: Plan, output: int) -> Layer:
    """Gather the layer that makes a value: back to the borders, on the data's way."""
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


def never_negative(plan: Plan, number: int) -> bool:
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
        return fine and all(never_negative(plan, n) for n in inputs)
    return False


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
    linear = all(is_linear(step, data, flow) for step in steps)
    linear = linear or names == {"select_n"}  # of one value: there is nothing to choose
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
