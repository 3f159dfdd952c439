"""`xai-traffic audit`: what in a dataset gives the label away."""

from __future__ import annotations

import json
import pathlib
import sys

from xai_traffic.cli.confidence import told
from xai_traffic.cli.options import DONE, WRONG_USAGE, add_json, add_seed
from xai_traffic.report.intervals import ends
from xai_traffic.terminal import log, printable, show_table

SHOWN = 20
"""Fields in the table on the terminal; the page has more, audit.json all."""

COLUMNS = (
    *("field", "of", "balanced accuracy", "95 %", "accuracy", "95 %"),
    *("AMI", "coverage", "verdict"),
)


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "audit",
        help="what in a dataset gives the label away: audit.html, audit.json",
        description="Ask of every protocol field and byte how far a majority rule on it alone "
        "tells the label, and say whether it is an identifier, an artefact or a signal; of the "
        "splits what they share; with a run, what it rests on. Propose the mask that hides what "
        "should not tell.",
    )
    verb.add_argument("dataset", metavar="DATASET", type=pathlib.Path)
    verb.add_argument("run_folder", nargs="?", metavar="RUN", type=pathlib.Path)
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    verb.add_argument(
        "--task",
        choices=("binary", "multiclass"),
        help="whose labels (default: the run's, else multiclass)",
    )
    verb.add_argument(
        "--limit", type=int, metavar="N", help="sessions of each split, drawn at random (10000)"
    )
    verb.add_argument("--method", metavar="NAME", help="explainer of the run (gradient_x_input)")
    verb.add_argument(
        "--explained", type=int, metavar="N", help="test sessions the run is explained on (256)"
    )
    verb.add_argument(
        "--retrain",
        action="store_true",
        help="put the proposed mask on the dataset, train on it by the run's config, both in DIR, "
        "and compare",
    )
    add_seed(verb, "of what is drawn (default: 0)")
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it is an audit")
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.report.audit import PAGE, write_audit

    if options.run_folder is None and (options.retrain or options.method or options.explained):
        print("xai-traffic audit: --method, --explained, --retrain need a RUN", file=sys.stderr)
        return WRONG_USAGE
    run = None
    if options.run_folder is not None:
        from xai_traffic.training.run import load_run

        run = load_run(options.run_folder)
    more = {name: getattr(options, name) for name in ("method", "limit", "explained")}
    found = write_audit(
        options.dataset,
        options.out,
        run,
        task=options.task,
        retraining=options.retrain,
        seed=options.seed,
        overwrite=options.overwrite,
        **{name: value for name, value in more.items() if value is not None},
    )
    _show(found, sys.stderr if options.json else sys.stdout)
    log.info("written: %s", printable(options.out / PAGE))
    if options.json:
        print(json.dumps(found))
    return DONE


def _show(found: dict, stream) -> None:
    """Print the ranked fields, what the splits share, and what the audit proposes."""
    for reason in found["leaky"]:
        log.warning("%s is LEAKY: %s", printable(found["dataset"]), printable(reason))
    say = "{:.3f}".format
    show_table(
        f"{found['task']}{', LEAKY' * bool(found['leaky'])}: accuracy of a majority rule on one "
        f"field alone; the most frequent class gives {found['baseline']:.4f}, "
        f"guessing {found['chance']:.4f}",
        COLUMNS,
        [
            (
                row["field"],
                row["side"] if row["part"] == "whole" else f"{row['side']}, {row['part']}",
                row["balanced_accuracy"],
                ends(row["intervals"]["balanced_accuracy"], say),
                row["accuracy"],
                ends(row["intervals"]["accuracy"], say),
                row["ami"],
                row["coverage"],
                row["verdict"],
            )
            for row in found["fields"][:SHOWN]
        ],
        stream=stream,
    )
    show_table(
        "identifiers that test sessions share with training",
        ("identifier", "test sessions", "shared", "of the same label there"),
        [
            (row["identifier"], row["sessions"], row["shared"], row["same_label"])
            for row in found["shared_identifiers"]
        ],
        stream=stream,
    )
    near = found["nearest_neighbours"]
    print(
        f"nearest neighbour: accuracy {near['accuracy']:.4f} "
        f"({ends(near['intervals']['accuracy'], say)}); half of the test sessions differ from one "
        f"in training in at most {100 * near['quantiles']['0.5']:.1f} % of their bytes",
        file=stream,
    )
    conflicts = found["label_conflicts"]
    print(
        f"label conflicts: {conflicts['images']} images under several labels, "
        f"{conflicts['sessions']} sessions",
        file=stream,
    )
    if found["run"]:
        _show_run(found["run"], stream)
    proposal = found["proposal"]
    print(f"proposed mask: {proposal['mask'] or 'none'}", file=stream)
    for command in proposal["commands"]:
        print(f"  {printable(command)}", file=stream)
    if found["retrain"]:
        _show_retrain(found["retrain"], stream)


def _show_run(run: dict, stream) -> None:
    rows = [row for row in run["fields"] if row["drop"]][:SHOWN]
    show_table(
        f"{run['model']}: accuracy {told(run['interval'])} of {run['sessions']} test sessions; "
        f"attribution by {run['method']}, and accuracy lost when the field is exchanged",
        ("field", "share", "lost", "95 % from", "to"),
        [
            *((row["field"], row["share"], *_drop(row)) for row in rows),
            *((f"all of {row['group']}", row["share"], *_drop(row)) for row in run["groups"]),
        ],
        stream=stream,
    )


def _drop(row: dict) -> list[float | str]:
    return _ends(row["drop"], "mean")


def _show_retrain(found: dict, stream) -> None:
    rows = [
        (
            name + ", LEAKY" * bool(found[name]["leaky"]),
            found[name]["sessions"],
            *_ends(found[name]["accuracy"], "value"),
        )
        for name in ("before", "after")
    ]
    differ = found["difference"]
    rows.append(("difference", differ["sessions"], *_ends(differ, "mean")))
    show_table(
        f"test accuracy without and with mask {found['mask']}, and of the sessions that both have",
        ("run", "sessions", "accuracy", "95 % from", "to"),
        rows,
        stream=stream,
    )


def _ends(found: dict, name: str) -> list[float | str]:
    """Return a number and the ends of its interval, nothing where it has none."""
    return ["" if found[key] is None else found[key] for key in (name, "low", "high")]
