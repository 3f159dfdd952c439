"""Of a model card: the quantitative analyses, each number with its interval."""

from __future__ import annotations

from typing import Any

from xai_traffic.evaluation.run_record import RunRecord
from xai_traffic.report.markdown import code, number, percent, points, table

SCORES = {
    "accuracy": percent,
    "macro_f1": percent,
    "mcc": number,
    "roc_auc": number,
    "pr_auc": number,
}
"""Scores of a split, and how they are told."""

NAMES = {"macro_f1": "macro-F1", "mcc": "Matthews correlation", "roc_auc": "ROC AUC"} | {
    "pr_auc": "average precision",
    "nll": "negative log-likelihood",
    "brier": "Brier score",
    "expected_calibration_error": "expected calibration error",
}


def main_evaluation(record: RunRecord) -> dict[str, Any] | None:
    """Return the evaluation that a card tells of by class: of the test split, if there is one."""
    return next(iter(record.measured["evaluation"].values()), None)


def score_of(evaluation: dict[str, Any], name: str) -> dict[str, Any] | float | None:
    """Return a score with its interval, where the evaluation has one."""
    found = evaluation.get("intervals", {}).get(name)
    if found is None and name == "accuracy":  # it is one less the risk of judging all
        risk = evaluation["confidence"]["risk_at"]["1.0"]
        if risk["low"] is None:
            return 1 - risk["mean"]
        return {"value": 1 - risk["mean"], "low": 1 - risk["high"], "high": 1 - risk["low"]}
    return evaluation[name] if found is None else found


def quantitative_analyses(record: RunRecord) -> list[str]:
    """Return the section of all scores."""
    evaluations = record.measured["evaluation"]
    if not evaluations:
        return [
            "*Not measured:* scores by class, calibration, risk: `xai-traffic evaluate RUN`.",
            "",
            *_further(record),
        ]
    rows = [
        (NAMES.get(name, name), *(say(score_of(own, name)) for own in evaluations.values()))
        for name, say in SCORES.items()
    ]
    lines = table(("score", *evaluations), rows)
    for split, own in evaluations.items():
        for reason in own.get("flattered_by", ()):  # none in evaluations of earlier versions
            lines += [f"Split {split} flatters the run: {reason}.", ""]
    best = record.summary.best
    if best:
        told = ", ".join(f"{NAMES.get(name, name)} {value:.4g}" for name, value in best.items())
        lines += [
            f"By these the checkpoint was chosen, so they flatter it and have no interval: {told} "
            "on the validation split.",
            "",
        ]
    main = main_evaluation(record)
    return [*lines, *_by_class(main), *_probabilities(main), *_base_rates(main), *_further(record)]


def _by_class(evaluation: dict[str, Any]) -> list[str]:
    told = evaluation.get("intervals", {}).get("per_class", {})
    rows = []
    for name, own in evaluation["per_class"].items():
        if not own["support"]:
            rows.append((code(name), 0, *["not measured"] * 3))
            continue
        found = told.get(name, own)
        scores = [percent(found[score]) for score in ("precision", "recall", "f1")]
        scores[0] = scores[0] or "never called"
        rows.append((code(name), f"{own['support']:,}", *scores))
    lines = [f"### By class, split {evaluation['split']}", ""]
    lines += table(("class", "sessions", "precision", "recall", "F1"), rows)
    matrix, classes = evaluation["confusion_matrix"], evaluation["classes"]
    pairs = [
        (matrix[true][said], classes[true], classes[said])
        for true in range(len(classes))
        for said in range(len(classes))
        if true != said and matrix[true][said]
    ]
    if pairs:
        most = sorted(pairs, key=lambda pair: -pair[0])[:5]
        told = "; ".join(f"{code(a)} called {code(b)} ({count:,})" for count, a, b in most)
        lines += [f"Most often wrong: {told}.", ""]
    return lines


def _probabilities(evaluation: dict[str, Any]) -> list[str]:
    confidence = evaluation["confidence"]
    when = {"before": "as trained", "after": f"at temperature {confidence['temperature'] or 1:.4g}"}
    told = [part for part in when if part in confidence]
    rows = [
        (NAMES[name], *(number(confidence[part][name]) for part in told))
        for name in ("nll", "brier", "expected_calibration_error")
    ]
    lines = ["### How far its probabilities may be believed", ""]
    lines += table(("score", *(when[part] for part in told)), rows)
    risks = [(f"{float(part):.0%}", percent(risk)) for part, risk in confidence["risk_at"].items()]
    lines += table(("of the surest sessions", "wrong"), risks)
    if "sets" not in confidence:
        return [*lines, "*Not calibrated:* `xai-traffic calibrate RUN`, then evaluate again.", ""]
    sets = confidence["sets"]
    coverage = {name: own["coverage"] for name, own in sets["per_class"].items()}
    worst = min(coverage, key=lambda name: coverage[name]["mean"])
    return [
        *lines,
        f"Sets of classes, {sets['promised']:.4g} promised to each class: "
        f"{percent(sets['coverage'])} of the sessions have theirs in the set, of "
        f"{number(sets['size'])} classes; the class least so is {code(worst)}, "
        f"{percent(coverage[worst])}.",
        "",
    ]


