"""`xai-traffic lab`: captures whose evidence is known."""

from __future__ import annotations

import argparse
import pathlib

from xai_traffic.cli.options import DONE, add_seed
from xai_traffic.terminal import printable

_DESCRIPTION = """Write labelled captures, evidence.jsonl (which bytes of them tell malicious from
benign sessions) and lab.json (the recipe). The same arguments give the same bytes."""
_EPILOG = """families
  benign     chat, database, dns, files, https, mail, peers, ssh, web
  malicious  beacon, bot, exfiltration, exploit, tls-beacon, tunnel: a benign one with a plant

with --plant every benign family is written twice, without the plant and, as FAMILY-KIND, with it
  payload     16 bytes of a message: the first place in the client's packets
  ttl, time_stamp, window
              a value of a header field: in every packet of the client
  sni         the name of a TLS server (https only)
  checksum    a value of the IPv4 header's checksum: in packet 0
  sequence    three keep-alives in a row: packets 3 to 5
"""


def _names(text: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in text.split(","))


def add(verbs) -> None:
    """Add the verb to the parser of all verbs."""
    verb = verbs.add_parser(
        "lab",
        help="make captures whose evidence is known",
        description=_DESCRIPTION,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verb.add_argument("--out", required=True, metavar="DIR", type=pathlib.Path)
    add_seed(verb, "of what is drawn (default: 0)")
    verb.add_argument(
        "--sessions", type=int, default=80, metavar="N", help="sessions in each capture (80)"
    )
    verb.add_argument(
        "--families", type=_names, metavar="NAME,NAME", help="only these, of those listed below"
    )
    verb.add_argument("--plant", metavar="KIND", help="evidence of one kind in benign families")
    verb.add_argument(
        "--packet", type=int, metavar="K", help="plant it in packet K of a session only, from 0"
    )
    verb.add_argument(
        "--strength",
        type=float,
        default=1.0,
        metavar="S",
        help="share of the malicious sessions that carry it, above 0 and at most 1 (1)",
    )
    verb.add_argument(
        "--remove",
        action="store_true",
        help="the same sessions with filler where the plants would be",
    )
    verb.add_argument("--overwrite", action="store_true", help="replace DIR if it exists")
    verb.set_defaults(run=_run)


def _run(options, _) -> int:
    from xai_traffic.lab.write import write_lab

    write_lab(
        options.out,
        seed=options.seed,
        sessions_per_family=options.sessions,
        families=options.families,
        plant=options.plant,
        packet=options.packet,
        strength=options.strength,
        remove=options.remove,
        overwrite=options.overwrite,
    )
    print(printable(options.out))
    return DONE
