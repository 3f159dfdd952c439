"""Measure how far every explanation of three models on USTC-TFC2016 may be believed.

    python benchmarks/explanations.py --captures CAPTURES --work DIR [--limit N]
    python benchmarks/explanations.py --markdown                  the tables of the record

Makes the record's dataset of USTC-TFC2016 with nothing hidden and trains its networks, where they
do not stand in DIR yet, and measures the explanations of N verdicts on the test split of each.
Prints a line of JSON a model and method and the tables last; --out takes them as explanations.jsonl
and explanations.txt, in place of the lines of the same models.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import time

import jax
from machine import machine, own_versions
from record_scores import NETWORKS
from record_ustc import ustc
from text_table import table

from xai_traffic.evaluation.explanations import CONTROLS, explanation_metrics
from xai_traffic.explain import METRICS
from xai_traffic.report.intervals import hundredfold, with_interval
from xai_traffic.terminal import configure_logging, log
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

HERE = pathlib.Path(__file__).parent

COLUMNS = {
    "faithfulness": "chance",
    "gain": "gain",
    "gain_fields": "gain, fields",
    "gain_packets": "gain, packets",
    "road": "ROAD",
    "sensitivity_n": "sensitivity-n",
    "comprehensiveness": "comprehensiveness",
    "sufficiency": "sufficiency",
    "infidelity": "infidelity",
    "completeness": "completeness",
    "padding": "padding",
    "sparseness": "Gini",
    "input_dependence": "input dependence",
    "agreement": "agreement",
    "stability": "stability",
    "randomisation": "randomised",
    "smooth_randomisation": "randomised, smooth",
}
"""Metrics of the tables, and what their columns are called."""


def main() -> None:
    """Train what is missing and measure, or print what was measured."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, help="folder of the captures' sets")
    parser.add_argument("--work", type=pathlib.Path, help="folder of the dataset and the runs")
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--words", default="multiclass,cpu", help="of the configurations")
    parser.add_argument("--limit", type=int, default=128, help="verdicts of each model")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out")
    options = parser.parse_args()
    if not options.markdown and not (options.work and options.captures):
        parser.error("--captures and --work are needed to measure")
    lines = options.out / "explanations.jsonl"
    stand = []
    if lines.exists():
        stand = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    if options.markdown:
        print(tables(stand))
        return
    configure_logging()
    found = measure(options)
    stand = [record for record in stand if record["model"] not in options.models.split(",")] + found
    options.out.mkdir(parents=True, exist_ok=True)
    lines.write_text("".join(json.dumps(record) + "\n" for record in stand), "utf-8")
    (options.out / "explanations.txt").write_text(tables(stand) + "\n", "utf-8")
    print(tables(stand))


def measure(options: argparse.Namespace) -> list[dict]:
    """Return a record of each model and method; prints them as they come."""
    dataset = ustc("none")(options.captures, options.work, options.seed)
    about = {"seed": options.seed, **machine(), "device": jax.devices()[0].device_kind}
    about["versions"] = own_versions("jax")
    records = []
    for model in options.models.split(","):
        run = options.work / "runs" / model
        config = load_config(
            f"configs/{model}.py:{options.words}", path=dataset.path, seed=options.seed
        )
        train(config, run)
        began = time.monotonic()
        found = explanation_metrics(load_run(run), dataset, limit=options.limit, seed=options.seed)
        log.info("%s: %.0f s", model, time.monotonic() - began)
        told = {"model": model, "sessions": found["sessions"], "of": found["of"]}
        for method, own in found["methods"].items():
            records.append({**told, "method": method, **own, **about})
            print(json.dumps(records[-1]), flush=True)
        # Programs of three models are more memory maps than a process may have.
        jax.clear_caches()
    return records


def tables(records: list[dict]) -> str:
    """Return all tables of the records as Markdown."""
    if not records:
        return "nothing is measured yet"
    models: dict[str, list[dict]] = {}
    for record in records:
        models.setdefault(record["model"], []).append(record)
    parts = [_metrics(own) for own in models.values()]
    return "\n\n".join([*parts, _summary(models), *dict.fromkeys(map(_about, records))])


def _metrics(records: list[dict]) -> str:
    """Return the cards and the means of all metrics of one model."""
    names = [name for name in COLUMNS if name in METRICS]
    first = records[0]
    rows = []
    for own in records:
        cards = " / ".join(f"{100 * own['cards'][grade]:.0f}" for grade in ("PASS", "WARN", "FAIL"))
        cells = [_cell(own["metrics"].get(name)) for name in names]
        rows.append((_title(own), cards, *cells))
    said = (
        f"{first['model']}: {first['sessions']} of {first['of']} test sessions, cards of the "
        f"{first['cards']['sessions']} of 3 packets and more\n\n"
    )
    head = ("explanation", "PASS / WARN / FAIL, %", *(COLUMNS[name] for name in names))
    return said + table(head, rows)


def _summary(models: dict[str, list[dict]]) -> str:
    """Return the parts of passed cards and the gains of all models side by side."""
    heads = [f"{model} (cards of {own[0]['cards']['sessions']})" for model, own in models.items()]
    rows = []
    of = {model: {each["method"]: each for each in own} for model, own in models.items()}
    for method in dict.fromkeys(name for own in of.values() for name in own):
        cells = [
            f"{_passed(own[method]['cards']['passed'])}, {_cell(own[method]['metrics']['gain'])}"
            if method in own
            else ""
            for own in of.values()
        ]
        rows.append((_title({"method": method}), *cells))
    return table(("explanation", *heads), rows)


def _about(record: dict) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in record["versions"].items())
    return (
        f"{record['date']}: {record['cores']} cores of {record['processor']}, {record['device']}; "
        f"{versions}; seed {record['seed']}"
    )


def _title(record: dict) -> str:
    method = record["method"]
    return f"*{method}*" if method in CONTROLS else method


def _passed(found: dict) -> str:
    """Return a part of cards with its 95 % interval, in whole per cent."""
    return with_interval(found, hundredfold(".0f"), " %")


def _cell(metric: dict | None) -> str:
    if not metric or metric["mean"] is None:
        return ""
    if metric["low"] is None:  # of too few sessions
        return f"{metric['mean']:.2f}"
    half = (metric["high"] - metric["low"]) / 2
    return f"{metric['mean']:.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
