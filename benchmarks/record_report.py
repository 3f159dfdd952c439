"""Tables of benchmarks/record.py in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from record_cells import Cell, cells_and_parts
from text_table import table

from xai_traffic.evaluation.base_rates import PREVALENCES, SESSIONS_A_DAY, at_prevalence
from xai_traffic.evaluation.seed_intervals import over_seeds, over_seeds_of_one_test
from xai_traffic.report.intervals import hundredfold, with_interval

NETWORKS = ("vit", "xception", "vgg19", "vit of the payload", "networks, mean")
BEST = "best baseline"
SAID = (
    "%, mean and 95 % interval over seeds (Nadeau and Bengio); of one seed, by bootstrap over what "
    "the split keeps together; where all seeds have one test (zeek's: one class more or less), by "
    "both"
)


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
        parts += [_baselines(own, "macro_f1", "Macro-F1"), _baselines(own, "accuracy", "Accuracy")]
        parts += [_ahead(own), _detectors(own), _unseen(own), _costs(own), _controls(own)]
        parts.append(_about(own))
    return "\n\n".join(part for part in parts if part)


def _scores(records: list[dict], name: str, title: str) -> str:
    """Return a table of cells by networks, with the best baseline of each cell."""
    head = ["cell", "test sessions", "seeds", *NETWORKS, BEST, "which"]
    rows = []
    for cell, own in _by_cell(records):
        values = {model: _over(own, model, name) for model in NETWORKS}
        best = _best(own, "baseline", name)
        values[BEST] = _over(own, best, name)
        rows.append([*_told(cell, own), *_marked(values), best])
    return f"{title} of networks, {SAID}\n\n" + table(head, rows)


def _baselines(records: list[dict], name: str, title: str) -> str:
    """Return a table of cells by baselines."""
    models = list(dict.fromkeys(r["model"] for r in records if r["kind"] == "baseline"))
    rows = [
        [_title(cell, own), *_marked({model: _over(own, model, name) for model in models})]
        for cell, own in _by_cell(records)
    ]
    return f"{title} of baselines, {SAID}\n\n" + table(["cell", *models], rows)


def _told(cell: Cell, own: list[dict]) -> list[str]:
    """Return what a row begins with: title, test sessions, seeds."""
    sizes = [record["test"] for record in own]
    size = f"{min(sizes):,}" + (f" to {max(sizes):,}" if min(sizes) < max(sizes) else "")
    return [_title(cell, own), size, str(len({record["seed"] for record in own}))]


def _title(cell: Cell, own: list[dict]) -> str:
    """Return what a cell asks, marked where sessions of a seed stand on both sides."""
    return cell.title + (" **LEAKY**" if any(record["leaky"] for record in own) else "")


def _marked(values: dict[str, dict | None]) -> list[str]:
    """Return scores with their intervals, the highest in bold."""
    known = {model: found["mean"] for model, found in values.items() if found}
    best = max(known, key=known.get, default=None)
    shown = {model: _shown(found) for model, found in values.items()}
    return [f"**{text}**" if model == best else text for model, text in shown.items()]


def _best(records: list[dict], kind: str, name: str) -> str:
    """Return the classifier of a kind with the highest mean over seeds."""
    means = {
        record["model"]: _over(records, record["model"], name)["mean"]
        for record in records
        if record["kind"] == kind
    }
    return max(means, key=means.get)


def _over(records: list[dict], model: str, name: str, pick=lambda record: record) -> dict | None:
    own = [pick(record) for record in records if record["model"] == model]
    if not own:
        return None
    scores = [record[name] for record in own]
    of_model = [record for record in records if record["model"] == model]
    if len(scores) > 1 and of_model[0]["cell"] in _tested_alike():
        return over_seeds_of_one_test(scores)
    train, test = (statistics.fmean(r[split] for r in of_model) for split in ("train", "test"))
    found = over_seeds([score["value"] for score in scores], train, test)
    if len(scores) == 1:
        found |= {side: scores[0][side] for side in ("low", "high")}
    return found


def _tested_alike() -> set[str]:
    """Return the names of cells whose test sessions are the same for every seed."""
    return {cell.name for cell in cells_and_parts() if cell.same_test}


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
        network, baseline = (_best(own, kind, "macro_f1") for kind in ("network", "baseline"))
        row = [_title(cell, own), network, baseline]
        for name in ("macro_f1", "accuracy"):
            found = _over(own, network, name, lambda r, b=baseline: r["ahead_of"][b])
            row.append(_shown(found, signed=True))
        tests = [r["ahead_of"][baseline]["mcnemar"]["p"] for r in own if r["model"] == network]
        rows.append([*row, ", ".join("-" if p is None else f"{p:.2g}" for p in tests)])
    return "Networks against baselines, on the same test sessions\n\n" + table(head, rows)


def _detectors(records: list[dict]) -> str:
    """Return what the best network is worth as a detector where malware is rare."""
    own = [
        record
        for record in records
        if record["kind"] == "network"
        and all(record.get("binary", {}).get(rate) for rate in ("detection", "false_alarm"))
    ]
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
                _title(cell, some),
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
        "exact 95 % intervals, of as many sessions as the units are worth"
    )
    return said + "\n\n" + table(head, rows)


def _unseen(records: list[dict]) -> str:
    """Return what the best classifier of each sort finds of left out malware, seed by seed."""
    own = [record for record in records if record["cell"] == "malicious"]
    if not own:
        return ""
    sorts = {
        "network": lambda r: r["kind"] == "network",
        "CNN of the literature": lambda r: r["model"].startswith("cnn"),
        "tree": lambda r: "tree" in r["model"] or "forest" in r["model"],
        "single field": lambda r: r["model"] == "majority field",
    }
    rows = []
    for seed in sorted({record["seed"] for record in own}):
        of_seed = [record for record in own if record["seed"] == seed]
        sizes = (of_seed[0]["binary"][rate] for rate in ("detection", "false_alarm"))
        row = [str(seed) + " **LEAKY**" * of_seed[0]["leaky"]]
        row += [f"{size['of']} in {size['units']}" for size in sizes]
        for chosen in sorts.values():
            best = max(filter(chosen, of_seed), key=lambda r: r["macro_f1"]["value"])
            name = best["detail"] if best["model"] == "majority field" else best["model"]
            rates = (
                with_interval(best["binary"][rate], hundredfold(".1f"))
                for rate in ("detection", "false_alarm")
            )
            row.append(f"{name}: {' at '.join(rates)}")
        rows.append(row)
    said = (
        "Malware of families that training has not seen: detected at so many false alarms, %, by "
        "the classifier of each sort that has most macro-F1 on this very test; exact 95 % "
        "intervals, of as many sessions as the captures are worth"
    )
    counts = [f"{side} sessions in captures" for side in ("malicious", "benign")]
    return said + "\n\n" + table(["seed", *counts, *(f"best {sort}" for sort in sorts)], rows)


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
                    _middle([size / 1e3 for size in sizes], ",.0f", " k") if sizes else "",
                    _middle(trained, ".2f"),
                    _middle(speeds, ",.0f"),
                    ", ".join(dict.fromkeys(r["detail"] for r in own if r["detail"][-1:] == "J")),
                ]
            )
    head = ["classifier", "numbers learnt", "s to train on 1,000 sessions", "sessions/s", "energy"]
    if not any(row[-1] for row in rows):
        head, rows = head[:-1], [row[:-1] for row in rows]
    return "Costs, medians over cells and seeds (and the quartiles)\n\n" + table(head, rows)


def _middle(values: Sequence[float], form: str, unit: str = "") -> str:
    """Return the median with its unit and, where values differ, the quartiles behind it."""
    median = f"{statistics.median(values):{form}}{unit}"
    if min(values) == max(values):
        return median
    low, _, high = statistics.quantiles(values, n=4, method="inclusive")
    return f"{median} ({low:{form}}, {high:{form}})"


def _controls(records: list[dict]) -> str:
    names = dict.fromkeys(r["model"] for r in records if r["kind"] == "control")
    if not names:
        return ""
    rows = []
    for cell, own in _by_cell(records):
        chance = [r for r in own if r["model"] == "majority class"]
        rows.append(
            [
                _title(cell, own),
                *(_shown(_over(own, name, "accuracy")) for name in names),
                _shown(_over(chance, "majority class", "accuracy")),
            ]
        )
    head = ["cell", *names, "majority class"]
    return "Controls: accuracy of what cannot have learnt anything, %\n\n" + table(head, rows)


def _about(records: list[dict]) -> str:
    """Return a line for each machine, with the rows that it measured: cells, once a seed."""
    rows: dict[str, set] = {}
    for about in records:
        versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
        told = (
            f"{about['date']}: size {about['size']}, {about['cores']} "
            f"{'core' if about['cores'] == 1 else 'cores'} of {about['processor']}, "
            f"{about['system']}, {about['device']}; {versions}"
        )
        rows.setdefault(told, set()).add((about["seed"], about["cell"]))
    lines = []
    for told, own in rows.items():
        seeds = ", ".join(map(str, sorted({seed for seed, _ in own})))
        alone = "" if len(rows) == 1 else f"; {len(own)} rows"
        lines.append(f"{told}; seeds {seeds}{alone}")
    return "\n".join(lines)


def _by_cell(records: list[dict]):
    for cell in cells_and_parts():
        own = [record for record in records if record["cell"] == cell.name]
        if own:
            yield cell, own


def _shown(found: dict | None, signed: bool = False) -> str:
    if found is None:
        return ""
    ends = {end: found[end] for end in ("low", "high")}
    if None not in ends.values():  # of few seeds an interval may reach beyond what there can be
        least = -1.0 if signed else 0.0
        ends = {end: min(max(value, least), 1.0) for end, value in ends.items()}
    return with_interval({**found, **ends}, hundredfold("+.1f" if signed else ".1f"))


def _rate(found: dict | None) -> str:
    return with_interval(found, hundredfold(".3g"))