def _base_rates(evaluation: dict[str, Any]) -> list[str]:
    rates = evaluation.get("base_rates")
    if not rates or not rates.get("at"):
        return []
    rows = [
        (
            f"{row['prevalence']:g}",
            percent(row["precision"]),
            *(
                "{value:,.0f} ({low:,.0f}, {high:,.0f})".format(**row[name])
                for name in ("alerts_a_day", "false_alerts_a_day")
            ),
        )
        for row in rates["at"]
    ]
    return [
        "### Where malware is rare",
        "",
        f"Of malicious sessions {percent(rates['detection_rate'])} are called so, of benign ones "
        f"{percent(rates['false_alarm_rate'])}; in {rates['sessions_a_day']:,} sessions a day:",
        "",
        *table(("part that is malware", "precision", "alerts a day", "false ones"), rows),
    ]


def _further(record: RunRecord) -> list[str]:
    return [*_unknown(record), *_forged(record), *_explanations(record)]


def _unknown(record: RunRecord) -> list[str]:
    lines = ["### Sessions of classes that it has never seen", ""]
    rule = record.calibration and record.calibration["unknown"]
    if rule:
        lines += [f"Rule, {'on' if rule['on'] else 'off'}: {code(rule['rule'])}.", ""]
    else:
        lines += ["There is no rule: `xai-traffic calibrate RUN --unknown energy`.", ""]
    if not record.measured["open-set"]:
        command = "xai-traffic evaluate RUN --open-set DATASET"
        return [*lines, f"*Not measured* how well it tells them: `{command}`.", ""]
    for split, own in record.measured["open-set"].items():
        rows = [
            (
                name.replace("_", " "),
                number(found["auroc"]),
                percent(found["fpr_at_95"]),
                percent(found["rule"]["known"]),
                percent(found["rule"]["unknown"]),
            )
            for name, found in own["scores"].items()
        ]
        lines += [
            f"Split {split}: {own['known']['sessions']:,} sessions of classes that were learnt, "
            f"{own['unknown']['sessions']:,} of {len(own['unknown']['classes'])} others"
            f"{_stale(record, own)}. Accepted by the rule:",
            "",
            *table(("score", "AUROC", "FPR at 95 %", "known", "unknown"), rows),
        ]
    return lines


def _forged(record: RunRecord) -> list[str]:
    lines = ["### On another network", ""]
    if not record.measured["forged"]:
        command = "xai-traffic evaluate RUN --forge addresses,ports,times,ttl,sequence,all"
        return [*lines, f"*Not measured:* `{command}`.", ""]
    for split, own in record.measured["forged"].items():
        rows = [
            (
                code(row["forgery"]),
                *(points(row["drop"][name]) for name in ("accuracy", "macro_f1")),
            )
            for row in own["forgeries"]
        ]
        lines += [
            f"Split {split}, {own['sessions']:,} sessions forged as another network would have "
            f"carried them, checksums {own['checksums']}{_stale(record, own)}; lost:",
            "",
            *table(("forged", "accuracy", "macro-F1"), rows),
        ]
    return lines


def _explanations(record: RunRecord) -> list[str]:
    lines = ["### Its explanations", ""]
    if not record.measured["explanations"]:
        command = "xai-traffic evaluate RUN --explanations --limit 200"
        return [*lines, f"*Not measured:* `{command}`.", ""]
    for split, own in record.measured["explanations"].items():
        rows = []
        for name, found in own["methods"].items():
            passed = percent(found["cards"].get("passed")) or "not measured"
            rows.append((code(name), passed, number(found["metrics"].get("gain"))))
        lines += [
            f"Split {split}, {own['sessions']:,} sessions, intervals drawn by "
            f"{own.get('unit', 'session')}{_stale(record, own)}; shuffled, random and edges are "
            "controls that must not pass:",
            "",
            *table(("explanation", "cards that pass", "gain in logits"), rows),
        ]
    return lines


def _stale(record: RunRecord, own: dict[str, Any]) -> str:
    stale = record.stale(own)
    return f"; **{stale}**" if stale else ""
