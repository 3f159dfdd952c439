"""Tables of benchmarks/explainers.py in Markdown."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from text_table import table

from xai_traffic.explain import METHODS
from xai_traffic.report.intervals import hundredfold, with_interval

UNITS = ("packets", "fields", "bytes")
QUESTIONS = {"packets": "Which packet?", "fields": "Which field?", "bytes": "Which bytes?"}
LETTERS = {"xception": "X", "vgg19": "V", "vit": "T"}
CONTROL = "random"


def tables(records: Sequence[dict]) -> str:
    """Return all tables of the records of one run of the benchmark.

    Args:
        records: about the machine, then one a cell.
    """
    about, cells = records[0], [record for record in records[1:] if "failed" not in record]
    failed = [record for record in records[1:] if "failed" in record]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    parts = [_reliance(cells), _trust(cells)]
    parts += [_ranks(cells, unit) for unit in UNITS]
    parts += [_claim(cells)]
    parts += [f"{one['model']} on {one['plant']}: {one['failed']}" for one in failed]
    parts.append(
        f"{about['date']}: {about['cores']} cores of {about['processor']}, {about['system']}; "
        f"{versions}; seed {about['seed']}"
    )
    return "\n\n".join(parts)


def _reliance(cells: list[dict]) -> str:
    rows = [
        [
            cell["plant"],
            f"{cell['model']}/{cell['variant']}",
            _percent(cell["reliance"]["accuracy"]),
            _percent(cell["reliance"]["without"]),
            "yes" if cell["reliance"]["relies"] else "**no**",
            f"{cell['explained']['turned']} of {cell['explained']['planted']}",
        ]
        for cell in cells
    ]
    head = ["plant", "model", "accuracy, %", "without the plant, %", "rests on it", "verdicts turn"]
    return "Intervention: what is left of a model without the plant\n\n" + table(head, rows)


def _trust(cells: list[dict]) -> str:
    """Return in how many cells each method answers each question, of those that rest on it."""
    cells = [cell for cell in cells if cell["reliance"]["relies"]]
    rows = []
    for name in _methods(cells):
        own = [cell for cell in cells if name in cell["methods"]]
        counts = [sum(unit in cell["answers"][name] for cell in own) for unit in UNITS]
        rows.append(
            [
                METHODS.get(name, name),
                *(f"{count}/{len(own)}" for count in counts),
                _missed(own, name, "packets"),
            ]
        )
    head = ["explanation", *QUESTIONS.values(), "packets missed"]
    title = (
        "May be trusted: cells in which at least half of the evidence ranks first and more than by "
        "the control, by 95 % intervals; and the cells where not ("
        + ", ".join(f"{letter} {name}" for name, letter in LETTERS.items())
        + ")"
    )
    return f"{title}\n\n{table(head, rows)}"


def _missed(cells: list[dict], name: str, unit: str) -> str:
    missed: dict[str, str] = {}
    for cell in cells:
        if unit not in cell["answers"][name]:
            missed[cell["plant"]] = missed.get(cell["plant"], "") + LETTERS[cell["model"]]
    return ", ".join(f"{plant} {letters}" for plant, letters in missed.items())


def _ranks(cells: list[dict], unit: str) -> str:
    """Return the mean relevance rank of each method by plant and model, and the control's."""
    plants = list(dict.fromkeys(cell["plant"] for cell in cells))
    models = [name for name in LETTERS if any(cell["model"] == name for cell in cells)]
    by = {(cell["plant"], cell["model"]): cell for cell in cells}

    def row(title: str, value: Callable[[dict], str]) -> list[str]:
        return [title] + [
            " ".join(value(by[plant, model]) if (plant, model) in by else "-" for model in models)
            for plant in plants
        ]

    def rank(name: str) -> Callable[[dict], str]:
        def shown(cell: dict) -> str:
            if name not in cell["methods"]:
                return "-"
            text = _whole(cell["methods"][name][unit]["rank"]["mean"])
            return f"**{text}**" if unit in cell["answers"][name] else text

        return shown

    def control(cell: dict) -> str:
        means = [
            own[unit]["rank"]["mean"]
            for name, own in cell["control"]["methods"].items()
            if name != CONTROL and own[unit]["rank"]["mean"] is not None
        ]
        return f"{_whole(statistics.median(means))}" if means else "-"

    rows = [row(METHODS.get(name, name), rank(name)) for name in _methods(cells)]
    rows.append(row("permuted labels, median method", control))
    rows.append(row("by chance", lambda cell: _whole(cell["chance"][unit])))
    title = (
        f"{QUESTIONS[unit]} Part of the evidence among as many first {unit}, %, of "
        f"{', '.join(models)}; **bold**: may be trusted"
    )
    return f"{title}\n\n{table(['explanation', *plants], rows)}"


def _claim(cells: list[dict]) -> str:
    rows = []
    for cell in cells:
        logit = cell["claim"]["logit"]
        if logit["other"]["mean"] is None:
            continue
        rows.append(
            [
                cell["plant"],
                cell["model"],
                *(_logits(logit[name]) for name in ("planted", "other", "difference")),
                *(
                    _times(cell["claim"]["shares"].get(name))
                    for name in ("integrated_gradients", "grad_cam", "lrp_gamma", "kernel_shap")
                ),
            ]
        )
    head = ["plant", "model", "planted packet", "another", "difference"]
    head += [METHODS[name] for name in ("integrated_gradients", "grad_cam", "lrp_gamma")]
    head += [METHODS["kernel_shap"]]
    title = (
        "The study's claim: logits of Malware lost without a packet, and how many times the "
        "|attribution| of another packet of its session a planted one has"
    )
    return f"{title}\n\n{table(head, rows)}"


def _methods(cells: list[dict]) -> list[str]:
    known = {name for cell in cells for name in cell["methods"]}
    return [name for name in (*METHODS, CONTROL) if name in known]


def _whole(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.0f}"


def _percent(found: dict) -> str:
    return with_interval(found, hundredfold(".1f"), missing="-")


def _logits(found: dict) -> str:
    return with_interval(found, "{:.2f}".format, missing="-")


def _times(found: dict | None) -> str:
    return with_interval(found, "{:.1f}".format, " x", missing="-")
