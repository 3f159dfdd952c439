"""Rank fields by what a majority rule on each alone tells of the label."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping

import numpy as np

from xai_traffic.evaluation.field_values import FieldValues
from xai_traffic.evaluation.field_verdicts import verdict_of
from xai_traffic.evaluation.field_views import (
    ABSENT,
    View,
    best_view,
    shown_value,
    views_of,
    views_of_session,
)
from xai_traffic.evaluation.majority_rule import contingency, rule_verdicts, score_rule, skill
from xai_traffic.evaluation.mask_proposal import tells
from xai_traffic.evaluation.mutual_information import SAMPLE, adjusted_mutual_information
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.terminal import progress

LEAST = 10
"""Sessions that must have a field for it to be ranked."""

INTERVALS = 64
"""Fields of the first ranks whose scores have intervals: each costs as much as a bootstrap."""

EXAMPLES = 3
"""Values shown of each field, the most frequent ones."""


@dataclasses.dataclass(frozen=True, eq=False)
class Audited:
    """The sessions that an audit looks at.

    Args:
        labels: int [N].
        classes: K names.
        train, validation, test: int, sessions 0..N - 1 of each split.
        units: int [N], see `split_units.units_of`.
    """

    labels: np.ndarray
    classes: list[str]
    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray
    units: np.ndarray

    @property
    def chance(self) -> float:
        """Balanced accuracy of guessing: one over the classes that the test split has."""
        return 1 / max(len(np.unique(self.labels[self.test])), 1)

    def baseline(self) -> float:
        """Return the accuracy of always saying the class that is most frequent in training."""
        most = np.bincount(self.labels[self.train], minlength=len(self.classes)).argmax()
        return float((self.labels[self.test] == most).mean())

    def draws(self, seed: int) -> Draws:
        """Return what the test sessions' intervals are drawn by: units of their split."""
        units = np.unique(self.units[self.test], return_inverse=True)[1]
        return Draws(self.labels[self.test], units, len(self.classes), seed)

    def rule_intervals(self, codes: np.ndarray, draws: Draws) -> dict[str, dict[str, float]]:
        """Return `accuracy` and `balanced_accuracy` of the rules on codes int [N], with ends."""
        plain, weighed = rule_verdicts(codes, self.labels, self.train, self.test, len(self.classes))
        return {
            "accuracy": draws.interval(plain)["accuracy"],
            "balanced_accuracy": draws.balanced_accuracy(weighed),
        }


def rank_fields(
    audited: Audited,
    fields: FieldValues,
    sessions: Mapping[str, Mapping[int, bytes]],
    seed: int = 0,
) -> list[dict]:
    """Score every field and rank them, those that tell most first.

    Args:
        fields: of the packets' bytes.
        sessions: of `session_values`.
        seed: of the sessions drawn for the mutual information, where there are more than SAMPLE.

    Returns:
        dicts with `field`, `accuracy`, `balanced_accuracy` (it ranks; AMI breaks ties), `skill`,
        `spread` (of balanced accuracy by chance, see `RuleScore`), `ami`, `presence` (balanced
        accuracy of knowing only whether a session has the field), `coverage` (part of the sessions
        that have it), `unseen` (part of the test sessions whose value training lacks), `values`
        (different ones), `side` and `part` (see `View`), `verdict`, `reason`, `mask` (that hides
        it, or None), `in_image`, `examples`, and of the first INTERVALS, and of those that seem
        to tell enough to be hidden, `intervals` of `accuracy` and `balanced_accuracy` (`value`,
        `low`, `high`), of the others None.
    """
    count = len(audited.labels)
    rng = np.random.Generator(np.random.Philox(seed))
    drawn = np.sort(rng.permutation(count)[:SAMPLE])
    candidates = [(name, True, list(views_of(fields, name))) for name in fields.names]
    candidates += [
        (name, False, list(views_of_session(name, own, count))) for name, own in sessions.items()
    ]
    ranked, chosen = [], {}
    for name, in_image, views in progress(candidates, "majority rules"):
        views = [view for view in views if (view.codes != ABSENT).sum() >= LEAST]
        if not views:
            continue
        view = best_view(
            views, audited.labels, audited.train, audited.validation, len(audited.classes)
        )
        row = _row(audited, view, drawn)
        row |= {"mask": fields.hidden_by.get(name), "in_image": in_image}
        ranked.append(row)
        chosen[view.field] = view
    ranked.sort(key=lambda row: (-row["balanced_accuracy"], -row["ami"], row["field"]))
    draws = audited.draws(seed)
    shown = [row for rank, row in enumerate(ranked) if rank < INTERVALS or tells(row)]
    for row in progress(shown, "intervals"):
        row["intervals"] = audited.rule_intervals(chosen[row["field"]].codes, draws)
    return ranked


def _row(audited: Audited, view: View, drawn: np.ndarray) -> dict:
    labels, classes = audited.labels, len(audited.classes)
    score = score_rule(view.codes, labels, audited.train, audited.test, classes)
    presence = score_rule(view.presence(), labels, audited.train, audited.test, classes)
    verdict = verdict_of(view.field)
    return {
        "field": view.field,
        "accuracy": score.accuracy,
        "balanced_accuracy": score.balanced_accuracy,
        "skill": skill(score.balanced_accuracy, audited.chance),
        "spread": score.spread,
        "ami": adjusted_mutual_information(view.codes[drawn], labels[drawn]),
        "presence": presence.balanced_accuracy,
        "coverage": float((view.codes != ABSENT).mean()),
        "unseen": score.unseen,
        "values": len(view.values),
        "side": view.side,
        "part": view.part,
        "verdict": verdict.verdict,
        "reason": verdict.reason,
        "examples": _examples(view, audited),
        "intervals": None,
    }


def _examples(view: View, audited: Audited) -> list[dict]:
    """Return the most frequent values, each with the label that it most often has."""
    counts = contingency(view.codes, audited.labels, len(view.values) + 1, len(audited.classes))
    sizes = counts.sum(1)
    sizes[ABSENT] = 0
    order = np.argsort(-sizes, kind="stable")[:EXAMPLES]
    return [
        {
            "value": shown_value(view, view.values[code - 1]),
            "sessions": int(sizes[code]),
            "label": audited.classes[int(counts[code].argmax())],
            "share": float(counts[code].max() / sizes[code]),
        }
        for code in order.tolist()
        if sizes[code]
    ]
