"""Move weights between Keras' Xception or VGG-19 and ours, by a table; Keras is not imported."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from xai_traffic.models.model import Model, Variables

CONV = (("params", "kernel"), ("params", "bias"))
NORM = (
    ("params", "scale"),
    ("params", "bias"),
    ("batch_stats", "mean"),
    ("batch_stats", "var"),
)
SEPARABLE = (("params", "depthwise_kernel"), ("params", "pointwise_kernel"))
"""Where each of a layer's Keras weights goes, in the order of `layer.get_weights()`."""

RESIDUALS = (2, 3, 4, 13)
"""Blocks that Keras' unnamed residual layers belong to, by order."""


def weights_of(keras_model: Any) -> list[tuple[str, list[np.ndarray]]]:
    """List a Keras model's layers that have weights, in order: (name, arrays).

    Args:
        keras_model: anything with `.layers`, each with `.name` and `.get_weights()`.
    """
    listed = [(layer.name, layer.get_weights()) for layer in keras_model.layers]
    return [(name, arrays) for name, arrays in listed if arrays]


def from_keras(model: Model, layers: Any, variables: Variables) -> Variables:
    """Return our variables with the values of a Keras model.

    Args:
        model: a Xception or VGG-19 of the seed's shape; its channels are those of Keras' input.
        layers: a Keras model, or the list that `weights_of` makes.
        variables: ours, for their structure and shapes (arrays or `jax.eval_shape` of `init`).

    Returns:
        float32 NumPy trees of the same structure.

    Raises:
        ValueError: a layer is missing on either side, or has another shape.
    """
    layers = weights_of(layers) if hasattr(layers, "layers") else list(layers)
    ported: Variables = {collection: {} for collection in variables}
    for _, ours, arrays in _pairs(layers):
        for (collection, leaf), array in zip(_places(ours, arrays), arrays, strict=True):
            try:
                shape = variables[collection][ours][leaf].shape
            except KeyError as error:
                raise ValueError(f"{model.name} has no {collection} {ours}/{leaf}") from error
            array = _turn(np.asarray(array, np.float32), leaf)
            if array.shape != shape:
                raise ValueError(f"{ours}/{leaf} is {shape} here and {array.shape} in Keras")
            ported[collection].setdefault(ours, {})[leaf] = array
    for collection, tree in variables.items():
        missing = sorted(set(tree) - set(ported[collection]))
        if missing:
            raise ValueError(f"Keras' weights lack {collection} of {', '.join(missing)}")
    return ported


def to_keras(
    variables: Variables, layers: Iterable[tuple[str, list[np.ndarray]]]
) -> list[tuple[str, list[np.ndarray]]]:
    """Return our values as Keras' lists of weights, for `layer.set_weights`.

    Args:
        variables: ours.
        layers: the list that `weights_of` makes, for names, order and how many arrays a layer has.

    Raises:
        ValueError: a layer that we do not have.
    """
    turned = []
    for name, ours, arrays in _pairs(layers):
        values = []
        for collection, leaf in _places(ours, arrays):
            if leaf not in variables.get(collection, {}).get(ours, {}):
                raise ValueError(f"no {collection} {ours}/{leaf} for Keras' layer {name}")
            values.append(_turn(np.asarray(variables[collection][ours][leaf]), leaf))
        turned.append((name, values))
    return turned


def _pairs(layers) -> Iterator[tuple[str, str, list[np.ndarray]]]:
    """Give (Keras' name, our name, arrays); unnamed layers are residuals, by order."""
    convolutions, norms = iter(RESIDUALS), iter(RESIDUALS)
    for name, arrays in layers:
        ours = name
        if name.startswith("conv2d"):
            ours = f"block{next(convolutions)}_residual"
        elif name.startswith("batch_normalization"):
            ours = f"block{next(norms)}_residual_bn"
        yield name, ours, arrays


def _places(name: str, arrays: list[np.ndarray]) -> tuple[tuple[str, str], ...]:
    if name.endswith("_bn"):
        return NORM
    if "sepconv" in name:
        return SEPARABLE
    return CONV[: len(arrays)]


def _turn(array: np.ndarray, leaf: str) -> np.ndarray:
    # Keras keeps depthwise kernels as (h, w, C, 1), XLA wants (h, w, 1, C): its own inverse.
    return array.swapaxes(2, 3) if leaf == "depthwise_kernel" else array
