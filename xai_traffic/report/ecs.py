"""A session as a document of the Elastic Common Schema.

Only fields that the schema has and that are known; what it has no field for, a class, a capture,
stands in `labels`, its place for one's own words. A verdict of a model is no rule and names no
threat, so `rule` and `threat` are left out.

Source: ECS field reference, sets base, ecs, event, network, source, destination.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from xai_traffic.report.eve import WITH_PORTS, directions

VERSION = "8.11.0"
"""Of the schema whose fields these are."""

TRANSPORTS = {"tcp": "tcp", "udp": "udp", "icmp": "icmp", "icmp6": "ipv6-icmp", "sctp": "sctp"}
NUMBERS = {"tcp": "6", "udp": "17", "icmp": "1", "icmp6": "58", "sctp": "132"}


def ecs_document(verdict: dict[str, Any], packets: np.ndarray) -> dict[str, Any]:
    """Return the document of a session.

    Args:
        verdict: of `evaluation.classify.verdicts`.
        packets: PACKET [n], rows of its packets.
    """
    protocol = verdict["protocol"]
    number = protocol if protocol.isdecimal() else NUMBERS.get(protocol)
    first, last = (np.datetime64(verdict[name][:-1]) for name in ("first_time", "last_time"))
    network = {
        "transport": TRANSPORTS.get(protocol),
        "iana_number": number,
        "type": _family(verdict["source"]),
        "community_id": verdict["community_id"],
        "packets": verdict["packets"],
        "bytes": verdict["bytes"],
    }
    return {
        "@timestamp": verdict["first_time"],
        "ecs": {"version": VERSION},
        "event": {
            "kind": "event",
            "category": ["network"],
            "type": ["info"],
            "module": "xai_traffic",
            "dataset": "xai_traffic.explanations",
            "start": verdict["first_time"],
            "end": verdict["last_time"],
            "duration": int((last - first).astype("timedelta64[ns]").astype(np.int64)),
        },
        "network": {name: value for name, value in network.items() if value is not None},
        "source": _end("source", verdict, packets),
        "destination": _end("destination", verdict, packets),
        "labels": {
            "verdict": verdict["label"],
            "capture": verdict["capture"],
            "session": str(verdict["session"]),
        },
    }


def _end(who: str, verdict: dict[str, Any], packets: np.ndarray) -> dict[str, Any]:
    address = verdict[who]
    fields: dict[str, Any] = {} if address is None else {"address": address, "ip": address}
    if verdict["protocol"] in WITH_PORTS:
        fields["port"] = verdict[f"{who}_port"]
    sent = directions(verdict, packets)
    if sent is not None:
        fields |= {"packets": sent[who][0], "bytes": sent[who][1]}
    return fields


def _family(address: str | None) -> str | None:
    if address is None:
        return None
    return "ipv6" if ":" in address else "ipv4"
