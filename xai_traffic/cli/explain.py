"""`xai-traffic explain`: verdicts with their reasons."""

from __future__ import annotations

import argparse
import pathlib
import sys

from xai_traffic.capture.rule_options import add_community_id_seed
from xai_traffic.cli.options import DONE, FAILED, WRONG_USAGE, add_list, add_seed
from xai_traffic.terminal import log, printable


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "explain",
        help="verdicts with their reasons: report.html, explanations.jsonl, annotated captures",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument("captures", nargs="*", metavar="CAPTURE")
    add_list(verb)
    verb.add_argument("--data", metavar="DATASET", help="explain sessions of a dataset instead")
    verb.add_argument("--split", default="test", choices=("train", "validation", "test"))
    verb.add_argument(
        "--sessions",
        type=_numbers,
        metavar="N,N-N",
        help="session numbers (default: the most telling few)",
    )
    verb.add_argument(
        "--methods",
        metavar="NAME,NAME",
        help="names that the library knows, such as lrp_gamma (default: integrated_gradients, "
        "grad_cam, and attention where the model has it)",
    )
    verb.add_argument(
        "--metrics", action="store_true", help="measure all that tells how far to believe them"
    )
    verb.add_argument(
        "--no-annotate",
        action="store_true",
        help="do not copy the captures with a comment on each packet",
    )
    verb.add_argument(
        "--redact",
        action="store_true",
        help="write pseudonyms for addresses and host names, in texts and bytes: for sharing",
    )
    verb.add_argument(
        "--redact-key",
        metavar="FILE",
        type=pathlib.Path,
        help="redact under the secret in FILE, for the same pseudonyms in several reports "
        "(default: a random one)",
    )
    verb.add_argument(
        "--aggregate",
        action="store_true",
        help="of a dataset's split: what each class of verdicts rests on, by field and packet, and "
        "its typical sessions: aggregate.html, aggregate.json, figures",
    )
    verb.add_argument(
        "--limit",
        type=int,
        metavar="N",
        help="with --aggregate: at most N sessions, drawn at random (default: all)",
    )
    add_seed(verb, "with --aggregate: of that draw and of the intervals (default: 0)", None)
    add_community_id_seed(verb, "the run's; a dataset keeps its own")
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.report.explanations import explain_run
    from xai_traffic.report.pseudonyms import Pseudonyms, read_key
    from xai_traffic.training.run import load_run

    if bool(options.captures or options.list) == bool(options.data):
        print("xai-traffic explain: name captures, or --data DATASET, not both", file=sys.stderr)
        return WRONG_USAGE
    pseudonyms = None
    if options.redact or options.redact_key:
        pseudonyms = Pseudonyms(options.redact_key and read_key(options.redact_key))
    if options.aggregate:
        return _aggregate(options, pseudonyms)
    if options.limit is not None or options.seed is not None:
        print("xai-traffic explain: --limit and --seed are for --aggregate", file=sys.stderr)
        return WRONG_USAGE
    written = explain_run(
        load_run(options.run_folder, community_id_seed=options.community_id_seed),
        options.captures,
        options.out,
        lists=options.list,
        dataset=options.data,
        split=options.split,
        sessions=options.sessions,
        methods=options.methods and tuple(options.methods.split(",")),
        metrics=options.metrics,
        annotate=not options.no_annotate,
        redact=pseudonyms,
        overwrite=options.overwrite,
    )
    for _, reason in written["failures"]:
        log.error("%s", printable(reason))
    print(printable(written["report"]))
    return FAILED if written["failures"] else DONE


def _aggregate(options, pseudonyms) -> int:
    from xai_traffic.report.aggregates import aggregate_run
    from xai_traffic.training.run import load_run

    if not options.data or options.sessions or options.metrics:
        print(
            "xai-traffic explain: --aggregate needs --data DATASET, and takes neither --sessions "
            "nor --metrics",
            file=sys.stderr,
        )
        return WRONG_USAGE
    written = aggregate_run(
        load_run(options.run_folder),
        options.data,
        options.out,
        split=options.split,
        methods=options.methods and tuple(options.methods.split(",")),
        limit=options.limit,
        seed=options.seed or 0,
        redact=pseudonyms,
        overwrite=options.overwrite,
    )
    print(printable(written["page"]))
    return DONE


def _numbers(text: str) -> list[int]:
    numbers: list[int] = []
    for part in text.split(","):
        first, _, last = part.partition("-")
        try:
            part = range(int(first), int(last or first) + 1)
        except ValueError:
            part = range(0)
        if not part:
            raise argparse.ArgumentTypeError(f"{text!r}: give numbers and ranges like 0,3,10-12")
        numbers.extend(part)
    return numbers
