"""The tables of the benchmark of explanations: medians over rounds, ratios formed within each."""

from __future__ import annotations

import statistics

from model_report import digits

from xai_traffic.report.markdown import table

OURS = "xai-traffic"
PEER = {"fixed": "captum", "tolerance": "captum", "grad_cam": "pytorch-grad-cam"}
"""What each case is held against."""

TITLES = {"xception": "Xception", "vgg19": "VGG-19", "vit": "ViT"}


def tables(records: list[dict]) -> str:
    """Return the tables of all that was measured, as Markdown, and what the figures depend on."""
    about = next(record for record in records if record["case"] == "about")
    parts = [_paths, _grad_cam, _rates, _memory, _deletion]
    lines = [line for part in parts for line in part(records)]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    lines.append(
        f"{about['date']}: {about['threads']} cores of {about['processor']}, "
        f"{about['memory'] / 2**30:.0f} GiB, {about['system']}; load at the start {about['load']}; "
        f"{versions}; seed {about['seed']}"
    )
    return "\n".join(lines)


def _of(records: list[dict], what: str) -> dict[str, list[dict]]:
    """Return the records of a case by model."""
    found: dict[str, list[dict]] = {}
    for record in records:
        if record.get("what") == what:
            found.setdefault(record.get("model", ""), []).append(record)
    return found


def _median(runs: list[dict], key: str) -> float:
    return statistics.median(run[key] for run in runs)


def _title(run: dict) -> str:
    return f"{TITLES[run['model']]}, {run['size']}, {run['weights']} weights"


def _paths(records: list[dict]) -> list[str]:
    rows: list[list[str]] = []
    for what, told in (("fixed", "50 steps"), ("tolerance", "to a completeness error of 1e-3")):
        for runs in _of(records, what).values():
            ours = {run["round"]: run for run in runs if run["name"] == OURS and "busy" in run}
            theirs = [run for run in runs if run["name"] != OURS]
            if not ours:
                continue
            own = list(ours.values())
            cells = [_title(own[0]), told, f"{own[0]['sessions']}, {own[0]['packets']:.1f}"]
            cells += _rate(own) + [f"{own[0]['error']:.0e}"]
            done = [run for run in theirs if "busy" in run and run["round"] in ours]
            if done:
                cells += _rate(done) + [f"{done[0]['error']:.0e}, {done[0]['steps']} steps"]
                for key in ("seconds", "busy"):
                    ratios = [run[key] / ours[run["round"]][key] for run in done]
                    span = f" ({digits(min(ratios))} - {digits(max(ratios))})"
                    cells.append(f"{digits(statistics.median(ratios))} x" + span)
            else:
                reason = theirs[0]["absent"] if theirs else "not run"
                cells += [f"absent: {reason}", "", "", "", ""]
            rows.append(cells)
    if not rows:
        return []
    return [
        "**Integrated Gradients** against captum: sessions/s by the clock and a second of CPU, the "
        "median error, and how many times as many ours explains (smallest - largest round)",
        "",
        *table(
            (
                *("network", "how far", "sessions, packets", "ours/s", "ours a CPU s", "error"),
                *("captum/s", "captum a CPU s", "error", "by the clock", "by CPU time"),
            ),
            rows,
        ),
    ]


def _rate(runs: list[dict]) -> list[str]:
    return [digits(runs[0]["sessions"] / _median(runs, key)) for key in ("seconds", "busy")]


def _grad_cam(records: list[dict]) -> list[str]:
    rows = []
    for runs in _of(records, "grad_cam").values():
        done = [run for run in runs if "busy" in run]
        for name in dict.fromkeys(run["name"] for run in done):
            some = [run for run in done if run["name"] == name]
            passes = [
                statistics.median(run[key] / run[alone] for run in some)
                for key, alone in (("seconds", "forward"), ("busy", "forward_busy"))
            ]
            rate = digits(some[0]["sessions"] / _median(some, "seconds"))
            cells = [_title(some[0]), name, rate, *(f"{value:.2f}" for value in passes)]
            rows.append(cells)
    if not rows:
        return []
    return [
        "**Grad-CAM** in forward passes of the same network on the same sessions",
        "",
        *table(("network", "library", "sessions/s", "by the clock", "by CPU time"), rows),
    ]


def _rates(records: list[dict]) -> list[str]:
    rows = []
    for runs in _of(records, "rates").values():
        done = [run for run in runs if "methods" in run]
        if not done:
            continue
        cells = [_title(done[0]), digits(1 / statistics.median(r["best"]["seconds"] for r in done))]
        cells.append(str(done[0]["best"]["batch"]))
        for method in done[0]["methods"]:
            shares = [
                statistics.median(run["methods"][method][f"share_{key}"] for run in done)
                for key in ("seconds", "busy")
            ]
            cells.append(" / ".join(f"{share:.0%}" for share in shares))
        rows.append(cells)
    if not rows:
        return []
    return [
        "**Perturbing**: masked images/s as part of what the network judges at its best batch, by "
        "the clock / by CPU time",
        "",
        *table(
            ("network", "images/s", "batch", "occlusion", "RISE", "Kernel SHAP", "faithfulness"),
            rows,
        ),
    ]


def _memory(records: list[dict]) -> list[str]:
    rows = []
    for runs in _of(records, "memory").values():
        for budget in dict.fromkeys(run["mebibytes"] for run in runs):
            some = [run for run in runs if run["mebibytes"] == budget]
            cells = [_title(some[0]), f"{budget} MiB"]
            for run in some:
                cells.append(f"{run['lift'] / 2**20:.0f}" if "lift" in run else run["absent"])
            rows.append(cells)
    if not rows:
        return []
    methods = dict.fromkeys(r["method"] for r in records if r.get("what") == "memory")
    return [
        "**Memory**: MiB by which a method lifts the peak of a process, of 64 sessions, compiled "
        "before, under `memory_budget`",
        "",
        *table(("network", "budget", *methods), rows),
    ]


def _deletion(records: list[dict]) -> list[str]:
    found = [record for record in records if record.get("what") == "deletion"]
    compared = [record for record in found if record["name"] == "compared"]
    if not compared:
        return []
    rows = []
    for record in compared:
        rates = [
            digits(
                _median(
                    [
                        r
                        for r in found
                        if r["case"] == record["case"] and r["name"] == side and "per_second" in r
                    ],
                    "per_second",
                )
            )
            for side in ("xai_traffic", "Quantus")
        ]
        ratios = [f"{digits(record[key])} x" for key in ("faster", "busy_ratio")]
        cells = [record["case"].split(", ")[1], *rates, *ratios, f"{record['difference']:.0e}"]
        rows.append(cells)
    return [
        "**Deletion curves** of 16 sessions in 256 steps against Quantus",
        "",
        *table(
            ("network", "ours, images/s", "Quantus", "by the clock", "by CPU time", "apart"), rows
        ),
    ]
