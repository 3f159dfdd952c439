"""Players: groups of input values that are kept or replaced together, and f on masks over them.

A player is a packet, a protocol field or a window of bytes. `groups` says of each input value which
player it belongs to: int [...] or [B, ...] of x's shape, 0-based, -1 for what is never touched
(padding). Methods that perturb players see nothing of f but its logits on masks.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.capture.images import grid_images
from xai_traffic.capture.records import GRID, TILE
from xai_traffic.explain.devices import split, ways
from xai_traffic.explain.model_function import (
    ModelFunction,
    as_float,
    compiled,
    examples_at_once,
    logits_of,
    resolve_target,
)
from xai_traffic.explain.removal import Removal, as_removals, logits_without


@dataclasses.dataclass(frozen=True)
class PlayerValues:
    """What each player adds to the target's logit.

    Args:
        values: float64 [B, P] in logits; 0 for players that an example does not have.
        errors: float64 [B, P], standard errors of `values`; 0 where they are exact.
        completeness_error: float64 [B], |sum of values - (logit at x - logit with all replaced)|.
        exact: bool [B], computed from every mask that matters, not from a sample.
    """

    values: np.ndarray
    errors: np.ndarray
    completeness_error: np.ndarray
    exact: np.ndarray


def packet_groups(lengths: Sequence[int]) -> np.ndarray:
    """Make each packet of a session one player: int32 [128, 128, 1], -1 on padding.

    Args:
        lengths: captured bytes in each of the session's tiles, at most 64 numbers.
    """
    return _image(np.where(_held(lengths), np.arange(GRID)[:, None], -1))


def window_groups(lengths: Sequence[int], size: int) -> tuple[np.ndarray, np.ndarray]:
    """Make each window of `size` bytes of a packet one player, empty ones left out.

    Args:
        lengths: as for `packet_groups`.
        size: bytes; the last window of a packet may be shorter.

    Returns:
        groups int32 [128, 128, 1], and int32 [P], the packet that each player lies in.

    Raises:
        ValueError: there are too many lengths, or size is less than 1.
    """
    if size < 1:
        raise ValueError(f"a window has at least one byte, not {size}")
    held = _held(lengths)
    counts = -(-held.sum(1) // size)
    first = np.cumsum(counts) - counts
    tiles = np.where(held, first[:, None] + np.arange(TILE) // size, -1)
    return _image(tiles), np.repeat(np.arange(GRID), counts).astype(np.int32)


def field_groups(
    fields: Sequence[Sequence], together: bool = False
) -> tuple[np.ndarray, list[str], np.ndarray]:
    """Make each protocol field one player.

    Args:
        fields: for each packet what `capture.fields.dissect` returns: objects with `name`, `start`
            and `end`.
        together: a name is one player over all packets, not one in each packet.

    Returns:
        groups int32 [128, 128, 1]; the name of each player; and int32 [P], the packet that each
        lies in (the first one where names are taken together).

    Raises:
        ValueError: there are more than 64 packets.
    """
    if len(fields) > GRID:
        raise ValueError(f"a session has at most {GRID} tiles, not {len(fields)}")
    tiles = np.full((GRID, TILE), -1)
    found: dict[tuple, int] = {}
    packets: list[int] = []
    for packet, parts in enumerate(fields):
        for part in parts:
            key = (part.name,) if together else (part.name, packet)
            if key not in found:
                found[key] = len(found)
                packets.append(packet)
            tiles[packet, part.start : part.end] = found[key]
    return _image(tiles), [key[0] for key in found], np.array(packets, np.int32)


def spread(values, groups, x) -> np.ndarray:
    """Lay the players' values [B, P] over the input x, float64 [B, ...], sums kept.

    Each input value gets its player's value divided by how many the player has; 0 outside players.
    """
    values = np.asarray(values, np.float64)
    result = []
    for own, worth in zip(as_groups(groups, x)[0], values, strict=True):
        sizes = np.bincount(own[own >= 0], minlength=values.shape[1])
        result.append(np.append(worth / np.maximum(sizes, 1), 0.0)[own])
    return np.stack(result)


def as_groups(groups, x) -> tuple[np.ndarray, int]:
    """Return groups as int32 [B, ...] of x's shape, and the number of players P.

    Raises:
        ValueError: they are no integers of x's shape, less than -1, or name no player at all.
    """
    groups = np.asarray(groups)
    if not np.issubdtype(groups.dtype, np.integer) or groups.shape not in (x.shape, x.shape[1:]):
        raise ValueError(
            f"groups must be integers of shape {x.shape} or {x.shape[1:]}, and are {groups.dtype} "
            f"{groups.shape}"
        )
    if groups.min() < -1 or groups.max() < 0:
        raise ValueError(
            f"groups must name players 0, 1, ... and -1 for none, and reach from {groups.min()} "
            f"to {groups.max()}"
        )
    return np.broadcast_to(groups, x.shape).astype(np.int32), int(groups.max()) + 1


def present_players(groups, x) -> tuple[list[np.ndarray], int]:
    """Return the players that each example has, and the number of players P over all."""
    groups, players = as_groups(groups, x)
    return [np.unique(own[own >= 0]) for own in groups.reshape(len(groups), -1)], players


def masked_logits(
    f: ModelFunction,
    params,
    x,
    groups,
    masks,
    *,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> list[np.ndarray]:
    """Return the logits of f with some players kept and all others removed.

    All (example, mask) pairs run in calls of one size, whatever example they belong to.

    Args:
        f: `f(params, x) -> logits [B, K]` or `(logits, activations)`.
        x: [B, ...] in the model's own scale.
        groups: int [...] or [B, ...] of x's shape: the player of each value, -1 for none.
        masks: bool [M, P] for all examples, or a list of B arrays [M of that example, P]; True
            keeps a player.
        baseline: what replaces a value, broadcast to x's shape.
        removal: makes the inputs instead; of several the mean of the logits is taken.
        memory_budget: bytes that one call may take, see `examples_at_once`.

    Returns:
        For each example float32 [M, K].

    Raises:
        ValueError: see `as_groups`; masks do not fit the players; there are both a baseline and a
            removal; or a removal that keeps all does not return x.
    """
    x = as_float(x)
    groups, players = as_groups(groups, x)
    each = masks if isinstance(masks, list) else [np.asarray(masks)] * len(x)
    each = [np.asarray(own, bool) for own in each]
    if len(each) != len(x) or any(own.ndim != 2 or own.shape[1] != players for own in each):
        raise ValueError(f"masks must be [M, {players}], one array for all or for each example")
    counts = [len(own) for own in each]
    rows = np.repeat(np.arange(len(x), dtype=np.int32), counts)
    # The last column keeps what belongs to no player.
    flat = np.pad(np.concatenate(each), ((0, 0), (0, 1)), constant_values=True)
    places = np.where(groups < 0, players, groups)
    removals = as_removals(removal, baseline)
    # Powers of two: calls of other numbers of masks find their program compiled.
    size = masked_at_once(f, params, x, memory_budget)
    size = max(ways(x), min(size, 1 << max(len(rows) - 1, 0).bit_length()))
    size += -size % ways(x)
    if removals and len(rows):

        def keep_of(part: slice) -> np.ndarray:
            own = places[rows[part]]
            kept = np.take_along_axis(flat[part], own.reshape(len(own), -1), axis=1)
            return kept.reshape(own.shape)

        logits = logits_without(f, params, x, rows, keep_of, removals, size)
        return np.split(logits, np.cumsum(counts)[:-1])
    start = jnp.broadcast_to(jnp.asarray(baseline, jnp.float32), x.shape)
    call = compiled(_masked, f)
    missing = -len(rows) % size
    rows, flat = np.pad(rows, (0, missing)), np.pad(flat, ((0, missing), (0, 0)))
    places = jnp.asarray(places)
    parts = [
        call(params, x, places, start, *(split(x, c[at : at + size]) for c in (rows, flat)))
        for at in range(0, len(rows), size)
    ]
    logits = np.concatenate([np.asarray(part) for part in parts])[: sum(counts)]
    return np.split(logits, np.cumsum(counts)[:-1])


def masked_targets(
    f: ModelFunction,
    params,
    x,
    groups,
    masks,
    target=None,
    *,
    baseline=0.0,
    removal: Removal | Sequence[Removal] | None = None,
    memory_budget: int | None = None,
) -> list[np.ndarray]:
    """Return the target's logit on masks, for each example float64 [M].

    Target as for `gradient`, all else as for `masked_logits`.
    """
    x = as_float(x)
    at_once = examples_at_once(f, params, x, memory_budget)
    target = np.asarray(resolve_target(f, params, x, target, at_once))
    logits = masked_logits(
        f,
        params,
        x,
        groups,
        masks,
        baseline=baseline,
        removal=removal,
        memory_budget=memory_budget,
    )
    return [np.float64(own[:, k]) for own, k in zip(logits, target, strict=True)]


def masked_at_once(f: ModelFunction, params, x: jax.Array, memory_budget: int | None) -> int:
    """Return how many masked examples one call takes on all devices, forward alone."""
    return ways(x) * examples_at_once(f, params, x, memory_budget, gradient=False)


def _masked(f, params, x, places, start, rows, masks) -> jax.Array:
    places = places[rows].reshape(len(rows), -1)
    keep = jnp.take_along_axis(masks, places, axis=1).reshape(-1, *x.shape[1:])
    return logits_of(f, params, jnp.where(keep, x[rows], start[rows]))


def _held(lengths) -> np.ndarray:
    lengths = np.asarray(lengths, np.int64)
    if lengths.ndim != 1 or len(lengths) > GRID:
        raise ValueError(f"a session has at most {GRID} tiles, not {lengths.shape}")
    return np.arange(TILE) < np.pad(lengths, (0, GRID - len(lengths)))[:, None]


def _image(tiles: np.ndarray) -> np.ndarray:
    return grid_images(tiles)[0, ..., None].astype(np.int32)
