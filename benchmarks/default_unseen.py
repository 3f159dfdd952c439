"""What the model to start with says of captures that it has never seen, source by source."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
from collections import Counter

import numpy as np
from default_sessions import LICENCES, malware_sources
from record_protocols import ATTACKS

from xai_traffic.capture.inputs import find_inputs
from xai_traffic.errors import XaiTrafficError
from xai_traffic.evaluation.answers import UNKNOWN
from xai_traffic.evaluation.bootstrap import unit_intervals, widened
from xai_traffic.evaluation.classify import classify
from xai_traffic.training.run import Run

PORTS = {
    **dict.fromkeys([("udp", 53), ("tcp", 53)], "DNS"),
    ("tcp", 80): "HTTP",
    ("tcp", 443): "TLS",
    ("udp", 443): "QUIC",
    **dict.fromkeys([("tcp", 445), ("tcp", 139)], "SMB"),
    **dict.fromkeys([("tcp", 88), ("udp", 88)], "Kerberos"),
    **dict.fromkeys([("tcp", 389), ("udp", 389)], "LDAP"),
    **dict.fromkeys([("tcp", 25), ("tcp", 587)], "SMTP"),
    ("tcp", 21): "FTP",
    ("tcp", 22): "SSH",
    ("tcp", 502): "Modbus",
    ("tcp", 1883): "MQTT",
    ("tcp", 3306): "MySQL",
    ("tcp", 5432): "PostgreSQL",
    ("tcp", 20000): "DNP3",
    ("udp", 3478): "STUN",
}
"""Which protocol a port stands for; programs that hide do not keep to it."""


@dataclasses.dataclass(frozen=True)
class Unseen:
    """What was said of one source.

    Args:
        name: of the source.
        captures: that gave sessions.
        sessions: that were judged.
        unknown: part of them that is called unknown, with its interval by capture.
        on_ports: how many have a port of PORTS.
        agree: part of those that get the protocol of their port.
        otherwise: part of those that get another one, and are not called unknown.
        labels: how often each answer but unknown was given.
    """

    name: str
    captures: int
    sessions: int
    unknown: dict[str, float | None]
    on_ports: int
    agree: dict[str, float | None]
    otherwise: dict[str, float | None]
    labels: Counter[str]


def judge_unseen(run: Run, captures: pathlib.Path) -> list[Unseen]:
    """Judge every session of every set that training had nothing of.

    The malware captures are judged whole: most of their sessions are ordinary background.
    """
    sources: dict[str, list[pathlib.Path]] = {}
    for path, source in malware_sources(captures).items():
        licence = LICENCES.get(source, "no licence stated")
        name = f"malware captures of {source} ({licence})"
        sources.setdefault(name, []).append(captures / "malware" / path)
    attacks = [captures / "protocols" / path for path in ATTACKS]
    sources["attacks among the captures of protocols, left out of training"] = attacks
    for name, folder in (
        ("USTC-TFC2016, benign, 784 bytes a session", "ustc/session_prefix/Benign"),
        ("USTC-TFC2016, malware, 784 bytes a session", "ustc/session_prefix/Malware"),
        ("USTC-TFC2016, Tinba as captured", "ustc/original"),
        ("captures made to break readers", "hostile"),
    ):
        if (captures / folder).exists():
            sources[name] = [each.path for each in find_inputs([captures / folder])]
    return [judge_source(run, name, paths) for name, paths in sources.items()]


def judge_source(run: Run, name: str, paths: list[pathlib.Path]) -> Unseen:
    """Judge every session of some captures; of a damaged one, those before the damage."""
    unit, said, ports = [], [], []
    for number, path in enumerate(paths):
        with contextlib.suppress(XaiTrafficError):
            for verdict in classify(run, path):
                ends = verdict["destination_port"], verdict["source_port"]
                found = (PORTS.get((verdict["protocol"], port)) for port in ends)
                unit.append(number)
                said.append(verdict["label"])
                ports.append(next(filter(None, found), ""))
    label, port = np.array(said, object), np.array(ports, object)
    units, known = np.array(unit, np.int64), label != UNKNOWN
    named = port != ""
    agree = label[named] == port[named]
    return Unseen(
        name,
        len(set(unit)),
        len(said),
        part_of_captures(~known, units),
        int(named.sum()),
        part_of_captures(agree, units[named]),
        part_of_captures(~agree & known[named], units[named]),
        Counter(label[known].tolist()),
    )


def part_of_captures(flags: np.ndarray, units: np.ndarray) -> dict[str, float | None]:
    """Return the part that is true, with its interval by capture; none of fewer than two."""
    if not len(flags):
        return {"mean": None, "low": None, "high": None}
    count = len(np.unique(units))
    if count < 2:
        return {"mean": float(flags.mean()), "low": None, "high": None}
    found = unit_intervals(lambda rows: np.array([flags[rows].mean()]), units)[0]
    return widened(found, count)
