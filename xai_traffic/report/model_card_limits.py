"""Of a model card: what the model must not be used for, and the shortcuts it may take.

Each line follows from something that is written of the run, and says from what.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from xai_traffic.evaluation.field_verdicts import SIGNAL
from xai_traffic.evaluation.mask_proposal import tells
from xai_traffic.evaluation.run_record import RunRecord
from xai_traffic.report.markdown import bullets, code, codes, percent, points, table
from xai_traffic.report.model_card_data import split_key
from xai_traffic.report.model_card_scores import main_evaluation

FEW = 30
"""Test sessions of a class below which little can be said of it."""

SHOWN = 20
"""Most shortcuts in the table."""

BEYOND = {
    "random": "hosts, networks and days other than those of its captures: a random split has the "
    "same hosts, captures and times on both sides",
    "hash": "hosts, networks and days other than those of its captures: a split by hash has the "
    "same hosts, captures and times on both sides",
    "session": "hosts, networks and days other than those of its captures: a split by session has "
    "the same hosts, captures and times on both sides",
    "host": "networks and days other than those of its captures: the test hosts are others, their "
    "network, servers and days are the same",
    "time": "networks and hosts other than those of its captures: the test is later, and of the "
    "same network",
    "capture": "captures that were made otherwise than these: the test captures are others, but of "
    "the same makers",
    "family": "networks other than those of its captures: the test has other classes, not other "
    "networks",
}
"""By the key of the split, of what no score says anything."""


def must_not(record: RunRecord) -> list[str]:
    """Return the list of what the model must not be used for."""
    return bullets(_must_not(record))


def _must_not(record: RunRecord) -> Iterator[str]:
    if record.summary.config.get("data.permute_labels"):
        yield "**anything**: its labels were permuted, it is a control"
    for reason in record.leaky:
        yield f"**any claim by its scores as those of the split**: LEAKY, {code(reason)}"
    key = split_key(record)
    if key is None:
        yield "claims about other hosts, networks and days: how it was split is not at hand"
    else:
        yield f"claims about {BEYOND[key]} (split {code(record.manifest['split'])})"
    yield from _unseen_classes(record)
    yield from _probabilities(record)
    yield from _weak_classes(record)
    yield from _other_networks(record)
    yield from _shortcuts(record)
    main = main_evaluation(record)
    rates = (main or {}).get("base_rates") or {}
    if rates.get("at"):
        malware, benign = rates["detection_rate"]["of"], rates["false_alarm_rate"]["of"]
        yield (
            f"alarms that nobody looks at: {percent(malware / (malware + benign))} of split "
            f"{main['split']} is malware, which no network has; see the table of base rates"
        )
    if not record.measured["explanations"]:
        yield (
            "reasons that are believed unseen: how far its explanations may be believed is not "
            "measured, look at the card of each"
        )
    if main is not None:
        yield "comparisons by one number: it is one training with one seed, on one draw of a split"


def _unseen_classes(record: RunRecord) -> Iterator[str]:
    rule = (record.calibration or {}).get("unknown")
    words = f"sessions of other classes than its {len(record.classes)}: "
    if not rule or not rule["on"]:
        yield words + (
            "each gets one of these, for "
            + ("the unknown rule is off" if rule else "there is no unknown rule")
        )
    else:
        found = [
            own["scores"][rule["score"]]["rule"]["unknown"]
            for own in record.measured["open-set"].values()
            if rule["score"] in own["scores"] and not record.stale(own)
        ]
        measured = (
            f"of classes left out it let {percent(found[0])} pass as known"
            if found
            else "how many it lets pass as known is not measured here"
        )
        yield words + f"the unknown rule is no proof, {measured}"
    learnt = (record.calibration or {}).get("learnt")
    never = [name for name in record.classes if learnt is not None and name not in learnt]
    if never:
        yield f"{codes(never)}: training had no session of them"


def _probabilities(record: RunRecord) -> Iterator[str]:
    if record.calibration is None:
        yield "probabilities that mean what they say: it is not calibrated"
        return
    other = not record.calibration.get("own_dataset", True)
    yield (
        "probabilities and sets of classes on other traffic: both are calibrated on the validation "
        f"split ({record.calibration['sessions']:,} sessions)"
        + (f" of another dataset, {code(record.calibration['dataset'])}," if other else ",")
        + " and hold for sessions like those"
    )
    without = record.calibration["sets"]["without_promise"]
    if without:
        yield f"sets of classes that promise anything of {codes(without)}: no validation session"


def _weak_classes(record: RunRecord) -> Iterator[str]:
    main = main_evaluation(record)
    if main is None:
        yield "anything that rests on its scores: it was never evaluated"
        return
    support = {name: main["per_class"][name]["support"] for name in record.classes}
    none = [name for name, count in support.items() if not count]
    few = [f"{code(name)} ({count})" for name, count in support.items() if 0 < count < FEW]
    if none:
        yield f"claims about {codes(none)}: split {main['split']} has no session of them"
    if few:
        yield (
            f"claims about single classes of fewer than {FEW} sessions in split {main['split']}: "
            + ", ".join(few)
        )
    captures = (record.audit or {}).get("captures", {}).get("per_class", {})
    single = [name for name in record.classes if captures.get(name) == 1]
    if single:
        yield (
            f"claims that it knows {codes(single)} rather than one capture: all their sessions are "
            "of one each"
        )


def _other_networks(record: RunRecord) -> Iterator[str]:
    if not record.measured["forged"]:
        yield "other networks unseen: what a change of network costs is not measured"
        return
    for own in record.measured["forged"].values():
        for row in own["forgeries"]:
            drop = row["drop"]["accuracy"]
            if drop["low"] > 0:
                yield (
                    f"networks that differ in {code(row['forgery'])}: forged so, it loses "
                    f"{points(drop)} of accuracy on split {own['split']}"
                )


def _shortcuts(record: RunRecord) -> Iterator[str]:
    if record.audit is None:
        yield "traffic made elsewhere, before its shortcuts are known: the dataset was not audited"
        return
    seen = [row["field"] for row in shortcuts(record.audit) if row["in_image"]]
    if seen:
        shown = codes(seen[:SHOWN]) + ", ..." * (len(seen) > SHOWN)
        yield f"traffic in which these differ, that it sees and that tell the label: {shown}"


def shortcuts(audit: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the ranked fields that tell the label and should not."""
    return [row for row in audit["fields"] if row["verdict"] != SIGNAL and tells(row)]


