"""The tables of the benchmarks of models: medians, and ratios formed within each round."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from model_cases import all_models

from xai_traffic.report.markdown import table

OURS = "xai-traffic"
PEERS = {"keras-jax": "Keras on JAX", "torch": "PyTorch", "keras-tensorflow": "Keras on TensorFlow"}
BACKWARD = 3
"""Times the way forward that a training step multiplies: forward, to the weights, to the input."""


def tables(records: list[dict]) -> str:
    """Return the tables of all that was measured, as Markdown, and what the figures depend on."""
    facts = next(record for record in records if record["case"] == "about")
    what = facts["what"]
    lines = [*_checks(records), *_ceilings(records)]
    for dtype in ("float32", "bfloat16"):
        lines += _models(records, what, dtype)
    lines += _flops(records)
    lines += [*_formulations(records), *_packed(records), *_pipeline(records), *_classify(records)]
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    memory = f"{facts['memory'] / 2**30:.0f} GiB"
    device = facts.get("device", "unknown")
    lines.append(
        f"{facts['date']}: {device}, {facts['cores']} cores of {facts['processor']}, {memory}, "
        f"{facts['system']}; load at the start {facts['load']}; {versions}; seed {facts['seed']}"
    )
    if facts["platform"] == "cpu":
        lines.append(
            "No accelerator was at hand: no figure here is of one. Where there is one, this same "
            "call checks the models on it first, then measures it."
        )
    return "\n".join(lines)


def summary(records: list[dict], case: str) -> dict[str, dict]:
    """Return by name what a case's runs came to: medians, and ours as a multiple of each."""
    runs: dict[str, list[dict]] = {}
    for record in records:
        if record["case"] == case:
            runs.setdefault(record["name"], []).append(record)
    ours = {run["round"]: run for run in runs.get(OURS, []) if "seconds" in run}
    rows = {}
    for name, some in runs.items():
        done = [run for run in some if "seconds" in run]
        if not done:
            rows[name] = {"absent": some[0]["absent"]}
            continue
        ratios = [
            ours[run["round"]]["per_second"] / run["per_second"]
            for run in done
            if run["round"] in ours
        ]
        rows[name] = {
            "runs": len(done),
            "per_second": statistics.median(run["per_second"] for run in done),
            "first_step": done[0].get("first_step"),  # later ones find the program compiled
            "peak": max(run.get("peak") or 0 for run in done),
            "parameters": done[0].get("parameters"),
            "ratio": statistics.median(ratios) if ratios else None,
            "ratios": (min(ratios), max(ratios)) if ratios else None,
        }
    return rows


def rates(records: list[dict]) -> dict[str, float]:
    """Return the measured ceilings: operations a second by dtype, bytes a second as "memory".

    The best of the rounds: a ceiling is what the device can do, not what it does on average.
    """
    found: dict[str, float] = {}
    for record in records:
        if record["case"] == "ceilings" and "per_second" in record:
            name = record["name"].removeprefix("product ")
            found[name] = max(found.get(name, 0.0), record["per_second"])
    return found


def counted_models(records: list[dict]) -> dict[str, dict]:
    """Return the records of counted operations by model."""
    return {record["model"]: record for record in records if record["case"] == "flops"}


def _models(records: list[dict], what: str, dtype: str) -> list[str]:
    cases: dict[str, dict] = {}
    for record in records:
        if record.get("what") == what and record.get("dtype") == dtype and "model" in record:
            cases.setdefault(record["case"], record)
    if not cases:
        return []
    limit, flops = rates(records).get(dtype), counted_models(records)
    times = BACKWARD if what == "training" else 1
    shown = [name for name in PEERS.values() if _somewhere(records, cases, name)]
    body = []
    for case, record in cases.items():
        rows = summary(records, case)
        row = rows.get(OURS, {"absent": "not run"})
        title = all_models()[record["model"]].title
        cells = [title, str(record["batch"])]
        if "absent" in row:
            cells += [f"absent: {row['absent']}", "", "", "", ""]
        else:
            share = ""
            if limit and record["model"] in flops:
                used = flops[record["model"]]["flops"] * times * row["per_second"]
                share = f"{used / limit:.0%}"
            step = record["batch"] / row["per_second"] * 1e3
            cells += [digits(row["per_second"]), digits(step), share]
            cells += [f"{row['first_step'] or 0:.1f} s", f"{row['peak'] / 1e6:,.0f} MB"]
        for name in shown:
            cells.append(_peer(rows.get(name)))
        body.append(cells)
    heads = ("model", "batch", "images/s", "ms a step", "of the products' rate", "first step")
    lines = [
        f"**{what}, {dtype}**: of each other framework images/s, and how many times as many ours "
        "does (median of the ratios within rounds, smallest - largest)",
        "",
        *table((*heads, "peak memory", *shown), body),
    ]
    absent = {name: found for name in PEERS.values() if (found := _absent(records, cases, name))}
    for name, reason in absent.items():
        if name not in shown:
            lines += [f"{name}: absent, {reason}", ""]
    return lines


