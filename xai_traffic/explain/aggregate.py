"""From pixels to bytes, fields and packets: what part of an explanation falls upon each.

A share is the sum of |attribution| over a part divided by that over all bytes that are not
padding. Sums of floats depend on their order, so |attribution| is first rounded to whole units
of a fixed size (2^-36 of the largest, far below the resolution of float32): whatever way the bytes
are grouped afterwards, the parts add up to the whole exactly.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np

from xai_traffic.capture.images import tiles_of_images
from xai_traffic.capture.records import GRID, TILE

WHOLE = (128, 128)
"""Height and width of an image."""

UNITS = 2.0**36


@dataclasses.dataclass(frozen=True)
class Shares:
    """An explanation of one session, byte by byte.

    Args:
        units: float64 [n, 256], whole numbers: |attribution| of each byte of the session's n
            tiles in units of `scale`; zero on padding.
        signed: float64 [n, 256], the attributions themselves; zero on padding.
        scale: float, |attribution| of one unit.
        padding: part of all |attribution| that fell upon padding and empty tiles, 0 to 1.
    """

    units: np.ndarray
    signed: np.ndarray
    scale: float
    padding: float

    @property
    def total(self) -> float:
        """Units of the whole session."""
        return float(self.units.sum())

    def share(self, units: float | np.ndarray) -> float | np.ndarray:
        """Return units as a share of the session; 0 where nothing was attributed at all."""
        return units / self.total if self.total else units * 0.0

    def packets(self) -> np.ndarray:
        """Return the share of each packet, float64 [n]."""
        return self.share(self.units.sum(1))

    def bytes(self) -> np.ndarray:
        """Return the share of each byte, float64 [n, 256]."""
        return self.share(self.units)


def tiles_of(attributions: np.ndarray) -> np.ndarray:
    """Rearrange attributions [..., 128, 128] to tiles [..., 64, 256], one row a packet."""
    values = np.asarray(attributions)
    if values.shape[-2:] != WHOLE:
        raise ValueError(f"attributions must be [..., 128, 128], and are {values.shape}")
    tiles = tiles_of_images(values.reshape(-1, *WHOLE))
    return tiles.reshape(*values.shape[:-2], GRID, TILE)


def byte_shares(attributions: np.ndarray, lengths: Sequence[int]) -> Shares:
    """Attribute to the bytes of a session what its image was given.

    Args:
        attributions: float [128, 128] of one session, signed or not.
        lengths: captured bytes in each of the session's tiles (`length` of its packet rows), at
            most 64 numbers; what lies behind them is padding.

    Raises:
        ValueError: a shape does not fit, or an attribution is not finite.
    """
    tiles = tiles_of(np.asarray(attributions, np.float64))
    if tiles.ndim != 2:
        raise ValueError(f"one session's attributions are [128, 128], not {tiles.shape}")
    if not np.isfinite(tiles).all():
        raise ValueError("an attribution is not finite: the model's logits may have overflowed")
    lengths = np.asarray(lengths, np.int64)
    if lengths.ndim != 1 or len(lengths) > GRID:
        raise ValueError(f"a session has at most {GRID} tiles, not {lengths.shape}")
    held = np.arange(TILE) < lengths[:, None]
    sizes = np.abs(tiles)
    largest = sizes.max()
    scale = float(largest / UNITS) if largest else 1.0
    units = np.where(held, np.rint(sizes[: len(lengths)] / scale), 0.0)
    everything = sizes.sum()
    padding = 1.0 - sizes[: len(lengths)][held].sum() / everything if everything else 0.0
    return Shares(
        units=units,
        signed=np.where(held, tiles[: len(lengths)], 0.0),
        scale=scale,
        padding=float(min(max(padding, 0.0), 1.0)),
    )


def field_units(shares: Shares, fields: Sequence[Sequence]) -> list[list[float]]:
    """Return the units of every field of every packet.

    Args:
        fields: for each packet what `capture.fields.dissect` returns: objects with `name`, `start`
            and `end`, not overlapping and covering the tile's captured bytes.

    Raises:
        ValueError: the fields of a packet miss bytes or count them twice.
    """
    result = []
    for row, (units, parts) in enumerate(zip(shares.units, fields, strict=True)):
        values = [float(units[part.start : part.end].sum()) for part in parts]
        if sum(values) != units.sum():
            raise ValueError(f"the fields of packet {row} do not cover its bytes exactly once")
        result.append(values)
    return result


def session_fields(shares: Shares, fields: Sequence[Sequence]) -> dict[str, float]:
    """Return the share of every field name over all packets, largest first."""
    totals: dict[str, float] = {}
    for parts, values in zip(fields, field_units(shares, fields), strict=True):
        for part, units in zip(parts, values, strict=True):
            totals[part.name] = totals.get(part.name, 0.0) + units
    ranked = sorted(totals.items(), key=lambda item: (-item[1], item[0]))
    return {name: float(shares.share(units)) for name, units in ranked}
