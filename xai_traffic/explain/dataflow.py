"""What a model function does to its input, as one flat list of steps, whatever it is written with.

Calls are entered (jit, remat, custom derivatives), and all that does not depend on the input is
worked out on the spot, so that the steps are those on the data's way alone.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
from jax import lax
from jax.extend import core

CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat": "jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
}
"""Primitives that call a function, and the parameter that holds it."""

IDENTITIES = ("name", "copy", "copy_p", "optimization_barrier", "sharding_constraint")
"""Primitives that return their operands as they are."""


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One primitive, applied to values some of which depend on the input.

    Args:
        name: of the primitive.
        apply: from arrays, in the order of `inputs`, to the list of results.
        inputs, outputs: numbers of values, larger for later ones.
        params: of the primitive.
    """

    name: str
    apply: Callable[..., list]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    params: dict[str, Any]


@dataclasses.dataclass(frozen=True, eq=False)
class Flow:
    """A function of one array, step by step.

    Args:
        steps: in an order in which they can be run.
        source, output: numbers of the function's argument and result.
        constants: arrays by number.
        shapes: shape and dtype of each value by number.
    """

    steps: tuple[Step, ...]
    source: int
    output: int
    constants: dict[int, Any]
    shapes: dict[int, jax.ShapeDtypeStruct]


def flow_of(
    function: Callable, x, kept_whole: Callable[[Any, Sequence[bool]], bool] = lambda *_: False
) -> Flow:
    """Trace a function and return its flow.

    Args:
        function: of one array that returns one array.
        x: array or shape of the argument.
        kept_whole: told of a call (its equation, and which operands depend on x), says whether
            to keep it as one step instead of entering it.
    """
    closed = jax.make_jaxpr(function)(x)
    steps, constants, shapes = [], {}, {}
    numbers = itertools.count()

    def new(aval) -> int:
        number = next(numbers)
        shapes[number] = jax.ShapeDtypeStruct(aval.shape, aval.dtype)
        return number

    def constant(value, aval=None) -> int:
        number = new(value if aval is None else aval)
        constants[number] = value
        return number

    def add_step(name, apply, inputs, avals, params) -> list[int]:
        outputs = tuple(new(aval) for aval in avals)
        steps.append(Step(name, apply, tuple(inputs), outputs, params))
        return list(outputs)

    def enter(jaxpr, consts, arguments) -> list[int]:
        names = dict(zip(jaxpr.constvars, map(constant, consts), strict=True))
        names.update(zip(jaxpr.invars, arguments, strict=True))

        def read(atom) -> int:
            if isinstance(atom, core.Literal):
                return constant(np.asarray(atom.val, atom.aval.dtype))
            return names[atom]

        for eqn in jaxpr.eqns:
            inputs = [read(atom) for atom in eqn.invars]
            depends = [number not in constants for number in inputs]
            avals = [var.aval for var in eqn.outvars]
            name, body = eqn.primitive.name, _body(eqn)
            if not any(depends):
                found = _work_out(eqn, [constants[number] for number in inputs])
                outputs = [constant(*pair) for pair in zip(found, avals, strict=True)]
            elif name in IDENTITIES:
                outputs = inputs
            elif body is not None and not kept_whole(eqn, depends):
                outputs = enter(*body, inputs)
            elif name == "split":
                outputs = [
                    add_step("slice", _slicer(*bounds), inputs, [aval], {})[0]
                    for bounds, aval in zip(_bounds(eqn), avals, strict=True)
                ]
            else:
                apply = _applier(eqn)
                outputs = add_step(name, apply, inputs, avals, {**eqn.params})
            names.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    source = new(closed.in_avals[0])
    (output,) = enter(closed.jaxpr, closed.consts, [source])
    return Flow(tuple(steps), source, output, constants, shapes)


def run(flow: Flow, x) -> dict[int, Any]:
    """Run all steps at x and return every value by its number."""
    values = {**flow.constants, flow.source: x}
    for step in flow.steps:
        found = step.apply(*(values[number] for number in step.inputs))
        values.update(zip(step.outputs, found, strict=True))
    return values


def _body(eqn):
    """Return (jaxpr, constants) of the function that an equation calls, None if it calls none."""
    key = CALLS.get(eqn.primitive.name)
    if key is None or key not in eqn.params:
        return None
    body = eqn.params[key]
    return (body.jaxpr, body.consts) if hasattr(body, "consts") else (body, ())


def _applier(eqn) -> Callable[..., list]:
    def apply(*arrays) -> list:
        params = eqn.primitive.get_bind_params(eqn.params)
        functions, params = params if isinstance(params, tuple) else ((), params)
        found = eqn.primitive.bind(*functions, *arrays, **params)
        return list(found) if eqn.primitive.multiple_results else [found]

    return apply


def _work_out(eqn, arrays) -> list:
    """Apply an equation to constants; at once where they are known, so that zeros show."""
    apply = _applier(eqn)
    if any(isinstance(array, jax.core.Tracer) for array in arrays):
        return apply(*arrays)
    with jax.ensure_compile_time_eval():
        return apply(*arrays)


def _bounds(eqn) -> list[tuple[int, int, int]]:
    axis = eqn.params["axis"]
    ends = np.cumsum(eqn.params["sizes"])
    return [
        (int(e - size), int(e), axis) for size, e in zip(eqn.params["sizes"], ends, strict=True)
    ]


def _slicer(start: int, end: int, axis: int) -> Callable[..., list]:
    return lambda array: [lax.slice_in_dim(array, start, end, axis=axis)]
