"""How much memory a function works in, read off its trace: no compiling, no running.

Every value of the trace lives from the equation that makes it to the last one that reads it; the
peak is the most that live together. XLA never keeps more than that but for copies between layouts,
and where it fuses it keeps less.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
from jax.extend.core import Literal

FREE = frozenset(
    (
        *("reshape", "broadcast_in_dim", "convert_element_type", "squeeze", "expand_dims"),
        *("transpose", "copy", "neg", "stop_gradient", "name"),
    )
)
"""Primitives that XLA makes part of whatever reads them, or that change nothing but the shape."""


def peak_bytes(function: Callable, *arguments: Any) -> int:
    """Return the most bytes that values of a function of arrays occupy together, results included.

    Args:
        arguments: trees of arrays or of `jax.ShapeDtypeStruct`; they are counted too, as long as
            they are read.
    """
    return _peak(jax.make_jaxpr(function)(*arguments).jaxpr)


def _peak(jaxpr) -> int:
    roots: dict = {}  # of values that are only views of others
    last: dict = {}
    for number, equation in enumerate(jaxpr.eqns):
        read = _read(equation, roots)
        if equation.primitive.name in FREE and len(read) == 1:
            roots[equation.outvars[0]] = next(iter(read))
        for value in read:
            last[value] = number
    for value in jaxpr.outvars:
        if not isinstance(value, Literal):
            last[roots.get(value, value)] = len(jaxpr.eqns)
    ending: dict[int, list] = {}
    for value, number in last.items():
        ending.setdefault(number, []).append(value)
    most = live = sum(_size(value) for value in (*jaxpr.invars, *jaxpr.constvars) if value in last)
    for number, equation in enumerate(jaxpr.eqns):
        made = sum(_size(value) for value in equation.outvars if value in last)
        live += made
        own = made + sum(map(_size, _read(equation, roots)))
        inside = max((_peak(inner) for inner in _inner(equation)), default=0)
        most = max(most, live + max(0, inside - own))
        live -= sum(map(_size, ending.get(number, ())))
    return most


def _read(equation, roots: dict) -> set:
    return {roots.get(value, value) for value in equation.invars if not isinstance(value, Literal)}


def _inner(equation) -> list:
    """Return the traces that an equation calls."""
    found = []
    for value in equation.params.values():
        for one in value if isinstance(value, tuple | list) else (value,):
            inner = getattr(one, "jaxpr", one)
            if hasattr(inner, "eqns"):
                found.append(inner)
    return found


def _size(value) -> int:
    return value.aval.size * value.aval.dtype.itemsize if hasattr(value.aval, "size") else 0
