"""Measure how far every explanation of three models on USTC-TFC2016 may be believed.

    python benchmarks/explanations.py --captures CAPTURES --out DIR [--limit N]

Makes the record's dataset of USTC-TFC2016 with nothing hidden and trains its networks, where they
do not stand in DIR yet, and measures the explanations of N verdicts on the test split of each.
Prints a JSON line a model and method, then the tables of the README.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import platform
import sys
import time

import jax
from machine import machine
from record_scores import NETWORKS
from record_ustc import ustc

from xai_traffic import __version__
from xai_traffic.evaluation.explanations import CONTROLS, explanation_metrics
from xai_traffic.explain import METRICS
from xai_traffic.terminal import configure_logging
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

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
    """Train what is missing, measure, print lines and tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--models", default=",".join(NETWORKS))
    parser.add_argument("--words", default="multiclass,cpu", help="of the configurations")
    parser.add_argument("--limit", type=int, default=128, help="verdicts of each model")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    configure_logging()
    dataset = ustc("none")(options.captures, options.out, options.seed)
    results = []
    for model in options.models.split(","):
        run = options.out / "runs" / model
        config = load_config(
            f"configs/{model}.py:{options.words}", path=dataset.path, seed=options.seed
        )
        train(config, run)
        began = time.monotonic()
        found = explanation_metrics(load_run(run), dataset, limit=options.limit, seed=options.seed)
        results.append(found)
        for method, own in found["methods"].items():
            print(json.dumps({"model": model, "method": method, **own}), flush=True)
        print(f"{model}: {time.monotonic() - began:.0f} s", file=sys.stderr)
        # Programs of three models are more memory maps than a process may have.
        jax.clear_caches()
    for found in results:
        print_table(found)
    print_summary(results)
    here = machine()
    print(
        f"\n{here['cores']} cores of {here['processor']}, Python {platform.python_version()}, jax "
        f"{jax.__version__} on {jax.default_backend()}, xai_traffic {__version__}, seed "
        f"{options.seed}"
    )


def print_table(found: dict) -> None:
    """Print the cards and the means of all metrics of one model as a Markdown table."""
    names = [name for name in COLUMNS if name in METRICS]
    sessions = next(iter(found["methods"].values()))["cards"]["sessions"]
    print(
        f"\n{found['model']}: {found['sessions']} of {found['of']} test sessions, cards of the "
        f"{sessions} of 3 packets and more\n"
    )
    print(f"| explanation | PASS / WARN / FAIL, % | {' | '.join(COLUMNS[n] for n in names)} |")
    print("|---" * (len(names) + 2) + "|")
    for method, own in found["methods"].items():
        cards = " / ".join(f"{100 * own['cards'][grade]:.0f}" for grade in ("PASS", "WARN", "FAIL"))
        cells = [_cell(own["metrics"].get(name)) for name in names]
        title = f"*{method}*" if method in CONTROLS else method
        print(f"| {title} | {cards} | {' | '.join(cells)} |")


def print_summary(results: list[dict]) -> None:
    """Print the parts of passed cards and the gains of all models side by side."""
    print("\n| explanation | " + " | ".join(f"{one['model']}" for one in results) + " |")
    print("|---" * (len(results) + 1) + "|")
    for method in dict.fromkeys(name for one in results for name in one["methods"]):
        cells = []
        for one in results:
            own = one["methods"].get(method)
            passed = own and f"{100 * own['cards']['PASS']:.0f} %"
            cells.append(f"{passed}, {_cell(own['metrics']['gain'])}" if own else "")
        title = f"*{method}*" if method in CONTROLS else method
        print(f"| {title} | {' | '.join(cells)} |")


def _cell(metric: dict | None) -> str:
    if not metric or metric["mean"] is None:
        return ""
    half = (metric["high"] - metric["low"]) / 2
    return f"{metric['mean']:.2f} ± {half:.2f}"


if __name__ == "__main__":
    main()
