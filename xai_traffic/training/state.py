"""The state of a training: one tree, and the hash that names it."""

from __future__ import annotations

import dataclasses
import hashlib
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

Tree = Any


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """Everything a step changes.

    Args:
        step: steps done, int32 scalar.
        variables: {"params": tree, "batch_stats": tree where the model has any}, float32.
        average: running average of the parameters, {} where none is kept.
        optimizer: state of the optimiser.
    """

    step: jax.Array
    variables: dict[str, Tree]
    average: Tree
    optimizer: Tree


def make_state(
    variables: dict[str, Tree], optimizer: optax.GradientTransformation, average: bool
) -> TrainState:
    """Return the state before the first step."""
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        variables=variables,
        average=jax.tree.map(jnp.copy, variables["params"]) if average else {},
        optimizer=optimizer.init(variables["params"]),
    )


def judged(state: TrainState) -> dict[str, Tree]:
    """Return the variables that validation and users see: with averaged parameters if kept.

    Batch statistics are running means already and are taken as they are.
    """
    return {**state.variables, "params": state.average} if state.average else state.variables


def params_sha256(variables: dict[str, Tree]) -> str:
    """Hash (path, dtype, shape, bytes) of every array, sorted by path, in hexadecimal."""
    leaves = [
        ("/".join(str(key.key) for key in path), np.asarray(leaf))
        for path, leaf in jax.tree_util.tree_leaves_with_path(variables)
    ]
    digest = hashlib.sha256()
    for path, array in sorted(leaves, key=lambda leaf: leaf[0]):
        digest.update(f"{path}\0{array.dtype.str}\0{array.shape}\0".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def count_parameters(variables: dict[str, Tree]) -> int:
    """Return the number of trained parameters, batch statistics left out."""
    return sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"]))
