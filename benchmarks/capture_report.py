"""The tables of benchmarks/capture.py: medians, and ratios formed within each round."""

from __future__ import annotations

import statistics

from capture_cases import TO_DISK, Bench

ROUTE = ("PcapSplitter", "heiFIP")


def summary(records: list[dict], case: str) -> list[dict]:
    """Return a row for each thing measured in a case: medians, and ours as a multiple of it."""
    rows = []
    of_case = _with_route([record for record in records if record["case"] == case])
    ours, disk = (
        {record["round"]: record for record in of_case if record["name"] == base}
        for base in (of_case[0]["name"], TO_DISK if case == "tiles" else None)
    )
    for name in dict.fromkeys(record["name"] for record in of_case):
        runs = [record for record in of_case if record["name"] == name]
        row = {"name": name, "note": runs[0].get("note", ""), "unit": runs[0]["unit"]}
        done = [run for run in runs if "seconds" in run]
        if not done:
            rows.append({**row, "absent": runs[0]["absent"]})
            continue
        ratios, of_disk = (
            [ratio for run in done if (ratio := _ratio(base.get(run["round"], {}), run))]
            for base in (ours, disk)
        )
        row["runs"] = len(done)
        for key in ("seconds", "per_second"):
            row[key] = statistics.median(run[key] for run in done)
        row["peak"] = max(run["peak"] or 0 for run in done)
        row["ratio"] = statistics.median(ratios) if ratios else None
        row["disk"] = statistics.median(of_disk) if of_disk else None
        row["ratios"] = (min(ratios), max(ratios)) if ratios else None
        row["whole_process"] = done[0].get("whole_process", False)
        rows.append(row)
    return rows


def _with_route(records: list[dict]) -> list[dict]:
    """Add what the seed's way to images takes: a round of PcapSplitter, then one of heiFIP."""
    parts = {(r["name"], r["round"]): r for r in records if "seconds" in r and r["name"] in ROUTE}
    routes = []
    for number in sorted({number for _, number in parts}):
        steps = [parts.get((name, number)) for name in ROUTE]
        if all(steps):
            seconds = sum(step["seconds"] for step in steps)
            route = {**steps[-1], "name": "the seed's route", "note": "the two rows above"}
            route |= {"seconds": seconds, "per_second": steps[-1]["amount"] / seconds}
            routes.append(route | {"peak": max(step["peak"] or 0 for step in steps)})
    return records + routes


def _ratio(ours: dict, other: dict) -> float | None:
    """Return how many times more we handle a second, or, of other units, how much sooner."""
    if "per_second" not in ours:
        return None
    if ours["unit"] == other["unit"]:
        return ours["per_second"] / other["per_second"]
    return other["seconds"] / ours["seconds"]


def tables(records: list[dict]) -> str:
    """Return a table a case, as Markdown, and what the figures depend on."""
    lines = []
    for case in dict.fromkeys(record["case"] for record in records if record["case"] != "about"):
        rows = summary(records, case)
        unit = rows[0]["unit"]
        about_case = getattr(Bench, case).__doc__
        lines += [f"**{case}**: {about_case}", ""]
        disk = any(row.get("disk") for row in rows)
        lines += [
            f"| what | {unit}/s | seconds | ours is | range {'| ours to disk is ' * disk}"
            "| peak memory | runs | |"
        ]
        lines += ["|---" * (8 + disk) + "|"]
        for row in rows:
            if "absent" in row:
                lines.append(f"| {row['name']} {'| ' * (6 + disk)}| absent: {row['absent']} |")
                continue
            per_second = f"{row['per_second']:,.0f}"
            if row["unit"] != unit:
                per_second = f"{row['per_second'] / 1e9:.2f} GB/s"
            elif unit == "bytes":
                per_second = f"{row['per_second'] / 1e6:,.0f} MB/s"
            ratio, span = "", ""
            if row["ratio"]:
                ratio = f"{_digits(row['ratio'])} x"
                span = " - ".join(map(_digits, row["ratios"]))
            span += f" | {_digits(row['disk'])} x" if row["disk"] else " | " * disk
            peak = f"{row['peak'] / 1e6:.0f} MB" if row["peak"] else ""
            note = row["note"] + "; with its start" * row["whole_process"]
            lines.append(
                f"| {row['name']} | {per_second} | {row['seconds']:.3g} | {ratio} | {span} "
                f"| {peak} | {row['runs']} | {note.removeprefix('; ')} |"
            )
        lines.append("")
    facts = next(record for record in records if record["case"] == "about")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    memory = f"{facts['memory'] / 2**30:.0f} GiB"
    lines.append(
        f"{facts['date']}: {facts['cores']} cores of {facts['processor']}, {memory}, "
        f"{facts['system']}; {versions}; seed {facts['seed']}"
    )
    return "\n".join(lines)


def _digits(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
