"""How much of an explanation falls upon evidence that is known, by packets, fields and bytes."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xai_traffic import explain
from xai_traffic.capture.fields import Field
from xai_traffic.data.labels import BINARY_CLASSES
from xai_traffic.evaluation.bootstrap import interval, ratio_interval
from xai_traffic.evaluation.explanations import explain_images, player_groups
from xai_traffic.terminal import progress
from xai_traffic.training.run import Run

AT_ONCE = 16
"""Sessions explained together."""

UNITS = ("packets", "fields", "bytes")
SCORES = {
    "pointing": explain.pointing_game,
    "mass": explain.relevance_mass,
    "rank": explain.relevance_rank,
}
CONTROL = "random"
"""The method that knows no model."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """Sessions of a lab as a run reads them, and its logits.

    Args:
        keys: (capture, session) of each.
        malware: bool [N], by the folder that they lie in.
        images: uint8 [N, 128, 128].
        fields: of each packet of each session, see `capture.fields.dissect`.
        logits: float32 [N, 2].
    """

    keys: list[tuple[str, int]]
    malware: np.ndarray
    images: np.ndarray
    fields: list[list[list[Field]]]
    logits: np.ndarray

    @property
    def verdicts(self) -> np.ndarray:
        """Tell which are judged Malware, bool [N]."""
        return self.logits.argmax(-1) == BINARY_CLASSES.index("Malware")


def score_methods(
    run: Run,
    judged: Judged,
    rows: np.ndarray,
    evidence: Sequence[Sequence[Mapping[str, Any]]],
    methods: Sequence[str],
    references: np.ndarray,
    seed: int = 0,
) -> dict[str, Any]:
    """Explain Malware in some sessions by every method, and score what falls upon the evidence.

    Args:
        rows: of `judged`, int [M].
        evidence: of each, lines of `lab.evidence`.
        references: uint8 [R, 128, 128], see `explain_images`.

    Returns:
        `chance`, `methods` and `claim` as `benchmark_explainers` tells.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    target = np.int32(BINARY_CLASSES.index("Malware"))
    found: dict[str, dict[str, dict[str, list]]] = {}
    chance: dict[str, list] = {unit: [] for unit in UNITS}
    shares: dict[str, list] = {}
    influence = []
    for start in progress(range(0, len(rows), AT_ONCE), f"explain {run.model.name}"):
        part = rows[start : start + AT_ONCE]
        images, fields = judged.images[part], [judged.fields[row] for row in part]
        groups = player_groups(run, fields)
        marks = np.stack([marked(lines) for lines in evidence[start : start + AT_ONCE]])
        truth = {unit: _players_with(groups[unit], marks) for unit in UNITS}
        targets = np.full(len(part), target)
        maps = explain_images(run, images, targets, methods, fields, references)
        values = {name: np.asarray(one.attributions) for name, one in maps.items()}
        values[CONTROL] = rng.standard_normal(images.shape)
        for unit, (present, evident) in truth.items():
            chance[unit].append(explain.by_chance(evident, present))
            for name, one in values.items():
                scores = _sums(groups[unit], np.abs(one))
                kept = found.setdefault(name, {}).setdefault(unit, {score: [] for score in SCORES})
                for score, function in SCORES.items():
                    kept[score].append(function(scores, evident, present))
                if unit == "packets":
                    shares.setdefault(name, []).append(_two_kinds(scores, evident, present))
        x = images[..., None].astype(np.float32)
        lost = explain.occlusion(run.model.apply, run.variables, x, groups["packets"], targets)
        influence.append(_two_kinds(np.asarray(lost), *truth["packets"][::-1]))
    return {
        "chance": {unit: float(np.concatenate(parts).mean()) for unit, parts in chance.items()},
        "methods": {
            name: {
                unit: {
                    score: interval(np.concatenate(parts), seed=seed)
                    for score, parts in scores.items()
                }
                for unit, scores in units.items()
            }
            for name, units in found.items()
        },
        "claim": claim(
            {name: np.concatenate(parts) for name, parts in shares.items()},
            np.concatenate(influence),
            seed,
        ),
    }


def claim(shares: Mapping[str, np.ndarray], lost: np.ndarray, seed: int = 0) -> dict[str, Any]:
    """Answer the study's claim, that packets with the evidence influence the verdict more.

    Args:
        shares: by method, float [M, 2]: mean |attribution| of a session's planted packets, and of
            its others.
        lost: float [M, 2], the same of the logit that is lost without the packet.

    Returns:
        `shares`, by method, how many times what another packet has a planted one has, and `logit`,
        the logits lost by taking out a `planted` packet, an `other` one, and their `difference` in
        the same session; all with 95 % intervals by bootstrap over sessions.
    """
    return {
        "shares": {name: ratio_interval(*pairs.T, seed) for name, pairs in shares.items()},
        "logit": {
            "planted": interval(lost[:, 0], seed=seed),
            "other": interval(lost[:, 1], seed=seed),
            "difference": interval(lost[:, 0] - lost[:, 1], seed=seed),
        },
    }


def marked(lines: Sequence[Mapping[str, Any]]) -> np.ndarray:
    """Return which pixels are evidence, bool [128, 128]; what no image holds is left out."""
    tiles = np.zeros((64, 16, 16), bool)
    for line in lines:
        if line["packet"] < 64:
            tiles[line["packet"]].reshape(-1)[line["start"] : line["end"]] = True
    return tiles.reshape(8, 8, 16, 16).transpose(0, 2, 1, 3).reshape(128, 128)


def _sums(groups: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Add values [M, 128, 128] up over players, float64 [M, P]."""
    places, players = groups[..., 0], int(groups.max()) + 1
    found = np.zeros((len(places), players))
    for row, (own, value) in enumerate(zip(places, values, strict=True)):
        held = own >= 0
        found[row] = np.bincount(own[held], value[held].astype(np.float64), players)
    return found


def _players_with(groups: np.ndarray, marks: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the players that there are and those that hold a marked byte, bool [M, P] each."""
    return _sums(groups, np.ones(marks.shape)) > 0, _sums(groups, marks) > 0


def _two_kinds(scores: np.ndarray, evident: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Return the mean score of the evident players and of the others, float [M, 2]."""
    others = present & ~evident
    kinds = [
        np.where(kind.any(1), (scores * kind).sum(1) / np.maximum(kind.sum(1), 1), np.nan)
        for kind in (evident, others)
    ]
    return np.stack(kinds, 1)
