"""What a step keeps for its backward pass, and what it computes again to save memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from xai_traffic.ops.convolution import PRODUCT

REMAT = ("none", "products", "blocks")
"""Choices of `config.remat`, from the quickest to the smallest."""

PRIMITIVES = ("dot_general", "conv_general_dilated")


def rematerialised(loss: Callable, choice: str) -> Callable:
    """Return a loss whose gradient needs less memory, and more time.

    Args:
        loss: function to be differentiated.
        choice: "none" keeps whatever the backward pass reads. "products" keeps results of matrix
            products and convolutions, and computes again what is cheap: normalisation, activation
            functions, softmax. "blocks" keeps what leaves the named blocks of a model, and computes
            each block again: a third more work.
    """
    if choice == "none":
        return loss
    return jax.checkpoint(loss, policy={"products": _is_product, "blocks": _is_block}[choice])


def _is_product(primitive: Any, *_: Any, **params: Any) -> bool:
    named = primitive.name == "name" and params["name"] == PRODUCT
    return named or primitive.name in PRIMITIVES


def _is_block(primitive: Any, *_: Any, **params: Any) -> bool:
    return primitive.name == "name" and params["name"].startswith(("stem", "block"))
