"""`xai-traffic convert`: captures to a dataset."""

from __future__ import annotations

import json
import pathlib
import signal

from xai_traffic.capture.rule_options import add_reading_rules, chosen_rules
from xai_traffic.cli.options import DONE, FAILED, add_json, add_list, add_seed, no_captures
from xai_traffic.terminal import log, printable, show_table


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "convert",
        help="captures to a dataset",
        description="Make a dataset of captures or folders of them; with --mask, of a dataset; "
        "or of all shards that --shard made, or the folder they are in.",
    )
    verb.add_argument("inputs", nargs="*", metavar="CAPTURE_OR_FOLDER_OR_DATASET")
    add_list(verb)
    verb.add_argument("--out", required=True, metavar="DATASET", type=pathlib.Path)
    verb.add_argument(
        "--split",
        metavar="SPEC",
        help="KEY:TRAIN/VALIDATION/TEST in per cent, or KEY:foldI/N (I from 0), KEY one of random, "
        "session, host, capture, time, family, hash; or family:CLASS, which leaves CLASS out "
        "(default random:70/10/20; a derived dataset keeps its split)",
    )
    verb.add_argument(
        "--near-duplicates",
        metavar="ACTION:THRESHOLD",
        help="look for sessions that are nearly the same image (Jaccard index of their bytes at "
        "their places) before the split: keep counts them, group keeps them on one side of the "
        "split, drop leaves one of each label in it; such as group:0.9 (default: do not look)",
    )
    verb.add_argument("--labels", metavar="FILE.csv", type=pathlib.Path)
    add_seed(verb, "of the split (default 0)")
    verb.add_argument("--overwrite", action="store_true", help="replace DATASET if it exists")
    verb.add_argument(
        "--shard",
        metavar="I/N",
        help="make shard I, from 0, of N of the dataset, of the captures that are its share; give "
        "all N the same captures and options, then merge them: xai-traffic convert SHARD... --out "
        "DATASET. A shard that is made already is left as it is",
    )
    verb.add_argument(
        "--workers",
        type=int,
        metavar="N",
        help="processes that read captures side by side; the dataset is the same (default: the "
        "processors there are)",
    )
    add_reading_rules(verb)
    add_json(verb)
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.data.build import convert, summarise
    from xai_traffic.data.workers import usable_processors

    if not options.inputs and not options.list:
        return no_captures("convert")
    # A job that is stopped leaves nothing half made either.
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        conversion = convert(
            options.inputs,
            options.out,
            rules=chosen_rules(options),
            split=options.split,
            near_duplicates=options.near_duplicates,
            labels=options.labels,
            seed=options.seed,
            overwrite=options.overwrite,
            workers=usable_processors() if options.workers is None else options.workers,
            lists=options.list,
            shard=options.shard,
        )
    finally:
        signal.signal(signal.SIGTERM, before)
    for title, columns, rows in summarise(conversion.manifest):
        show_table(title, columns, rows)
    if options.json:
        print(json.dumps(conversion.manifest))
    for capture, reason in conversion.failures:
        log.error("%s: %s", printable(capture), printable(reason))
    return FAILED if conversion.failures else DONE
