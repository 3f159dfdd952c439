"""A majority rule on every byte of the first packets: where in the image the label can be read off.

Unlike fields, positions know nothing of protocols: byte 22 of packet 0 is whatever stands there. A
byte behind a packet's end is one more value. So this finds what a dissector has no name for, and
values planted in later packets.
"""

from __future__ import annotations

import dataclasses

import numpy as np

from xai_traffic.capture.records import TILE
from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.field_ranking import Audited
from xai_traffic.evaluation.majority_rule import contingency, score_counts, skill
from xai_traffic.evaluation.mutual_information import adjusted_mutual_information

PACKETS = 8
"""Packets whose bytes are looked at."""

SAMPLE = 3000
"""Most sessions for the mutual information of positions, of which there are 2,048."""

_VALUES = 257  # the last: no such byte


@dataclasses.dataclass(frozen=True, eq=False)
class Positions:
    """What each byte of the first packets tells, all float32 [PACKETS, 256].

    Args:
        accuracy: of the plain rule on the test split.
        balanced_accuracy: see `majority_rule`.
        skill: of the latter.
        ami: adjusted mutual information with the label.
        coverage: part of the sessions that have the byte.
    """

    accuracy: np.ndarray
    balanced_accuracy: np.ndarray
    skill: np.ndarray
    ami: np.ndarray
    coverage: np.ndarray

    def ranked(self, count: int) -> list[dict]:
        """Return the positions that tell most, as dicts with `packet`, `byte` and the scores."""
        order = np.lexsort((-self.ami.ravel(), -self.balanced_accuracy.ravel()))[:count]
        return [
            {
                "packet": int(at) // TILE,
                "byte": int(at) % TILE,
                **{
                    item.name: float(getattr(self, item.name).ravel()[at])
                    for item in dataclasses.fields(self)
                },
            }
            for at in order
        ]


def score_positions(
    dataset: Dataset, rows: np.ndarray, audited: Audited, seed: int = 0
) -> Positions:
    """Score every byte position.

    Args:
        rows: int [N], rows of the dataset's table, in the order of `audited`.
        seed: of the sessions drawn for the mutual information.
    """
    labels, classes = audited.labels, len(audited.classes)
    found = {
        item.name: np.zeros((PACKETS, TILE), np.float32) for item in dataclasses.fields(Positions)
    }
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = np.sort(rng.permutation(len(rows))[:SAMPLE])
    for packet in range(PACKETS):
        codes = _codes(dataset, rows, packet)
        for byte in range(TILE):
            own = codes[:, byte]
            found["coverage"][packet, byte] = (own != _VALUES - 1).mean()
            if (own == own[0]).all():
                found["accuracy"][packet, byte] = audited.baseline()
                found["balanced_accuracy"][packet, byte] = audited.chance
                continue
            score = score_counts(
                contingency(own[audited.train], labels[audited.train], _VALUES, classes),
                contingency(own[audited.test], labels[audited.test], _VALUES, classes),
            )
            found["accuracy"][packet, byte] = score.accuracy
            found["balanced_accuracy"][packet, byte] = score.balanced_accuracy
            found["skill"][packet, byte] = skill(score.balanced_accuracy, audited.chance)
            found["ami"][packet, byte] = adjusted_mutual_information(own[drawn], labels[drawn])
    return Positions(**found)


def add_intervals(
    dataset: Dataset, rows: np.ndarray, audited: Audited, top: list[dict], seed: int = 0
) -> None:
    """Add `intervals` to positions as `Positions.ranked` returns them; the rest as above."""
    draws = audited.draws(seed)
    for packet in sorted({position["packet"] for position in top}):
        codes = _codes(dataset, rows, packet)
        for position in top:
            if position["packet"] == packet:
                own = codes[:, position["byte"]]
                position["intervals"] = audited.rule_intervals(own, draws)


def _codes(dataset: Dataset, rows: np.ndarray, packet: int) -> np.ndarray:
    """Return the bytes of one packet of every session, int16 [N, 256], 256 where there is none."""
    codes = np.full((len(rows), TILE), _VALUES - 1, np.int16)
    have = np.flatnonzero(dataset.tile_counts[rows] > packet)
    if len(have):
        at = dataset.first_tiles[rows[have]] + packet
        tiles, lengths = np.asarray(dataset.tiles[at]), dataset.tile_lengths[at].astype(int)
        held = np.arange(TILE) < lengths[:, None]
        codes[have] = np.where(held, tiles, _VALUES - 1)
    return codes
