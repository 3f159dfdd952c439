"""What every explainer asks of a model function: logits, targets, compilation, and pieces that fit.

A model function is any JAX function `f(params, x) -> logits` or `-> (logits, activations)` whose
examples do not influence one another (batch normalisation in inference mode). The compiled parts
are kept for each f: hand over the same function object again and nothing compiles twice; a lambda
made anew for each call compiles anew.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.devices import split, ways
from xai_traffic.explain.live_memory import peak_bytes

ModelFunction = Callable[..., "jax.Array | tuple[jax.Array, dict[str, jax.Array]]"]

CPU_BUDGET = 1 << 30
"""Bytes that one call may take where the device does not tell how much it has."""

SHARE_OF_DEVICE = 0.4
"""Part of a device's free memory that one call may take by default."""

CPU_AT_ONCE = 64
"""Most examples in one call on CPU: 400 at once take up to 1.6 times the time an example, because
they leave the caches, and no more than this gain nothing."""

MOST_AT_ONCE = 4096
"""The same of accelerators."""


@functools.lru_cache(maxsize=256)
def compiled(kernel: Callable, *static) -> Callable:
    """Bind the leading arguments `static` (hashable) of a pure function and compile the rest."""
    return jax.jit(functools.partial(kernel, *static))


def logits_of(f: ModelFunction, params, x: jax.Array) -> jax.Array:
    """Return the logits of f as float32 [B, K], whether or not f returns activations too."""
    result = f(params, x)
    logits = result[0] if isinstance(result, tuple) else result
    if logits.ndim != 2:
        raise ValueError(f"f must return logits [B, K], and returned shape {logits.shape}")
    return logits.astype(jnp.float32)


def named_activations(f: ModelFunction, params, x: jax.Array) -> dict:
    """Return shapes and dtypes of f's activations at x, without running f.

    Raises:
        ValueError: f returns logits alone.
    """
    result = compiled(_result, f).eval_shape(params, x)
    if not isinstance(result, tuple) or len(result) != 2 or not isinstance(result[1], dict):
        raise ValueError("f must return (logits, activations), activations a dict of arrays")
    return result[1]


def _result(f, params, x):
    return f(params, x)


def target_logits(f: ModelFunction, params, x: jax.Array, target: jax.Array) -> jax.Array:
    """Return the logit of each example's target: x [B, ...], target int32 [B] -> float32 [B]."""
    return target_of(logits_of(f, params, x), target)


def target_of(logits: jax.Array, target: jax.Array) -> jax.Array:
    """Pick each example's target: logits [B, K], target int32 [B] -> float32 [B]."""
    return jnp.take_along_axis(logits.astype(jnp.float32), target[:, None], axis=1)[:, 0]


def input_gradient(f: ModelFunction, params, x: jax.Array, target: jax.Array) -> jax.Array:
    """Return d(target logit)/dx, in x's shape."""
    return jax.grad(lambda values: target_logits(f, params, values, target).sum())(x)


def as_float(x) -> jax.Array:
    """Return x [B, ...] as a float32 array on the device."""
    # Converted on the host where it comes from there: one compilation less.
    x = x.astype(jnp.float32) if isinstance(x, jax.Array) else jnp.asarray(np.float32(x))
    if x.ndim < 2:
        raise ValueError(f"x must have a batch axis and at least one more, and has shape {x.shape}")
    if not x.shape[0]:
        raise ValueError("x holds no examples")
    return x


def sum_channels(values: jax.Array) -> jax.Array:
    """Sum images [B, H, W, C] over their channels to [B, H, W]; leave other shapes alone."""
    return values.sum(-1) if values.ndim == 4 else values


def resolve_target(f: ModelFunction, params, x: jax.Array, target, at_once: int) -> jax.Array:
    """Return the class to explain for each example, int32 [B].

    Args:
        target: int, int32 [B], or None for the class with the highest logit.
        at_once: most examples in one call.

    Raises:
        ValueError: a target is not a class of f, or f has one logit only and no target is named:
            its highest logit is always the same one, whatever the verdict.
    """
    # The compiled function remembers its traces: that of a large model takes a tenth of a second.
    classes = compiled(logits_of, f).eval_shape(params, x).shape[1]
    if target is None:
        if classes < 2:
            raise ValueError(
                "f returns one logit, so its highest logit says nothing about the verdict: "
                "return one logit for each class, or name the target"
            )
        kernel = compiled(_highest, f)
        return map_batches(lambda piece: kernel(params, piece), at_once, x)
    if not isinstance(target, jax.core.Tracer):
        target = values = np.asarray(target)
        if not np.issubdtype(values.dtype, np.integer):
            raise ValueError(f"targets must be integers, and are {values.dtype}")
        if values.shape not in ((), (x.shape[0],)):
            raise ValueError(f"{x.shape[0]} examples need as many targets, not {values.shape}")
        if values.size and not (values.min() >= 0 and values.max() < classes):
            raise ValueError(
                f"targets must be in 0..{classes - 1}, and reach from {values.min()} to "
                f"{values.max()}"
            )
        target = np.broadcast_to(values.astype(np.int32), (x.shape[0],))
    return jnp.broadcast_to(jnp.asarray(target, jnp.int32), (x.shape[0],))


