"""Command-line options of the reading rules."""

from __future__ import annotations

import argparse

from xai_traffic.capture.rules import (
    DEFAULT_FILTER,
    LAYERS,
    LAYOUTS,
    RETRANSMITTED,
    SESSION_RULES,
    TUNNELLED,
    ReadingRules,
)


def add_reading_rules(verb: argparse.ArgumentParser) -> None:
    """Add an option for every reading rule; those that are not given are None."""
    group = verb.add_argument_group("reading rules")
    group.add_argument("--layers", choices=LAYERS, help="where a tile begins (default all)")
    group.add_argument(
        "--mask",
        metavar="NAME",
        help="what to hide: none, addresses, ports, ids, ttl, window, options, header, payload; "
        "joined by + (default none)",
    )
    group.add_argument(
        "--rule",
        choices=SESSION_RULES,
        help="what makes a session: five_tuple, both directions of one; connection, that and a "
        "SYN with a new sequence number begins another; pcapsplitter, zeek, nfstream, by the rules "
        "and time-outs of those tools; host_pair, all between two addresses; unidirectional, a "
        "direction of a five_tuple (default connection)",
    )
    group.add_argument("--min-packets", type=int, metavar="N", help="(default 1)")
    group.add_argument(
        "--filter", metavar="EXPR", help=f"packets to keep (default {DEFAULT_FILTER!r})"
    )
    group.add_argument("--layout", choices=LAYOUTS, help="(default tiles)")
    group.add_argument(
        "--idle-timeout", type=float, metavar="SECONDS", help="end idle sessions (default: never)"
    )
    group.add_argument(
        "--max-open",
        type=int,
        metavar="N",
        help="most sessions open at a time, the oldest is ended to make room; 0 means any "
        f"(default {ReadingRules.max_open:,})",
    )
    group.add_argument(
        "--tunnels",
        choices=TUNNELLED,
        help="which IP header of a tunnelled packet makes its session (default inner)",
    )
    group.add_argument(
        "--retransmissions",
        choices=RETRANSMITTED,
        help="what becomes of TCP segments that repeat one byte for byte (default keep)",
    )
    group.add_argument(
        "--most-per-capture",
        type=int,
        metavar="N",
        help="sessions of a class taken of one capture, the first ones, so that no capture stands "
        "for a class; 0 means any (default 0)",
    )
    add_community_id_seed(group, "0")


def add_community_id_seed(verb: argparse._ActionsContainer, default: str) -> None:
    """Add the option of the Community ID's seed; `default` is told in its help."""
    verb.add_argument(
        "--community-id-seed",
        type=int,
        metavar="N",
        help=f"0 to 65535; your site's, if it has chosen one (default {default})",
    )


def chosen_rules(options: argparse.Namespace) -> ReadingRules:
    """Return the rules that were asked for.

    Raises:
        ConfigError: they contradict each other, or a value is impossible.
    """
    given = {
        name: value
        for name in ReadingRules.__dataclass_fields__
        if (value := getattr(options, name)) is not None
    }
    return ReadingRules(**given)