def _somewhere(records: list[dict], cases: dict, name: str) -> bool:
    return any(
        record["name"] == name and "seconds" in record
        for record in records
        if record["case"] in cases
    )


def _absent(records: list[dict], cases: dict, name: str) -> str:
    reasons = [
        record["absent"]
        for record in records
        if record["case"] in cases and record["name"] == name and "absent" in record
    ]
    return reasons[0] if reasons else ""


def _peer(row: dict | None) -> str:
    if row is None:
        return ""
    if "absent" in row:
        return f"absent: {row['absent']}"
    text = digits(row["per_second"])
    if row["ratio"]:
        text += f" ({digits(row['ratio'])} x, {' - '.join(map(digits, row['ratios']))})"
    return text


def _checks(records: list[dict]) -> list[str]:
    checks = [record for record in records if record["case"] == "check"]
    if not checks:
        return []
    wrong = [
        f"{record['name']} ({record.get('difference')})" for record in checks if not record["ok"]
    ]
    told = f"wrong: {', '.join(wrong)}" if wrong else f"all {len(checks)} ok"
    return [f"**checks** before the measuring: {told}", ""]


def _ceilings(records: list[dict]) -> list[str]:
    found = rates(records)
    if not found:
        return []
    shown = ", ".join(
        f"memory {rate / 1e9:,.1f} GB/s read and written"
        if name == "memory"
        else f"products in {name} {rate / 1e12:,.3g} TFLOP/s"
        for name, rate in found.items()
    )
    return [f"**ceilings** of the device, measured: {shown}", ""]


def _flops(records: list[dict]) -> list[str]:
    found = counted_models(records)
    if not found:
        return []
    rows = []
    for name, row in found.items():
        counted = [row[key] / 1e9 for key in ("flops", "flops_without_padding", "flops_by_xla")]
        cells = [all_models()[name].title, f"{row['parameters'] / 1e6:.2f} M"]
        cells += [f"{value:.3f}" for value in (*counted, row["training_flops_by_xla"] / 1e9)]
        rows.append(cells)
    return [
        "**operations** of one image's way forward, 10^9, by hand and by XLA (of the program "
        "before it is optimised; it counts elementwise work too, and no products with padding)",
        "",
        *table(("model", "parameters", "by hand", "without padding", "XLA", "XLA, training"), rows),
    ]


def _formulations(records: list[dict]) -> list[str]:
    runs = [run for run in records if run["case"] == "formulations" and "formulations" in run]
    if not runs:
        return []
    rows = []
    for what, ways in runs[0]["formulations"].items():
        cells = [what]
        for way in ways:
            cells.append(
                f"{way} {digits(statistics.median(run['formulations'][what][way] for run in runs))}"
            )
        rows.append(cells)
    return [
        f"**formulations**, {runs[0]['dtype']}, batch {runs[0]['batch']}: milliseconds forward and "
        "backward, medians",
        "",
        *table(("what", "", ""), rows),
    ]


