"""The names of Suricata's eve.json for what is known of a session.

Source: Suricata 7 user guide, "Eve JSON Format": the common part, and the `flow` object.
"""

from __future__ import annotations

import datetime
from typing import Any

import numpy as np

EVENT_TYPE = "xai"

PROTOCOLS = {"tcp": "TCP", "udp": "UDP", "icmp": "ICMP", "icmp6": "IPv6-ICMP", "sctp": "SCTP"}
"""Suricata's names of protocols; of others there is the number, in three digits."""

WITH_PORTS = ("tcp", "udp", "sctp")
_ENDS = ("source", "destination")


def eve_fields(verdict: dict[str, Any], packets: np.ndarray) -> dict[str, Any]:
    """Return the part of a session's line that has the shape of an event of eve.json.

    `timestamp` and `flow.start` are the time of the first packet, `flow.end` that of the latest,
    in microseconds as there. The client is who sent the first packet. Counts by direction are
    there only where every packet of the session has a row. There is no `flow_id`: Suricata draws
    its own, so flows are joined by `community_id`.

    Args:
        verdict: of `evaluation.classify.verdicts`.
        packets: PACKET [n], rows of its packets.
    """
    ports = verdict["protocol"] in WITH_PORTS
    start, end = eve_time(verdict["first_time"]), eve_time(verdict["last_time"])
    fields = {
        "timestamp": start,
        "event_type": EVENT_TYPE,
        "src_ip": verdict["source"],
        "src_port": verdict["source_port"] if ports else None,
        "dest_ip": verdict["destination"],
        "dest_port": verdict["destination_port"] if ports else None,
        "proto": _protocol(verdict["protocol"]),
        "pcap_filename": verdict["capture"],
        "flow": {**_counts(verdict, packets), "start": start, "end": end, "age": _age(start, end)},
    }
    return {name: value for name, value in fields.items() if value is not None}


def eve_time(rfc3339: str) -> str:
    """Return a time `...T00:00:00.000000000Z` as `...T00:00:00.000000+0000`."""
    return rfc3339[:-4] + "+0000"


def directions(verdict: dict[str, Any], packets: np.ndarray) -> dict[str, tuple[int, int]] | None:
    """Return packets and bytes sent by the session's "source" and by its "destination".

    None where a packet of the session has no row, so that nobody knows.
    """
    if len(packets) != verdict["packets"]:
        return None
    own = {who: packets[packets["direction"] == code] for code, who in enumerate(_ENDS)}
    return {who: (len(rows), int(rows["wire"].sum(dtype=np.int64))) for who, rows in own.items()}


def _counts(verdict: dict[str, Any], packets: np.ndarray) -> dict[str, int]:
    sent = directions(verdict, packets)
    if sent is None:
        return {}
    return {
        "pkts_toserver": sent["source"][0],
        "pkts_toclient": sent["destination"][0],
        "bytes_toserver": sent["source"][1],
        "bytes_toclient": sent["destination"][1],
    }


def _protocol(name: str) -> str | None:
    if name.isdecimal():
        return f"{int(name):03d}"
    return PROTOCOLS.get(name)  # a session of several protocols has none


def _age(start: str, end: str) -> int:
    """Return whole seconds between two times."""
    begun, ended = (datetime.datetime.fromisoformat(time) for time in (start, end))
    return max(0, int((ended - begun).total_seconds()))
