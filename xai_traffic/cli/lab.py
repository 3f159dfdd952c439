"""`xai-traffic lab`: captures whose evidence is known."""

from __future__ import annotations

import pathlib

from xai_traffic.cli.options import DONE
from xai_traffic.terminal import printable


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser("lab", help="make captures whose evidence is known")
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    verb.add_argument("--seed", type=int, default=0, metavar="N")
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.lab.write import write_lab

    write_lab(options.out, seed=options.seed, overwrite=options.overwrite)
    print(printable(options.out))
    return DONE
