"""The mask that hides the identifiers and artefacts which tell the label."""

from __future__ import annotations

from collections.abc import Sequence

from xai_traffic.capture.masking import MASKS, mask_name
from xai_traffic.evaluation.bootstrap import WILSON
from xai_traffic.evaluation.field_verdicts import SIGNAL

TELLING = 0.1
"""Least skill for a field to count: a tenth of the way from guessing to perfect."""

BEYOND = 0.02
"""Least balanced accuracy that its values add to knowing whether a session has the field at all; a
mask hides the values. (Options are the exception: with their bytes they are gone.)"""


DEVIATIONS = 3
"""How many standard deviations of chance a field must be above guessing: some hundred are asked."""


def tells(row: dict) -> bool:
    """Tell whether a field of `rank_fields` tells enough to be hidden or watched.

    Enough is TELLING, and more than chance gives on so few sessions, and on so few of what the
    split keeps together: the values of one capture are alike whether or not they tell anything.
    """
    score, skill = row["balanced_accuracy"], row["skill"]
    guessing = (score - skill) / (1 - skill) if skill < 1 else 0.0
    if skill < TELLING or score < guessing + DEVIATIONS * row["spread"]:
        return False
    if row["intervals"]:
        reach = score - row["intervals"]["balanced_accuracy"]["low"]
        if score - DEVIATIONS * reach / WILSON**0.5 <= guessing:
            return False
    return score - row["presence"] >= BEYOND or row["mask"] == "options"


def propose_mask(fields: Sequence[dict], mask: str = "none") -> dict:
    """Propose a mask for the fields that were ranked.

    Args:
        fields: of `rank_fields`.
        mask: of the dataset.

    Returns:
        `mask`, the dataset's with what is to be added, or None where nothing is; `hides`, names of
        telling identifiers and artefacts by the mask that hides them; `left`, telling ones in
        the image that no mask hides but `header` or `payload`, which hide signals as well; and
        `outside`, telling ones that are not in the image.
    """
    hides: dict[str, list[str]] = {}
    left, outside = [], []
    for row in fields:
        if row["verdict"] == SIGNAL or not tells(row):
            continue
        if not row["in_image"]:
            outside.append(row["field"])
        elif row["mask"] in (None, "payload"):
            left.append(row["field"])
        else:
            hides.setdefault(row["mask"], []).append(row["field"])
    hides = {name: hides[name] for name in MASKS if name in hides}
    parts = [*hides, *([] if mask == "none" else [mask])]
    return {
        "mask": mask_name("+".join(parts)) if hides else None,
        "hides": hides,
        "left": left,
        "outside": outside,
    }
