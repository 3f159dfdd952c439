"""`xai-traffic classify`: a verdict on every session."""

from __future__ import annotations

import argparse
import json
import pathlib

from xai_traffic.capture.rule_options import add_community_id_seed
from xai_traffic.cli.options import DONE, FAILED, add_list, no_captures
from xai_traffic.errors import CaptureError, XaiTrafficError
from xai_traffic.terminal import log, printable


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "classify",
        help="a verdict on every session of captures, one JSON line each",
        description="Print a verdict on every session as one JSON line, in the order of the "
        "sessions' ends; `session` is its number in the capture, `end` why it ended. From a pipe, "
        "such as standard input, sessions are judged while it runs: when they end, have their 64 "
        "packets (end: packet limit) or were quiet for a while (end: quiet), each once; Ctrl-C or "
        "SIGTERM ends it: what is open is judged and printed, and the status is 0. A file that is "
        "interrupted is judged as far as it was read, and the status is 1.",
        epilog="live: tcpdump -i eth0 -U -w - | xai-traffic classify RUN - "
        "(-U hands packets on at once; without it they come in blocks)",
    )
    verb.add_argument("run_folder", metavar="RUN", type=pathlib.Path)
    verb.add_argument(
        "captures", nargs="*", metavar="CAPTURE", help="a file, a folder, a pattern, a pipe, or -"
    )
    add_list(verb)
    verb.add_argument(
        "--quiet-after",
        type=_seconds,
        default=60.0,
        metavar="SECONDS",
        help="judge a session of a pipe that had no packet for so long by the packets' times; 0: "
        "judge every session at its end alone, as in files (default 60)",
    )
    verb.add_argument(
        "--unknown",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="call sessions unknown that look like nothing that was learnt, by the rule that "
        "`xai-traffic calibrate` made (default: where it was made with --unknown)",
    )
    add_community_id_seed(verb, "the run's")
    verb.set_defaults(run=_run)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r}: give a number of seconds from 0 up")
    return seconds


def _run(options, _) -> int:
    from xai_traffic.capture.reader import find_captures
    from xai_traffic.evaluation.answers import asks_unknown
    from xai_traffic.evaluation.classify import classify
    from xai_traffic.training.interruption import Interruption
    from xai_traffic.training.run import load_run

    if not options.captures and not options.list:
        return no_captures("classify")
    run = load_run(options.run_folder, community_id_seed=options.community_id_seed)
    asks_unknown(run, options.unknown)  # refused once, and not with every capture
    missing: list[CaptureError] = []
    captures = find_captures(options.captures, missing, options.list)
    for error in missing:
        log.error("%s", printable(error))
    status = FAILED if missing else DONE
    with Interruption(when="as soon as what was read is judged") as interruption:
        for name, path in captures:
            if interruption.asked:
                log.error("%s: not read, for it was stopped", printable(name))
                status = FAILED
                continue
            try:
                for verdict in classify(
                    run,
                    path,
                    name,
                    quiet_after=options.quiet_after,
                    stop=lambda: interruption.asked,
                    unknown=options.unknown,
                ):
                    print(json.dumps(verdict), flush=True)
            except XaiTrafficError as error:
                log.error("%s", printable(error))
                status = FAILED
    return status
