"""Tables of how far verdicts may be believed, for the terminal."""

from __future__ import annotations

from typing import Any

from xai_traffic.cli.options import warn_of_scores
from xai_traffic.report.intervals import with_interval
from xai_traffic.terminal import log, printable, show_table


def show_confidence(confidence: dict[str, Any], split: str, leaky: str = "") -> None:
    """Print what `evaluation.confidence.assess_confidence` found.

    Args:
        leaky: what a table's title says of a dataset that leaks.
    """
    when = [name for name in ("before", "after") if name in confidence]
    told_by = f"95 % intervals, drawn by {confidence['unit']}"
    heads = {
        "before": "as trained",
        "after": f"at temperature {confidence['temperature'] or 1:.3g}",
    }
    rows = [
        (name, *(told(confidence[part][name]) for part in when))
        for name in ("nll", "brier", "expected_calibration_error")
    ]
    show_table(
        f"{split}: probabilities, with {told_by}{leaky}",
        ("score", *(heads[part] for part in when)),
        rows,
    )
    show_table(
        f"{split}: wrong among the surest sessions{leaky}",
        ("sessions", "wrong"),
        [(f"{float(part):.0%}", told(risk)) for part, risk in confidence["risk_at"].items()]
        + [("mean over all parts (AURC)", told(confidence["aurc"]))],
    )
    if "sets" not in confidence:
        log.warning("the run is not calibrated: run `xai-traffic calibrate`")
        return
    sets = confidence["sets"]
    rows = [("all", confidence["sessions"], told(sets["coverage"]), told(sets["size"]))] + [
        (name, own["sessions"], told(own["coverage"]), told(own["size"]))
        for name, own in sorted(
            sets["per_class"].items(), key=lambda item: item[1]["coverage"]["mean"]
        )
    ]
    show_table(
        f"{split}: sets of classes, {sets['promised']:.4g} promised to each class{leaky}",
        ("class", "sessions", "has it in the set", "classes in the set"),
        rows,
    )


def show_open_set(result: dict[str, Any]) -> None:
    """Print what `evaluation.open_set_evaluation.evaluate_open_set` found."""
    known, unknown = result["known"], result["unknown"]
    leaky = ", LEAKY" * bool(result["leaky"])
    log.info(
        "%d sessions of %d classes that were learnt, accuracy %s; %d sessions of %s",
        known["sessions"],
        len(known["classes"]),
        told(result["accuracy"]),
        unknown["sessions"],
        printable(", ".join(unknown["classes"])),
    )
    show_table(
        f"{result['split']}: known against unknown, with 95 % intervals, drawn by {result['unit']}"
        + leaky,
        ("score", "AUROC", "FPR at 95 % TPR", "OSCR"),
        [
            (name, *(told(own[metric]) for metric in ("auroc", "fpr_at_95", "oscr")))
            for name, own in result["scores"].items()
        ],
    )
    show_table(
        f"{result['split']}: accepted by the rule that accepts {result['accept']:.0%} of "
        f"validation{leaky}",
        ("score", "known", "unknown"),
        [
            (name, told(own["rule"]["known"]), told(own["rule"]["unknown"]))
            for name, own in result["scores"].items()
        ],
    )
    warn_of_scores(result)


def told(found: dict[str, float | None]) -> str:
    """Return a number with its interval in words."""
    return with_interval(found, _number)


def _number(value: float) -> str:
    return f"{value:.4f}" if value >= 0.001 or value == 0 else f"{value:.1e}"
