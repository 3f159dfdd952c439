"""Exit statuses, and options that several verbs share."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from typing import Any

from xai_traffic.errors import XaiTrafficError
from xai_traffic.terminal import log, printable

DONE, FAILED, WRONG_USAGE = 0, 1, 2


def add_list(verb) -> None:
    """Add --list, files that name more captures."""
    verb.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="take more paths from a file, or from standard input (-): one a line, # for comments",
    )


def add_seed(verb, of_what: str, default: int | None = 0) -> None:
    """Add --seed."""
    verb.add_argument("--seed", type=_seed, default=default, metavar="N", help=of_what)


def _seed(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 0 up")
    return int(text)


def warn_of_scores(result: Mapping[str, Any]) -> None:
    """Say why numbers are LEAKY, or flatter; reasons name folders, whose names are hostile text."""
    for reason in result["leaky"]:
        log.warning("LEAKY: %s", printable(reason))
    for reason in result.get("flattered_by", ()):
        log.warning("split %s flatters the run: %s", result["split"], reason)


def renew_card(folder) -> None:
    """Write a run's model card anew; what hinders it costs nothing of what was measured."""
    from xai_traffic.report.model_card import write_model_card

    try:
        _, path = write_model_card(folder)
    except XaiTrafficError as error:
        log.warning("the model card is left as it is: %s", printable(error))
        return
    log.info("written: %s", printable(path))


def no_captures(verb: str) -> int:
    """Say that nothing was given to read, and return the exit status."""
    print(f"xai-traffic {verb}: name captures, or a --list of them", file=sys.stderr)
    return WRONG_USAGE


def add_json(verb) -> None:
    """Add --json."""
    verb.add_argument("--json", action="store_true", help="the result as JSON on standard output")
