"""`xai-traffic compare`: runs side by side."""

from __future__ import annotations

import dataclasses
import json
import sys

from xai_traffic.cli.options import DONE, FAILED
from xai_traffic.terminal import log, printable, show_table


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "compare",
        help="one table of runs side by side",
        description="Print one table of runs: what tells them apart, how far they are, their best "
        "validation scores, and their test scores where `xai-traffic evaluate` wrote them. * is "
        "the best of the scores that may be compared: same task, same sessions. Below it, runs "
        "that differ in the seed only: mean ± standard deviation; and runs that judged the same "
        "sessions, each against the best of them, with paired 95 % intervals by bootstrap over "
        "what the split keeps together, and p by McNemar's exact test; where captures or hosts are "
        "drawn, by all changes of sign of how many sessions each of them differs in.",
    )
    verb.add_argument(
        "runs", nargs="+", metavar="RUN", help="a run, `default`, or a folder that holds runs"
    )
    verb.add_argument("--split", default="test", choices=("train", "validation", "test"))
    verb.add_argument(
        "--over",
        action="append",
        metavar="KEY",
        help="take means over runs that differ in this field of the config only; several may be "
        "given (default: seed)",
    )
    verb.add_argument(
        "--sort",
        metavar="COLUMN",
        help="sort by a column, scores best first: test/macro_f1, or macro_f1, seconds, seed",
    )
    verb.add_argument(
        "--baselines",
        action="store_true",
        help="train shallow baselines on the runs' datasets and put them beside the runs: majority "
        "rules, trees, forests and boosted trees, on header fields and on tiles",
    )
    form = verb.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="as JSON on standard output")
    form.add_argument("--csv", action="store_true", help="as CSV, one line a run, every column")
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.evaluation.compare import compare
    from xai_traffic.report.comparison import group_table, pair_table, run_table, to_csv, told_once

    found = compare(
        options.runs,
        split=options.split,
        over=options.over or ("seed",),
        sort=options.sort,
        baselines=options.baselines,
    )
    if options.json:
        print(json.dumps(dataclasses.asdict(found)))
    elif options.csv:
        print(to_csv(found), end="")
    else:
        if told := told_once(found):
            print(printable(told))
        if found.runs:
            show_table("", *run_table(found), stream=sys.stdout)
        if found.groups:
            title = f"over {', '.join(found.over)}: mean ± standard deviation"
            show_table(title, *group_table(found), stream=sys.stdout)
        for pair in found.pairs:
            show_table(*pair_table(pair), stream=sys.stdout)
    for warning in found.warnings:
        log.warning("%s", printable(warning))
    for fault in found.faults:
        log.error("%s", printable(fault))
    return FAILED if found.faults else DONE
