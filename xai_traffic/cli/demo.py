"""`xai-traffic demo`: the whole way on captures it makes itself."""

from __future__ import annotations

import pathlib

from xai_traffic.cli.options import DONE, add_seed
from xai_traffic.terminal import printable


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser("demo", help="the whole way on captures it makes itself")
    verb.add_argument("--out", default="demo", metavar="DIR", type=pathlib.Path)
    add_seed(verb, "of captures and training (default: 0)")
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.demo import demo

    print(printable(demo(options.out, seed=options.seed)))
    return DONE
