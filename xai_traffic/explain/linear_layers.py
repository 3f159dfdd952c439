"""Linear layers as they stand in a flow: a weighted sum, and all that only moves or scales around.

A layer begins at values that nonlinear steps make and reaches to the next ones. It holds at most
one weighted sum on any way (a matrix product, a convolution, a sum of views times weights, all
alike), and what scales and shifts its result: a batch normalisation folds into it. So a rule for
the signs of weights sees the weights of the whole layer, however it is written.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from xai_traffic.explain.dataflow import CALLS, Flow, Step, flow_of

MOVES = (
    "broadcast_in_dim", "concatenate", "convert_element_type", "dynamic_slice", "expand_dims",
    "gather", "reduce_precision", "reshape", "rev", "slice", "squeeze", "stack", "transpose", "pad",
)  # fmt: skip
"""Every output is one of the inputs (a pad only where it adds zeros)."""

ADDITIONS = ("add", "add_any", "sub", "neg")
JOINS = ("add", "add_any", "sub", "concatenate", "stack")
SUMS = ("reduce_sum", "cumsum", "reduce_window_sum")
SCALES = ("mul", "div")
CONTRACTIONS = ("dot_general", "conv_general_dilated", *CALLS)
"""Products of data and weights that also sum; calls are kept only where they are such."""


@dataclasses.dataclass(frozen=True, eq=False)
class Layer:
    """Part of a flow that is linear in its leaves, up to a bias.

    Args:
        steps: in order.
        leaves: numbers of the values it begins at.
        output: number of the value it makes.
    """

    steps: tuple[Step, ...]
    leaves: tuple[int, ...]
    output: int


def is_linear(step: Step, data: set[int], flow: Flow) -> bool:
    """Tell whether a step is linear, up to a bias, in those of its inputs that are data."""
    moving = [number in data for number in step.inputs]
    if step.name == "pad":
        return moving[0] and not moving[1] and is_zero(flow.constants.get(step.inputs[1]))
    if step.name in ("mul", *CONTRACTIONS):
        return sum(moving) == 1
    if step.name == "div":
        return moving[0]
    return step.name in MOVES + ADDITIONS + SUMS


def is_zero(value) -> bool:
    """Tell whether a value is known to be zero throughout."""
    known = value is not None and not isinstance(value, jax.core.Tracer)
    return known and not np.any(np.asarray(value))


def is_bilinear_call(eqn, depends: Sequence[bool]) -> bool:
    """Tell whether a call multiplies its one dependent operand by one other, in any formulation.

    Such a call is kept whole: a rule then changes the operand it multiplies by, and how it goes
    about the product (Winograd's transforms have signs of their own) does not matter.
    """
    if eqn.primitive.name != "custom_vjp_call" or len(depends) != 2 or sum(depends) != 1:
        return False
    if len(eqn.outvars) != 1:
        return False
    closed = eqn.params["call_jaxpr"]
    shapes = [jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in eqn.invars]
    if not all(jnp.issubdtype(shape.dtype, jnp.inexact) for shape in shapes):
        return False

    def linear_in(place: int) -> bool:
        found = []

        def look(fixed) -> None:
            def function(moving):
                pair = (moving, fixed) if place == 0 else (fixed, moving)
                return jax.core.eval_jaxpr(closed.jaxpr, closed.consts, *pair)[0]

            found.append(_is_homogeneous(flow_of(function, shapes[place])))

        jax.eval_shape(look, shapes[1 - place])  # traced, so that no value of it is looked at
        return found[0]

    return all(linear_in(place) for place in range(2))


def _is_homogeneous(flow: Flow) -> bool:
    """Tell whether a flow is linear without a bias, by its steps."""
    data = {flow.source}
    for step in flow.steps:
        if not any(number in data for number in step.inputs):
            continue
        if step.name in CALLS or not is_linear(step, data, flow):
            return False
        rest = [flow.constants.get(number) for number in step.inputs if number not in data]
        if step.name in JOINS and not all(is_zero(value) for value in rest):
            return False
        data.update(step.outputs)
    return flow.output in data


def weight_place(step: Step, moving: Sequence[bool]) -> int | None:
    """Return which input is the weight of a step, None where it has none."""
    if step.name == "div":
        return 1
    return list(moving).index(False) if step.name in ("mul", *CONTRACTIONS) else None


def shares_weights(layer: Layer, data: set[int], flow: Flow) -> bool | None:
    """Tell whether the layer's weights meet more than one place; None: it has no weighted sum."""
    found, mixed, scaled = None, set(), set()
    for step in layer.steps:
        moving = [number in data for number in step.inputs]
        inputs = {number for number, moves in zip(step.inputs, moving, strict=True) if moves}
        (output,) = step.outputs
        adds = sum(moving) > 1 and step.name in ADDITIONS
        if step.name == "dot_general":
            contracted, batch = step.params["dimension_numbers"]
            side = moving.index(True)
            shape = flow.shapes[step.inputs[side]].shape
            own = set(range(len(shape))) - {*contracted[side], *batch[side]}
            found = bool(found) or any(shape[axis] > 1 for axis in own)
        elif step.name in CONTRACTIONS or (adds and inputs & scaled):
            found = True
        if adds or step.name in CONTRACTIONS + SUMS or inputs & mixed:
            mixed.add(output)
        elif inputs & scaled or (step.name in SCALES and _weighs(step, moving, flow)):
            scaled.add(output)
    return found


def _weighs(step: Step, moving: Sequence[bool], flow: Flow) -> bool:
    """Tell whether a step scales by an array; by a number it only changes the unit."""
    return bool(flow.shapes[step.inputs[weight_place(step, moving)]].shape)


def total(layer: Layer, values: dict, leaves: Sequence):
    """Return what the leaves contribute to the output, without the bias."""

    def one(step, arguments, moving):
        if step.name in ADDITIONS:
            return _add(step, *(a if m else None for a, m in zip(arguments, moving, strict=True)))
        return _apply(step, arguments, moving, values)

    return _follow(layer, values, leaves, one)


def offset(layer: Layer, values: dict):
    """Return the bias, what comes out where all leaves are zero; None for zero."""

    def one(step, arguments, moving):
        if step.name in ADDITIONS:
            bias = _add(step, *arguments)
            shape = values[step.outputs[0]].shape
            return bias if bias is None else jnp.broadcast_to(bias, shape)
        joins = step.name in ("concatenate", "stack") and not all(moving)
        return _apply(step, arguments, moving, values, constants=joins)

    return _follow(layer, values, [None] * len(layer.leaves), one)


def contributions(layer: Layer, values: dict, positive: Sequence, negative: Sequence):
    """Return the sums of positive and of negative contributions, both not negative.

    Args:
        positive, negative: parts of each leaf, none negative; None for zero.
    """

    def one(step, arguments, moving):
        place = weight_place(step, moving)
        if place is not None:
            up, down = arguments[1 - place]
            weight = arguments[place]
            if step.name == "div":
                weight = 1 / weight
            above, below = _split(weight)

            def times(array, weight):
                if array is None or weight is None:
                    return None
                if step.name in SCALES:
                    return lax.mul(array, jnp.asarray(weight, array.dtype))
                return step.apply(*((weight, array) if place == 0 else (array, weight)))[0]

            if up is not None and down is not None and step.name not in SCALES:
                # Both signs in one product: half as many steps to compile.
                both = jnp.stack([up, down])
                same, other = (jax.vmap(lambda a, w=w: times(a, w))(both) for w in (above, below))
                return same[0] + other[1], same[1] + other[0]
            return (
                _join(times(up, above), times(down, below)),
                _join(times(down, above), times(up, below)),
            )
        parts = [a if m else (None, None) for a, m in zip(arguments, moving, strict=True)]
        if step.name == "neg":
            return parts[0][::-1]
        if step.name == "sub":
            (up, down), (up_, down_) = parts
            return _join(up, down_), _join(down, up_)
        if step.name in ADDITIONS:
            (up, down), (up_, down_) = parts
            return _join(up, up_), _join(down, down_)
        return tuple(
            _apply(
                step,
                [p[i] if m else a for p, a, m in zip(parts, arguments, moving, strict=True)],
                moving,
                values,
            )
            for i in range(2)
        )

    found = _follow(layer, values, list(zip(positive, negative, strict=True)), one)
    like = values[layer.output]
    return tuple(
        jnp.zeros(like.shape, like.dtype) if part is None else jnp.broadcast_to(part, like.shape)
        for part in found
    )


def _follow(layer: Layer, values, leaves, one: Callable):
    found = dict(zip(layer.leaves, leaves, strict=True))
    for step in layer.steps:
        moving = [number in found for number in step.inputs]
        arguments = [
            found[number] if moves else values[number]
            for number, moves in zip(step.inputs, moving, strict=True)
        ]
        found[step.outputs[0]] = one(step, arguments, moving)
    return found[layer.output]


def _apply(step: Step, arguments, moving, values, constants: bool = False):
    """Apply a step to data some of which is None, for zero; constants that are data too become so.

    Args:
        constants: keep what is joined to the data, such as the class token.
    """
    joins = step.name in ("concatenate", "stack")
    if all(a is None for a, m in zip(arguments, moving, strict=True) if m) and not constants:
        return None
    filled = [
        jnp.zeros_like(values[number])
        if argument is None or (joins and not moves and not constants)
        else argument
        for number, argument, moves in zip(step.inputs, arguments, moving, strict=True)
    ]
    return step.apply(*filled)[0]


def _add(step: Step, first, second=None):
    if step.name == "neg":
        return None if first is None else -first
    if second is None:
        return first
    signed = -second if step.name == "sub" else second
    return signed if first is None else first + signed


def _join(first, second):
    if first is None or second is None:
        return second if first is None else first
    return first + second


def _split(weight):
    """Return the positive part and the size of the negative one; None for what is known as zero."""
    if not isinstance(weight, jax.core.Tracer) and np.size(weight) == 1:
        return (weight, None) if np.asarray(weight).item() >= 0 else (None, -weight)
    return jnp.maximum(weight, 0), jnp.maximum(-weight, 0)
