"""Known-answer captures: labelled sessions with evidence planted in them, and the list of it."""

from __future__ import annotations

import json
import os
import pathlib
import random
import struct
from collections.abc import Iterable

from xai_traffic.errors import ConfigError
from xai_traffic.folder import whole_folder
from xai_traffic.lab.families import CLIENTS, FAMILIES, Family
from xai_traffic.lab.packets import Packet

START_NS = 1_767_225_600 * 1_000_000_000
"""Time at which all captures begin: 2026-01-01 00:00 UTC."""

SECONDS_PER_SESSION = 2.0
"""Mean time between the first packets of two sessions: most lie in one another's time."""

SESSIONS_PER_FAMILY = 80

EVIDENCE = "evidence.jsonl"


def write_lab(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    sessions_per_family: int = SESSIONS_PER_FAMILY,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write `Benign/<family>.pcap`, `Malware/<family>.pcap` and `evidence.jsonl` into a folder.

    The same seed and number of sessions give the same bytes. The folder appears when it is
    complete.

    A line of evidence holds `capture` (path in the folder), `session` (0-based by first packet),
    `packet` (0-based in the session), `frame` (1-based in the capture), `start` and `end` (byte
    range in the packet), `field` (Wireshark's name), `family`, `plant` (its name) and `bytes` (in
    hexadecimal).

    Returns:
        The folder.

    Raises:
        ConfigError: `out` exists and `overwrite` is not set or it holds something else, it cannot
            be made, or there would be no session.
    """
    out = pathlib.Path(out)
    if sessions_per_family < 1:
        raise ConfigError(f"sessions_per_family is {sessions_per_family}: choose at least 1")
    with whole_folder(out, lambda: check_free(out, overwrite), ConfigError) as folder:
        lines = []
        for family in FAMILIES:
            sessions = make_sessions(family, seed=seed, count=sessions_per_family)
            frames = in_order_of_time(sessions)
            name = capture_of(family)
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(pcap(packet for _, _, packet in frames))
            lines += evidence(family, name, frames)
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / EVIDENCE).write_text(text, encoding="utf-8")
    return out


def capture_of(family: Family) -> str:
    """Return the path of a family's capture in the folder."""
    return f"{family.group}/{family.name}.pcap"


def check_free(out: pathlib.Path, overwrite: bool) -> None:
    """Refuse a destination that exists, unless it may be overwritten and is nothing but a lab's.

    Raises:
        ConfigError: says what is in the way.
    """
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise ConfigError(f"{out} exists: choose another --out, or add --overwrite")
    if not out.is_dir() or out.is_symlink():
        raise ConfigError(f"{out} is not a folder: choose another --out")
    ours = {EVIDENCE, *map(capture_of, FAMILIES)}
    others = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    if others - ours:
        raise ConfigError(
            f"{out} holds more than lab captures ({', '.join(sorted(others - ours)[:3])}): "
            "it is not overwritten, choose another --out"
        )


def make_sessions(family: Family, *, seed: int, count: int) -> list[list[Packet]]:
    """Return the packets of `count` sessions of a family, no two on the same client port.

    Hosts, ports and times come from a source of chance that the families share, so that session k
    has the same client at the same time in every one of them.
    """
    common = random.Random(f"hosts/{seed}")
    ports = list(range(32_768, 61_000))
    common.shuffle(ports)
    sessions = []
    for number in range(count):
        start = common.uniform(0, count * SECONDS_PER_SESSION)
        start_ns = START_NS + int(start * 1e6) * 1000
        client, port = common.choice(CLIENTS), ports[number % len(ports)]
        chance = random.Random(f"{family.name}/{seed}/{number}")
        sessions.append(family.session(chance, client, port, start_ns))
    return sessions


def in_order_of_time(sessions: list[list[Packet]]) -> list[tuple[int, int, Packet]]:
    """Return (session, packet in it, packet) of all packets, sessions numbered by the first."""
    ordered = sorted(sessions, key=lambda packets: packets[0].time_ns)
    frames = [
        (session, index, packet)
        for session, packets in enumerate(ordered)
        for index, packet in enumerate(packets)
    ]
    return sorted(frames, key=lambda item: item[2].time_ns)  # stable: ties keep their order


def pcap(packets: Iterable[Packet]) -> bytes:
    """Return a capture file of Ethernet frames with times in microseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)]
    for packet in packets:
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        size = len(packet.data)
        parts += (struct.pack("<IIII", seconds, rest // 1000, size, size), packet.data)
    return b"".join(parts)


def evidence(family: Family, capture: str, frames: list[tuple[int, int, Packet]]) -> list[dict]:
    """Return one line for each plant in a capture, in order of frames."""
    return [
        {
            "capture": capture,
            "session": session,
            "packet": index,
            "frame": number,
            "start": mark.start,
            "end": mark.end,
            "field": mark.plant.field,
            "family": family.name,
            "plant": mark.plant.name,
            "bytes": mark.plant.data.hex(),
        }
        for number, (session, index, packet) in enumerate(frames, 1)
        for mark in packet.marks
    ]