def _highest(f, params, x) -> jax.Array:
    return jnp.argmax(logits_of(f, params, x), axis=1).astype(jnp.int32)


def bytes_an_example(f: ModelFunction, params, x: jax.Array) -> int:
    """Estimate the bytes that the gradient of f keeps for each example, without running f.

    They are the residuals of the backward pass: two examples' less one's, so that what does not
    grow with the batch (the parameters) falls out.
    """

    def residuals(count: int) -> int:
        shape = jax.ShapeDtypeStruct((count, *x.shape[1:]), jnp.float32)
        backward = jax.eval_shape(
            lambda p, v: jax.vjp(lambda u: logits_of(f, p, u), v)[1], params, shape
        )
        return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(backward))

    return max(residuals(2) - residuals(1), x[0].size * 4, 1)


def forward_bytes_an_example(f: ModelFunction, params, x: jax.Array) -> int:
    """Estimate the bytes that f works in for each example, forward alone, without running f.

    Three times what lives together in its trace, for what convolutions unfold and copies between
    layouts, and four inputs for what makes the example. XLA's own count of the study's networks on
    CPU is 0.7 to 3 times what lives together.
    """

    def peak(count: int) -> int:
        shape = jax.ShapeDtypeStruct((count, *x.shape[1:]), jnp.float32)
        return peak_bytes(functools.partial(logits_of, f), params, shape)

    # Of more than one: some formulations are others for a single example.
    return max(3 * (peak(5) - peak(4)), 0) + 4 * x[0].size * 4


def examples_at_once(
    f: ModelFunction,
    params,
    x: jax.Array,
    memory_budget: int | None = None,
    *,
    gradient: bool = True,
) -> int:
    """Return how many examples one call may hold, at least 1; see also `CPU_AT_ONCE`.

    Args:
        memory_budget: bytes; None takes 40 % of an accelerator's free memory, 1 GiB elsewhere.
        gradient: the call differentiates f; False where it only judges.
    """
    if memory_budget is None:
        stats = jax.local_devices()[0].memory_stats() or {}
        free = stats.get("bytes_limit", 0) - stats.get("bytes_in_use", 0)
        memory_budget = int(free * SHARE_OF_DEVICE) if free > 0 else CPU_BUDGET
    shapes = tuple(jnp.shape(leaf) for leaf in jax.tree.leaves(params))
    key = (f, x.shape[1:], shapes, gradient)
    if key not in _EXAMPLE_BYTES:
        if len(_EXAMPLE_BYTES) >= 256:
            _EXAMPLE_BYTES.clear()
        estimate = bytes_an_example if gradient else forward_bytes_an_example
        _EXAMPLE_BYTES[key] = estimate(f, params, x)
    most = CPU_AT_ONCE if jax.default_backend() == "cpu" else MOST_AT_ONCE
    return max(1, min(most, memory_budget // _EXAMPLE_BYTES[key]))


_EXAMPLE_BYTES: dict[tuple, int] = {}
"""What these two found: tracing a large model twice takes seconds."""


def map_batches(kernel: Callable, at_once: int, *arrays: jax.Array):
    """Call `kernel` on pieces of at most `at_once` examples and join what it returns.

    A last short piece is filled up with copies of its first example and cut again afterwards, so
    that one shape is compiled. Batches that fit are handed over whole.
    """
    count, devices = arrays[0].shape[0], ways(arrays[0])
    if count <= at_once and devices == 1:
        return kernel(*arrays)
    # Pieces of equal size: 33 examples at 32 a time are two pieces of 17.
    size = -(-count // -(-count // (at_once * devices)))
    size += -size % devices
    pieces = []
    for start in range(0, count, size):
        part = [array[start : start + size] for array in arrays]
        missing = size - part[0].shape[0]
        if missing:
            part = [jnp.concatenate([a, jnp.repeat(a[:1], missing, axis=0)]) for a in part]
        result = kernel(*(split(arrays[0], a) for a in part))
        pieces.append(jax.tree.map(lambda a, keep=size - missing: a[:keep], result))
    return jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces)
