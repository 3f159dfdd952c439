"""The card of an explanation: PASS, WARN or FAIL for each metric, and what may be concluded.

The limits are conventions, all in one table. The first metric is a test with a known error: of
explanations whose values stand anywhere no more than one in eighty gets a PASS, and no card is
better than it. The others warn of what that test cannot see.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping

from xai_traffic.explain.faithfulness import ORDERS

PASS, WARN, FAIL = "PASS", "WARN", "FAIL"

GRADES = (PASS, WARN, FAIL)
"""From the best to the worst."""


@dataclasses.dataclass(frozen=True)
class Limit:
    """What a metric's value has to be.

    Args:
        title: of the metric, in words.
        passes: PASS up to this value, or from it on where `high`.
        warns: WARN up to this value (or from it on), FAIL beyond.
        says: what a PASS, a WARN and a FAIL mean.
        high: large values are good.
        decides: the card is no better than this grade; otherwise it is shown alone.
    """

    title: str
    passes: float
    warns: float
    says: tuple[str, str, str]
    high: bool = False
    decides: bool = True

    def grade(self, value: float) -> str:
        """Return PASS, WARN or FAIL."""
        sign = -1 if self.high else 1
        return GRADES[(sign * value > sign * self.passes) + (sign * value > sign * self.warns)]


LIMITS = {
    "faithfulness": Limit(
        "chance of random bytes",
        1 / (2 * (ORDERS + 1)),
        0.05,
        (
            f"the bytes that it ranks first hold the verdict more than in any of {ORDERS} random "
            "orders: read them as its reason",
            "the bytes that it ranks first hold the verdict more than most random ones, not more "
            "than all: read them as a hint",
            "the bytes that it ranks first hold the verdict no more than random ones: conclude "
            "nothing from it",
        ),
    ),
    "input_dependence": Limit(
        "likeness to other verdicts' maps",
        0.5,
        0.9,
        (
            "it is this session's own",
            "much of it is the same for sessions with other verdicts",
            "it is nearly the same for sessions with other verdicts: it shows a habit of the "
            "model, not the reason of this verdict",
        ),
    ),
    "randomisation": Limit(
        "likeness with shuffled weights",
        0.5,
        0.8,
        (
            "it is lost when the model's weights are shuffled",
            "much of it stays when the model's weights are shuffled",
            "it stays when the model's weights are shuffled: it shows the bytes, not the model",
        ),
    ),
    "stability": Limit(
        "change when bytes move by one",
        0.5,
        1.0,
        (
            "it holds for bytes that differ by one",
            "much of it changes when bytes differ by one",
            "it is another one when bytes differ by one: conclude nothing from single bytes",
        ),
    ),
    "completeness": Limit(
        "relative completeness error",
        0.02,
        0.2,
        (
            "it accounts for the whole logit",
            "it misses a part of the logit: take its shares as rough",
            "it misses more than a fifth of the logit: its shares are wrong",
        ),
    ),
    "padding": Limit(
        "share on padding",
        0.05,
        0.5,
        (
            "it lies on bytes that were captured",
            "a part of it lies on padding, where nothing was captured",
            "most of it lies on padding, where nothing was captured",
        ),
    ),
    "faithfulness_fields": Limit(
        "chance of random fields",
        0.05,
        0.5,
        (
            "the fields that it ranks first hold the verdict",
            "the fields that it ranks first hold the verdict little more than random ones",
            "the fields that it ranks first hold the verdict no more than random ones",
        ),
        decides=False,
    ),
    "faithfulness_packets": Limit(
        "chance of random packets",
        0.05,
        0.5,
        (
            "the packets that it ranks first hold the verdict",
            "the packets that it ranks first hold the verdict little more than random ones: few "
            "packets have few orders",
            "the packets that it ranks first hold the verdict no more than random ones",
        ),
        decides=False,
    ),
}
"""By name of the metric, those first that a card's sentence is taken from."""


@dataclasses.dataclass(frozen=True)
class Check:
    """One line of a card: the metric's name, its value, its grade, and what that means."""

    metric: str
    value: float
    grade: str
    says: str


@dataclasses.dataclass(frozen=True)
class Card:
    """How far to believe one explanation.

    Args:
        checks: of the metrics that were measured and have limits.
        grade: the worst grade of a check that decides; WARN where faithfulness was not measured.
        conclusion: one sentence.
    """

    checks: tuple[Check, ...]
    grade: str
    conclusion: str


def card(values: Mapping[str, float]) -> Card:
    """Grade the metrics of one explanation of one example.

    Args:
        values: by name; those without a limit or not finite are left out.
    """
    checks = []
    for name, limit in LIMITS.items():
        value = values.get(name, math.nan)
        if math.isfinite(value):
            grade = limit.grade(value)
            checks.append(Check(name, float(value), grade, limit.says[GRADES.index(grade)]))
    deciding = [check for check in checks if LIMITS[check.metric].decides]
    if not any(check.metric == "faithfulness" for check in deciding):
        says = "whether its bytes hold the verdict was not measured: read them as a hint"
        deciding.insert(0, Check("faithfulness", math.nan, WARN, says))
    worst = max(deciding, key=lambda check: GRADES.index(check.grade))
    return Card(tuple(checks), worst.grade, f"{worst.grade}: {worst.says}.")
