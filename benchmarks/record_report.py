"""Tables of benchmarks/record.py in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from record_cells import cells

from xai_traffic.evaluation.base_rates import PREVALENCES, SESSIONS_A_DAY, at_prevalence
from xai_traffic.evaluation.score_intervals import over_seeds

NETWORKS = ("vit", "xception", "vgg19", "vit of the payload", "networks, mean")


def tables(records: Sequence[dict]) -> str:
    """Return all tables of the records.

    Args:
        records: as benchmarks/record.py writes them.
    """
    if not records:
        return "nothing is measured yet"
    parts = []
    for size in dict.fromkeys(record["size"] for record in records):
        own = [record for record in records if record["size"] == size]
        parts += [_scores(own, "macro_f1", "Macro-F1"), _scores(own, "accuracy", "Accuracy")]
        parts += [_ahead(own), _detectors(own), _costs(own), _controls(own), _about(own)]
    return "\n\n".join(part for part in parts if part)


def _scores(records: list[dict], name: str, title: str) -> str:
    """Return a table of cells by classifiers, mean and half the interval over seeds."""
    classifiers = [
        *NETWORKS,
        *dict.fromkeys(r["model"] for r in records if r["kind"] == "baseline"),
    ]
    head = ["cell", "test", "seeds", *classifiers]
    rows = []
    for cell, own in _by_cell(records):
        values = {model: _over(own, model, name) for model in classifiers}
        known = {model: found["mean"] for model, found in values.items() if found}
        best = max(known, key=known.get)
        leaky = " **LEAKY**" if any(record["leaky"] for record in own) else ""
        row = [cell.title + leaky, str(own[0]["test"]), str(len({r["seed"] for r in own}))]
        for model in classifiers:
            shown = _shown(values[model])
            row.append(f"**{shown}**" if model == best else shown)
        rows.append(row)
    said = (
        f"{title}, %, mean and 95 % interval over seeds (Nadeau and Bengio); of one seed, by "
        "bootstrap over units"
    )
    return said + "\n\n" + table(head, rows)


def _over(records: list[dict], model: str, name: str, pick=lambda record: record) -> dict | None:
    own = [pick(record) for record in records if record["model"] == model]
    if not own:
        return None
    sizes = [(r["train"], r["test"]) for r in records if r["model"] == model]
    train, test = (statistics.fmean(column) for column in zip(*sizes, strict=True))
    found = over_seeds([record[name]["value"] for record in own], train, test)
    if len(own) == 1:
        found |= {side: own[0][name][side] for side in ("low", "high")}
    return found


def _ahead(records: list[dict]) -> str:
    """Return how far the best network of each cell is ahead of the best baseline."""
    head = [
        "cell",
        "best network",
        "best baseline",
        "macro-F1 ahead by, points",
        "accuracy ahead by, points",
        "McNemar p, by seed",
    ]
    rows = []
    for cell, own in _by_cell(records):
        best = {}
        for kind in ("network", "baseline"):
            means = {
                record["model"]: _over(own, record["model"], "macro_f1")["mean"]
                for record in own
                if record["kind"] == kind
            }
            best[kind] = max(means, key=means.get)
        network, baseline = best["network"], best["baseline"]
        row = [cell.title, network, baseline]
        for name in ("macro_f1", "accuracy"):
            found = _over(own, network, name, lambda r, b=baseline: r["ahead_of"][b])
            row.append(_shown(found, signed=True))
        tests = [r["ahead_of"][baseline]["mcnemar"]["p"] for r in own if r["model"] == network]
        rows.append([*row, ", ".join(f"{p:.2g}" for p in tests)])
    return "Networks against baselines, on the same test sessions\n\n" + table(head, rows)


def _detectors(records: list[dict]) -> str:
    """Return what the best network is worth as a detector where malware is rare."""
    own = [record for record in records if "binary" in record and record["kind"] == "network"]
    if not own:
        return ""
    rows, at = [], []
    for cell, some in _by_cell(own):
        means = {
            record["model"]: _over(some, record["model"], "accuracy", lambda r: r["binary"])["mean"]
            for record in some
        }
        best = max(means, key=means.get)
        first = next(r for r in some if r["model"] == best)["binary"]
        rates = first["detection"], first["false_alarm"]
        at = [at_prevalence(*rates, prevalence, SESSIONS_A_DAY) for prevalence in PREVALENCES]
        rows.append(
            [
                cell.title,
                best,
                _shown(_over(some, best, "accuracy", lambda r: r["binary"])),
                _rate(first["detection"]),
                _rate(first["false_alarm"]),
                *(_rate(one["precision"]) for one in at),
                f"{at[-1]['false_alerts_a_day']['value']:,.0f} "
                f"({at[-1]['false_alerts_a_day']['low']:,.0f}, "
                f"{at[-1]['false_alerts_a_day']['high']:,.0f})",
            ]
        )
    head = ["cell", "network", "binary accuracy, %", "detected, %", "false alarms, %"]
    head += [f"precision at {one['prevalence']:g}, %" for one in at]
    head += ["false alerts a day of 10^6 sessions"]
    said = (
        "Malware or benign: probabilities of a side's classes added up. Rates of seed 0, with "
        "exact 95 % intervals"
    )
    return said + "\n\n" + table(head, rows)


def _costs(records: list[dict]) -> str:
    rows = []
    for model in dict.fromkeys(record["model"] for record in records):
        own = [r for r in records if r["model"] == model and r["kind"] != "control"]
        speeds = [r["sessions_per_second"] for r in own if r["sessions_per_second"]]
        sizes = [r["parameters"] for r in own if r["parameters"]]
        if own and speeds:
            trained = [1000 * r["training_seconds"] / r["train"] for r in own]
            rows.append(
                [
                    model,
                    f"{statistics.median(sizes) / 1e3:,.0f} k" if sizes else "",
                    f"{statistics.median(trained):.2f}",
                    f"{statistics.median(speeds):,.0f}",
                    ", ".join(dict.fromkeys(r["detail"] for r in own if r["detail"][-1:] == "J")),
                ]
            )
    head = ["classifier", "numbers learnt", "s to train on 1,000 sessions", "sessions/s", "energy"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return "Costs, medians over cells and seeds\n\n" + table(head, rows)


def _controls(records: list[dict]) -> str:
    names = dict.fromkeys(r["model"] for r in records if r["kind"] == "control")
    if not names:
        return ""
    rows = []
    for cell, own in _by_cell(records):
        chance = [r for r in own if r["model"] == "majority class"]
        rows.append(
            [
                cell.title,
                *(_shown(_over(own, name, "accuracy")) for name in names),
                _shown(_over(chance, "majority class", "accuracy")),
            ]
        )
    head = ["cell", *names, "majority class"]
    return "Controls: accuracy of what cannot have learnt anything, %\n\n" + table(head, rows)


def _about(records: list[dict]) -> str:
    about = records[-1]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['date']}: size {about['size']}, {about['cores']} cores of {about['processor']}, "
        f"{about['system']}, {about['device']}; {versions}; seeds "
        f"{', '.join(map(str, sorted({r['seed'] for r in records})))}"
    )


def _by_cell(records: list[dict]):
    for cell in cells():
        own = [record for record in records if record["cell"] == cell.name]
        if own:
            yield cell, own


def _shown(found: dict | None, signed: bool = False) -> str:
    if found is None:
        return ""
    sign = "+" if signed else ""
    if found["low"] is None:
        return f"{100 * found['mean']:{sign}.1f}"
    low, high = 100 * found["low"], 100 * found["high"]
    if not signed:
        low, high = max(low, 0.0), min(high, 100.0)
    return f"{100 * found['mean']:{sign}.1f} ({low:{sign}.1f}, {high:{sign}.1f})"


def _rate(found: dict | None) -> str:
    if found is None or found["value"] is None:
        return ""
    return "{:.3g} ({:.3g}, {:.3g})".format(*(100 * found[s] for s in ("value", "low", "high")))


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a Markdown table."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
