"""Count a model's operations by hand, beside what XLA counts.

    python benchmarks/model_flops.py MODEL...     prints a line of JSON a model

A multiplication with its addition is two operations. By hand only convolutions, dense layers and
the two products of attention count, from the shapes of the kernels and of what they are applied
to; biases, norms, activations and softmax do not. XLA counts these too, and leaves out the
products of a convolution with its own zero padding, as the second count by hand does.
"""

from __future__ import annotations

import json
import math
import re
import sys
from typing import NamedTuple
from unittest import mock

import jax
import jax.numpy as jnp
from model_cases import CLASSES, all_models

from xai_traffic.models import Model, build
from xai_traffic.models.layers import extent_of
from xai_traffic.ops.convolution import direct_conv


class Count(NamedTuple):
    """Operations of one image's way forward."""

    whole: int  # padding included: what the device is asked to multiply, as papers count
    needed: int  # without the products with padding


def count_by_hand(model: Model) -> Count:
    """Return the operations of a model's way forward, one image.

    Raises:
        ValueError: the model starts with cells, whose layers are not counted here.
    """
    variables = jax.eval_shape(model.init, jax.random.key(0))
    if "cells" in variables["params"]:
        raise ValueError(f"{model.name}:{model.variant}: the stem of cells is not counted by hand")
    kernels = {
        "/".join(str(key.key) for key in path): leaf.shape
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables["params"])
        if "kernel" in str(path[-1])
    }
    if model.name == "vit":
        return _vit(model, kernels)
    images = jax.ShapeDtypeStruct((1, 128, 128, 1), jnp.uint8)
    shapes = {
        name: value.shape[1:3]
        for name, value in jax.eval_shape(model.apply, variables, images)[1].items()
    }
    shapes["block0"] = extent_of(model.packets)
    whole = needed = 0
    for name, kernel in kernels.items():
        height, width = _where(name, shapes)
        whole += 2 * math.prod(kernel) * height * width
        padded = len(kernel) == 4 and kernel[0] == 3 and not name.startswith("block1_conv")
        padded |= model.name == "vgg19" and len(kernel) == 4
        if padded:  # 3 x 3 at stride 1 within zeros: a border row and column each miss a third
            needed += 2 * math.prod(kernel[2:]) * (3 * height - 2) * (3 * width - 2)
        else:
            needed += 2 * math.prod(kernel) * height * width
    return Count(whole, needed)


def _where(name: str, shapes: dict[str, tuple[int, int]]) -> tuple[int, int]:
    """Return the height and width of what a layer of a convolutional network puts out."""
    found = re.match(r"block(\d+)_(conv|sepconv|residual)(\d*)", name)
    if not found:
        return 1, 1  # dense layers behind the flattening or the mean
    block, kind, number = int(found[1]), found[2], found[3]
    xception = "stem" in shapes and any(key in shapes for key in ("block13", "block14"))
    if xception and block == 1:
        return shapes["stem" if number == "1" else "block1"]
    if kind == "residual" or (xception and block >= 14):
        return shapes[f"block{block}"]
    # Both pool last: their convolutions work on what the block before put out.
    before = max((n for n in range(block) if f"block{n}" in shapes), default=0)
    return shapes[f"block{before}"]


def _vit(model: Model, kernels: dict[str, tuple[int, ...]]) -> Count:
    tokens = model.packets + 1
    total = 0
    for name, kernel in kernels.items():
        times = model.packets if name.startswith("embedding") else tokens
        total += 2 * math.prod(kernel) * (1 if name.startswith("head") else times)
        if name.endswith("query/kernel"):  # scores, and values mixed by them
            total += 2 * 2 * tokens * tokens * math.prod(kernel[1:])
    return Count(total, total)


def count_by_xla(model: Model, *, training: bool = False) -> float:
    """Return what XLA counts of the program before it is optimised, one image.

    Convolutions are counted as they are written: Winograd's algorithm takes fewer operations.

    Args:
        training: count the loss and its gradient to every parameter, not the way forward.
    """
    with mock.patch("xai_traffic.models.layers.conv", direct_conv):
        return _count_by_xla(model, training)


def _count_by_xla(model: Model, training: bool) -> float:
    variables = jax.eval_shape(model.init, jax.random.key(0))
    images = jax.ShapeDtypeStruct((1, 128, 128, 1), jnp.uint8)
    if not training:
        judge = jax.jit(lambda variables, images: model.apply(variables, images)[0])
        return judge.lower(variables, images).cost_analysis()["flops"]

    def loss(params: dict, rest: dict, images: jax.Array) -> jax.Array:
        rng = jax.random.key(0)
        logits = model.apply_train({**rest, "params": params}, images, rng)[0]
        return jax.nn.logsumexp(logits, axis=-1).sum()

    rest = {name: tree for name, tree in variables.items() if name != "params"}
    gradient = jax.jit(jax.grad(loss))
    return gradient.lower(variables["params"], rest, images).cost_analysis()["flops"]


def main() -> None:
    """Count every model that the command line names."""
    for name in sys.argv[1:]:
        bench = all_models()[name]
        model = build(bench.family, CLASSES, variant=bench.variant)
        leaves = jax.tree.leaves(jax.eval_shape(model.init, jax.random.key(0))["params"])
        hand = count_by_hand(model)
        counted = {
            "model": name,
            "parameters": sum(math.prod(leaf.shape) for leaf in leaves),
            "flops": hand.whole,
            "flops_without_padding": hand.needed,
            "flops_by_xla": count_by_xla(model),
            "training_flops_by_xla": count_by_xla(model, training=True),
        }
        print(json.dumps(counted), flush=True)


if __name__ == "__main__":
    main()
