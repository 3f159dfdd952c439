"""Check the models on this device before anything is timed; one JSON line a check.

    python benchmarks/model_checks.py

Formulations that are chosen by platform must agree with each other, with their gradients; and on
an accelerator the logits of each family's small variant must be those that the CPU computes.
"""

from __future__ import annotations

import json
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from model_cases import CLASSES, DEBUG

from xai_traffic.models import build
from xai_traffic.ops.attention import attention, fused_attention
from xai_traffic.ops.depthwise import grouped_depthwise, shifted_depthwise
from xai_traffic.ops.pooling import reduced_max_pool, sliced_max_pool

TOLERANCE = 1e-3
"""Largest difference, relative to the largest value; products run in full float32 for it."""


def check_logits(name: str) -> dict | None:
    """Compare a model's logits with those of the CPU; None where that is the device itself."""
    if jax.default_backend() == "cpu":
        return None
    try:
        cpu = jax.devices("cpu")[0]
    except RuntimeError:
        return None
    bench = DEBUG[name]
    model = build(bench.family, CLASSES, variant=bench.variant)
    images = np.random.default_rng(0).integers(0, 256, (4, 128, 128, 1), np.uint8)
    variables = jax.device_get(model.init(jax.random.key(0)))
    found = []
    for device in (jax.devices()[0], cpu):
        placed = jax.device_put((variables, images), device)
        found.append(np.asarray(jax.jit(lambda v, x: model.apply(v, x)[0])(*placed)))  # noqa: B023
    return _record(f"{name} logits, device and CPU", *found)


def check_formulations(
    name: str,
    first: Callable,
    second: Callable,
    *arrays: jax.Array,
    tolerance: float = TOLERANCE,
) -> dict:
    """Compare two formulations of one function, in values and in gradients to all arrays."""

    def both(function: Callable) -> list[np.ndarray]:
        every = tuple(range(len(arrays)))
        value = jax.jit(function)(*arrays)
        weights = jnp.cos(jnp.arange(value.size)).reshape(value.shape)
        total = jax.jit(jax.grad(lambda *given: (function(*given) * weights).sum(), every))
        return [np.asarray(array) for array in (value, *total(*arrays))]

    pairs = zip(both(first), both(second), strict=True)
    return max(
        (_record(name, *pair, tolerance) for pair in pairs), key=lambda record: record["difference"]
    )


def check_fused() -> dict:
    """Compare cuDNN's masked attention of odd length, and its gradients, with the formula."""
    keys = jax.random.split(jax.random.key(0), 4)
    arrays = [jax.random.normal(key, (4, 65, 3, 64), jnp.bfloat16) for key in keys[:3]]
    keep = jax.random.bernoulli(keys[3], 0.6, (4, 65, 65)).at[..., 0].set(True)
    return check_formulations(
        "attention by cuDNN in bfloat16",
        lambda *given: fused_attention(*given, keep).astype(jnp.float32),
        lambda *given: attention(*given, keep).astype(jnp.float32),
        *arrays,
        tolerance=2**-5,
    )


def _record(name: str, found: np.ndarray, wanted: np.ndarray, tolerance: float = TOLERANCE) -> dict:
    found, wanted = (np.asarray(array, np.float32) for array in (found, wanted))
    difference = float(np.abs(found - wanted).max() / np.abs(wanted).max())
    return {"name": name, "ok": bool(difference <= tolerance), "difference": difference}


def checks() -> list[dict]:
    """Return a record of each check."""
    made = []
    if jax.default_backend() == "gpu":
        made.append(check_fused())
    with jax.default_matmul_precision("highest"):
        made += [record for name in DEBUG if (record := check_logits(name))]
        keys = jax.random.split(jax.random.key(0), 2)
        x = jax.random.normal(keys[0], (2, 15, 16, 24))
        kernel = jax.random.normal(keys[1], (3, 3, 1, 24))
        for padding in ("SAME", "VALID"):
            for stride in (1, 2):
                made.append(
                    check_formulations(
                        f"depthwise {padding}, stride {stride}",
                        lambda x, k, s=stride, p=padding: shifted_depthwise(x, k, s, p),
                        lambda x, k, s=stride, p=padding: grouped_depthwise(x, k, s, p),
                        x,
                        kernel,
                    )
                )
        for window, padding in ((2, "VALID"), (3, "SAME")):
            made.append(
                check_formulations(
                    f"max pool {window}, {padding}",
                    lambda x, w=window, p=padding: sliced_max_pool(x, w, 2, p),
                    lambda x, w=window, p=padding: reduced_max_pool(x, w, 2, p),
                    x,
                )
            )
    return made


def main() -> None:
    """Print the records."""
    for record in checks():
        print(json.dumps(record), flush=True)


if __name__ == "__main__":
    main()