def known_shortcuts(record: RunRecord) -> list[str]:
    """Return the section on what tells the label that is no behaviour."""
    audit = record.audit
    if audit is None:
        command = "xai-traffic audit DATASET RUN --out AUDIT && xai-traffic card RUN --audit AUDIT"
        return [f"*Not looked for:* `{command}`.", ""]
    found = shortcuts(audit)
    rows = [
        (
            code(row["field"]),
            row["verdict"],
            percent((row.get("intervals") or row)["balanced_accuracy"]),
            "yes" if row["in_image"] else "no",
            code(row["reason"]),
        )
        for row in found[:SHOWN]
    ]
    lines = [
        "Balanced accuracy of a majority rule on one field alone; "
        f"guessing gives {percent(audit['chance'])}. Of {len(audit['fields']):,} fields "
        f"{len(found):,} tell the label and should not.",
        "",
    ]
    if rows:
        columns = ("field", "verdict", "balanced accuracy", "the model sees it", "why")
        lines += table(columns, rows)
    run = audit.get("run")
    if run is None:
        return [
            *lines,
            "*Not measured* what it rests on: name the RUN to `xai-traffic audit`.",
            "",
        ]
    rows = [
        (
            code(row["group"]),
            percent(row["share"]),
            points(row["drop"]) or "not measured",
        )
        for row in run["groups"]
    ]
    return [
        *lines,
        f"What it rests on, of {run['sessions']:,} sessions of split {run['split']}: the share of "
        f"all fields of a kind in the attribution ({code(run['method'])}), and the accuracy lost "
        "when they are exchanged.",
        "",
        *table(("fields that a mask hides", "share", "lost"), rows),
    ]
