"""Which devices hold which part of the parameters: rules by regular expression over their names.

    replicated    every device holds all of them; batches alone are split (data-parallel)
    fsdp          each is split along DATA, gathered where it is used and let go behind it
                  (Rajbhandari et al., "ZeRO", SC 2020; Zhao et al., "PyTorch FSDP", VLDB 2023)
    tensor        the ViT's attention heads and hidden units are split along MODEL
                  (Shoeybi et al., "Megatron-LM", 2019)
    fsdp+tensor   both

What an optimiser keeps of a parameter, and its running average, lie where the parameter lies.
"""

from __future__ import annotations

import dataclasses
import math
import re
from typing import Any

import jax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from xai_traffic.errors import ConfigError
from xai_traffic.parallel.mesh import DATA, MODEL

SMALLEST_SHARDED = 4096
"""Numbers of a parameter below which splitting it along DATA costs more than it saves."""


@dataclasses.dataclass(frozen=True)
class Rule:
    """How the parameters lie whose name has a part that matches.

    Args:
        pattern: searched for in "blocks/attention/query/kernel".
        axes: mesh axis, or None, of each dimension; () for none at all.
        fully_sharded: split the largest dimension that is left along DATA too.
    """

    pattern: str
    axes: tuple[str | None, ...] = ()
    fully_sharded: bool = False


_TENSOR = {
    r"attention/(query|key|value)/kernel$": (None, MODEL, None),  # [D, heads, head_dim]
    r"attention/(query|key|value)/bias$": (MODEL, None),
    r"attention/out/kernel$": (MODEL, None, None),  # [heads, head_dim, D]
    r"mlp_0/kernel$": (None, MODEL),
    r"mlp_0/bias$": (MODEL,),
    r"mlp_1/kernel$": (MODEL, None),
}


def _rules(*, tensor: bool, fsdp: bool) -> tuple[Rule, ...]:
    named = _TENSOR.items() if tensor else ()
    return (*(Rule(*each, fsdp) for each in named), Rule("", (), fsdp))


PLACEMENTS = {
    "replicated": _rules(tensor=False, fsdp=False),
    "fsdp": _rules(tensor=False, fsdp=True),
    "tensor": _rules(tensor=True, fsdp=False),
    "fsdp+tensor": _rules(tensor=True, fsdp=True),
}
"""Rules by name; of each the first that matches holds."""


def check_placement(name: str, like: Any, mesh: Mesh) -> None:
    """Refuse a placement that leaves devices without a part in the work.

    Args:
        name: of PLACEMENTS.
        like: tree of the model's variables, or their shapes.

    Raises:
        ConfigError: the message names the key and the remedy.
    """
    tensor, size = "tensor" in name, mesh.shape[MODEL]
    if size > 1 and not tensor:
        raise ConfigError(
            f"mesh.model is {size} and mesh.placement {name!r} splits no layer: set "
            f"--config.mesh.model=1, or --config.mesh.placement=tensor"
        )
    if not tensor:
        return
    placed = list(_each(PLACEMENTS[name], like))
    if not any(MODEL in rule.axes for _, _, rule in placed):
        raise ConfigError(
            f"mesh.placement is {name!r}, and this model has no layer that it could split: only "
            "the ViT has; set --config.mesh.placement=replicated or fsdp"
        )
    for path, leaf, rule in placed:
        for dimension, axis in zip(leaf.shape, rule.axes, strict=False):
            if axis == MODEL and dimension % size:
                raise ConfigError(
                    f"mesh.model is {size} and does not divide the {dimension} heads or hidden "
                    f"units of {path}: set --config.mesh.model to a divisor"
                )


def held(name: str, like: Any, mesh: Mesh) -> Any:
    """Return a tree of shardings: what each device keeps of a state between two steps.

    Args:
        name: of PLACEMENTS.
        like: tree of arrays or their shapes; paths that end in a parameter's name lie as it does.
    """
    return _shardings(name, like, mesh, fully_sharded=True)


def used(name: str, like: Any, mesh: Mesh) -> Any:
    """Return a tree of shardings: what each device has of the parameters while it uses them."""
    return _shardings(name, like, mesh, fully_sharded=False)


def _shardings(name: str, like: Any, mesh: Mesh, *, fully_sharded: bool) -> Any:
    specs = [
        NamedSharding(mesh, _spec(rule, leaf.shape, mesh, fully_sharded and rule.fully_sharded))
        for _, leaf, rule in _each(PLACEMENTS[name], like)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), specs)


def _each(rules: tuple[Rule, ...], like: Any):
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        name = jax.tree_util.keystr(path, simple=True, separator="/")
        yield name, leaf, next(rule for rule in rules if re.search(rule.pattern, name))


def _spec(rule: Rule, shape: tuple[int, ...], mesh: Mesh, fully_sharded: bool) -> PartitionSpec:
    axes = [*rule.axes, *[None] * (len(shape) - len(rule.axes))]
    if fully_sharded and math.prod(shape) >= SMALLEST_SHARDED:
        size = mesh.shape[DATA]
        free = [at for at, axis in enumerate(axes) if axis is None and shape[at] % size == 0]
        if free:
            axes[max(free, key=lambda at: shape[at])] = DATA
    while axes and axes[-1] is None:  # the usual form: equal shardings compare equal
        axes.pop()
    return PartitionSpec(*axes)
