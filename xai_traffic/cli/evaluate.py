"""`xai-traffic evaluate`: score a run on a split."""

from __future__ import annotations

import json
import pathlib
import sys

from xai_traffic.cli.confidence import show_confidence, show_open_set
from xai_traffic.cli.options import (
    DONE,
    WRONG_USAGE,
    add_json,
    add_seed,
    renew_card,
    warn_of_scores,
)
from xai_traffic.report.intervals import ends, hundredfold, with_interval
from xai_traffic.terminal import log, show_table

COLUMNS = 5
"""Metrics in one table."""


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser("evaluate", help="score a run on a split")
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument("--split", default="test", choices=("train", "validation", "test"))
    verb.add_argument("--data", metavar="DATASET", help="another dataset than the run's own")
    verb.add_argument(
        "--explanations",
        action="store_true",
        help="measure instead how far the run's explanations may be believed",
    )
    verb.add_argument(
        "--methods", metavar="NAME,NAME", help="of --explanations (default: all that suit)"
    )
    verb.add_argument(
        "--limit", type=int, metavar="N", help="of --explanations: N sessions drawn at random"
    )
    verb.add_argument(
        "--forge",
        metavar="NAME,NAME",
        help="measure instead what a change of network costs: addresses, ports, times, ttl, "
        "sequence, joined by '+', or all",
    )
    verb.add_argument(
        "--checksums",
        choices=("repaired", "offloaded"),
        help="of --forge: carried forward (default), or left to the initiator's network card",
    )
    add_seed(verb, "of --forge: another network (0)", None)
    verb.add_argument(
        "--open-set",
        nargs="?",
        const="",
        metavar="DATASET",
        help="score instead how well the run tells what it has never seen: the classes of the "
        "split that training had none of, or those of another dataset; name RUN before it",
    )
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.report.evaluation import (
        write_evaluation,
        write_explanation_metrics,
        write_forged,
    )
    from xai_traffic.report.open_set import write_open_set
    from xai_traffic.training.default_run import own_folder
    from xai_traffic.training.run import load_run

    if (options.methods or options.limit is not None) and not options.explanations:
        print("xai-traffic evaluate: --methods and --limit are of --explanations", file=sys.stderr)
        return WRONG_USAGE
    if (options.checksums or options.seed is not None) and options.forge is None:
        print("xai-traffic evaluate: --checksums and --seed are of --forge", file=sys.stderr)
        return WRONG_USAGE
    if options.forge is not None and options.explanations:
        print("xai-traffic evaluate: --forge or --explanations, not both", file=sys.stderr)
        return WRONG_USAGE
    if options.open_set is not None and (
        options.explanations or options.forge is not None or options.data
    ):
        print("xai-traffic evaluate: --open-set goes with --split alone", file=sys.stderr)
        return WRONG_USAGE
    run = load_run(own_folder(options.run_folder))
    if options.open_set is not None:
        result, path = write_open_set(run, options.split, options.open_set)
        show_open_set(result)
        return _written(result, path, options)
    if options.explanations:
        methods = options.methods and tuple(options.methods.split(","))
        result, path = write_explanation_metrics(
            run, options.split, options.data, methods=methods, limit=options.limit
        )
        show_explanations(result, sys.stderr if options.json else sys.stdout)
        return _written(result, path, options)
    if options.forge is not None:
        result, path = write_forged(
            run,
            options.forge.split(","),
            options.split,
            options.data,
            checksums=options.checksums or "repaired",
            seed=options.seed or 0,
        )
        show_forged(result, sys.stderr if options.json else sys.stdout)
        return _written(result, path, options)
    result, path = write_evaluation(run, options.split, options.data)
    show_scores(result, leaky := ", LEAKY" * bool(result["leaky"]))
    if "base_rates" in result:
        show_base_rates(result["base_rates"], options.split, leaky)
    show_confidence(result["confidence"], options.split, leaky)
    warn_of_scores(result)
    return _written(result, path, options)