def _packed(records: list[dict]) -> list[str]:
    runs = [record for record in records if record["case"] == "packed" and "seconds" in record]
    if not runs:
        return []
    rows = []
    for model, mean in dict.fromkeys((run["model"], run["mean"]) for run in runs):
        ways = {
            way: {
                run["round"]: run["per_second"]
                for run in runs
                if (run["model"], run["mean"]) == (model, mean) and run["name"].endswith(way)
            }
            for way in ("dense", "packed")
        }
        both = ways["dense"].keys() & ways["packed"].keys()
        ratios = [ways["packed"][number] / ways["dense"][number] for number in both]
        if ratios:
            span = f"{digits(min(ratios))} - {digits(max(ratios))}"
            rates = [digits(statistics.median(ways[way].values())) for way in ways]
            cells = [f"{all_models()[model].title}, {runs[0]['dtype']}", str(runs[0]["batch"])]
            cells += [f"{mean:g}", *rates, f"{digits(statistics.median(ratios))} x ({span})"]
            rows.append(cells)
    return [
        "**packed**: Vision Transformers that look at no empty tile, sessions/s on the dense grid "
        "and with packed tokens, and how many times as many (smallest - largest)",
        "",
        *table(("model", "batch", "packets of a session", "dense", "packed", "packed is"), rows),
    ]


def _pipeline(records: list[dict]) -> list[str]:
    rows = summary(records, "pipeline")
    if "together" not in rows or "absent" in rows["together"]:
        return [f"**pipeline**: absent: {rows['together']['absent']}", ""] if rows else []
    waits = waiting(records)
    done = [record for record in records if record["case"] == "pipeline" and "alone" in record]
    inside = statistics.median(record["inside"] / record["seconds"] for record in done)
    alone = statistics.median(record["batches"] / record["alone"] for record in done)
    one = next(record for record in records if record["case"] == "pipeline")
    title = all_models()[one["model"]].title
    body = [
        (name, digits(row["per_second"]), row["runs"])
        for name, row in rows.items()
        if "absent" not in row
    ]
    body.append(("step alone, by turns with the row above", digits(alone), len(done)))
    return [
        f"**pipeline**: {title} {one['dtype']}, batches of {one['batch']} "
        "ragged sessions of 20 tiles on average",
        "",
        *table(("what", "batches/s", "runs"), body),
        f"the step waits for data {statistics.median(waits):.2%} of the time (median; "
        f"{', '.join(f'{share:.2%}' for share in waits)}); the host spends {inside:.1%} of it in "
        "the loader and in handing batches to the device",
        "",
    ]


def waiting(records: list[dict]) -> list[float]:
    """Return by round which share of the time together the step alone does not explain."""
    return [
        max(0.0, 1 - record["alone"] / record["seconds"])
        for record in records
        if record["case"] == "pipeline" and "alone" in record
    ]


def _classify(records: list[dict]) -> list[str]:
    done = [record for record in records if record["case"] == "classify" and "seconds" in record]
    if not done:
        return []
    staged = [record for record in done if "stages" in record]
    whole = [record for record in done if "stages" not in record]

    def median(key: Callable[[dict], float], some: list[dict]) -> float:
        return statistics.median(map(key, some))

    lines = ["**classify**: a capture to JSON lines", ""]
    lines += ["| what | packets/s | sessions/s | seconds | runs |", "|---|---|---|---|---|"]
    for name, some in (("started and compiled before", staged), ("the whole command", whole)):
        if some:
            packets = median(lambda run: run["packets"] / run["seconds"], some)
            sessions = median(lambda run: run["sessions"] / run["seconds"], some)
            seconds = median(lambda run: run["seconds"], some)
            lines.append(
                f"| {name} | {digits(packets)} | {digits(sessions)} | {seconds:.3g} | {len(some)} |"
            )
    if staged:
        shares = {
            stage: median(lambda run, stage=stage: run["stages"][stage] / run["seconds"], staged)
            for stage in staged[0]["stages"]
        }
        told = ", ".join(f"{stage} {share:.1%}" for stage, share in shares.items())
        lines += ["", f"shares of the time: {told}"]
        start = median(lambda run: run["start_up"], staged)
        lines.append(
            f"before it: loading the run {start:.2f} s, compiling {staged[0]['compilation']:.2f} s "
            "the first time (the whole command finds it compiled)"
        )
    return [*lines, ""]


def digits(value: float) -> str:
    """Return a number with three digits that count."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