def show_scores(result: dict, leaky: str = "") -> None:
    """Print the scores of a split with their intervals."""
    intervals = result["intervals"]
    names = ("accuracy", "macro_f1", "mcc", "roc_auc", "pr_auc")
    show_table(
        f"{result['split']}: {result['sessions']} sessions{leaky}",
        ("score", "value", "95 % interval"),
        [
            (name, f"{found['value']:.4f}", ends(found, "{:.4f}".format))
            for name in names
            for found in [intervals[name]]
            if found["value"] is not None
        ],
    )
    log.info("intervals draw %d units (a %s)", intervals["units"], intervals["unit"])


def show_base_rates(found: dict, split: str, leaky: str = "") -> None:
    """Print what a detector's scores become where malware is rare."""
    if not found["at"]:
        log.warning("the split has sessions of one side only: no rates where malware is rare")
        return
    percent, alerts = hundredfold(".3g"), ("alerts_a_day", "false_alerts_a_day")
    show_table(
        f"{split}: where malware is rare{leaky}",
        ("malware among sessions", "precision, %", "alerts a day", "of them false"),
        [
            (
                f"{row['prevalence']:g}",
                with_interval(row["precision"], percent),
                *(with_interval(row[name], "{:,.0f}".format) for name in alerts),
            )
            for row in found["at"]
        ],
    )
    log.info(
        "detected are %s %% of the malware, false alarms are %s %% of the rest; exact 95 %% "
        "intervals; alerts of %s sessions a day",
        *(with_interval(found[f"{name}_rate"], percent) for name in ("detection", "false_alarm")),
        f"{found['sessions_a_day']:,}",
    )


def show_forged(result: dict, stream=None) -> None:
    """Print what each forgery costs in accuracy and macro-F1, beside the unforged scores."""
    about = (
        f"{result['split']}: {result['sessions']} sessions, mask {result['mask']}, checksums "
        f"{result['checksums']}" + ", LEAKY" * bool(result["leaky"])
    )
    lines = []
    for row in ({"forgery": "unforged", **result["unforged"], "drop": {}}, *result["forgeries"]):
        scores = [(row[name], row["drop"].get(name)) for name in ("accuracy", "macro_f1")]
        cells = [with_interval(found, hundredfold(".2f")) for pair in scores for found in pair]
        lines.append((row["forgery"], *cells))
    show_table(
        f"{about}: per cent, with 95 % intervals over {result['units']} units (a {result['unit']})",
        ("forged", "accuracy", "drop", "macro-F1", "drop"),
        lines,
        stream=stream,
    )
    warn_of_scores(result)


def show_explanations(result: dict, stream=None) -> None:
    """Print the cards of all methods, and the mean of each metric with its interval."""
    from xai_traffic.explain import METRICS

    methods = result["methods"]
    about = (
        f"explanations of {result['sessions']} of {result['of']} sessions of {result['split']}"
        + ", LEAKY" * bool(result["leaky"])
    )
    grades = ("PASS", "WARN", "FAIL")
    show_table(
        f"{about}: cards of those of 3 packets and more, per cent, with 95 % intervals of what "
        f"passes, drawn by {result['unit']}",
        ("explanation", *grades, "sessions"),
        [
            (
                name,
                with_interval(own["cards"]["passed"], hundredfold(".0f")),
                *(round(100 * own["cards"][grade]) for grade in grades[1:]),
                own["cards"]["sessions"],
            )
            for name, own in methods.items()
        ],
        stream=stream,
    )
    names = [name for name in METRICS if any(name in own["metrics"] for own in methods.values())]
    for start in range(0, len(names), COLUMNS):
        part = names[start : start + COLUMNS]
        show_table(
            f"{about}: means, with 95 % intervals, drawn by {result['unit']}",
            ("explanation", *(name.replace("_", " ") for name in part)),
            [
                (name, *(with_interval(own["metrics"].get(one), "{:.3g}".format) for one in part))
                for name, own in methods.items()
            ],
            stream=stream,
        )
    warn_of_scores(result)


def _written(result: dict, path: pathlib.Path, options) -> int:
    log.info("written: %s", path)
    renew_card(options.run_folder)
    if options.json:
        print(json.dumps(result))
    return DONE
