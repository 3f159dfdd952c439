"""Known-answer captures: labelled sessions with evidence planted in them, and the list of it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
import struct
from collections.abc import Iterable, Iterator, Sequence

from xai_traffic.errors import ConfigError
from xai_traffic.lab.evidence import EVIDENCE, evidence, evidence_text
from xai_traffic.lab.families import BY_NAME, FAMILIES
from xai_traffic.lab.packets import Packet
from xai_traffic.lab.plants import KINDS
from xai_traffic.lab.recipe import RECIPE, SESSIONS_PER_FAMILY, Recipe, recipe_text
from xai_traffic.lab.sessions import (
    has_place,
    in_order_of_time,
    make_planted_sessions,
    make_sessions,
)
from xai_traffic.whole import Destination


def write_lab(
    out: str | os.PathLike[str],
    *,
    seed: int = 0,
    sessions_per_family: int = SESSIONS_PER_FAMILY,
    families: Sequence[str] | None = None,
    plant: str | None = None,
    packet: int | None = None,
    strength: float = 1.0,
    remove: bool = False,
    overwrite: bool = False,
) -> pathlib.Path:
    """Write captures, the list of their evidence (`evidence.jsonl`) and their recipe (`lab.json`).

    Without `plant`, `Benign/<family>.pcap` and `Malware/<family>.pcap` hold the families and their
    own plants. With it, every benign family that has a place for the plant is written twice, drawn
    alike and independently: `Benign/<family>.pcap` without it, `Malware/<family>-<plant>.pcap`
    with it. The same arguments give the same bytes. The folder appears when it is complete.

    Args:
        out: the folder to make.
        seed: of all chance.
        sessions_per_family: sessions in a capture.
        families: names of families; all that fit if None.
        plant: a kind of evidence, a key of `plants.KINDS`.
        packet: the only packet that carries it, 0-based in its session. If None, the kind chooses:
            all packets of the client (ttl, time_stamp, window), the first packet of the client
            with a place (payload, sni), the first of all (checksum), those after the handshake
            (sequence).
        strength: share of the malicious sessions that carry the plant, in (0, 1]; the others are
            as benign ones.
        remove: write what benign sessions have where the plants would be, and nothing else
            differently: an accuracy that stays has rested on something else. Sequences differ in
            more, as their packets are others.
        overwrite: replace a lab that exists.

    Returns:
        The folder.

    Raises:
        ConfigError: `out` exists and `overwrite` is not set or it holds something else, it cannot
            be made, or an argument is wrong or goes with no family.
    """
    out = pathlib.Path(out)
    recipe = _with_families(
        Recipe(seed, sessions_per_family, families, plant, packet, strength, remove)
    )
    place = Destination(out, overwrite, "lab captures", _foreign, ConfigError)
    with place.whole_folder() as folder:
        lines = []
        for label, name, sessions in _captures(recipe):
            frames = in_order_of_time(sessions)
            path = folder / name
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(pcap(each for _, _, each in frames))
            lines += evidence(label, name, frames)
        (folder / EVIDENCE).write_text(evidence_text(lines), encoding="utf-8")
        (folder / RECIPE).write_text(recipe_text(recipe), encoding="utf-8")
    return out


def _with_families(recipe: Recipe) -> Recipe:
    """Return the recipe with its families named: those asked for, else all with a place.

    Raises:
        ConfigError: a family that was asked for has no place for the plant, or none has.
    """
    asked = recipe.families or recipe.choices()
    names = asked
    if recipe.packet is not None:
        names = tuple(name for name in asked if has_place(BY_NAME[name], recipe))
    without = [name for name in asked if name not in names]
    if without and (recipe.families or not names):
        raise ConfigError(
            f"packet {recipe.packet} of {', '.join(without)} has no place for plant "
            f"{recipe.plant!r}, or hardly ever: it needs {KINDS[recipe.plant].where}; choose "
            "another packet, or other families"
        )
    return dataclasses.replace(recipe, families=names)


def _captures(recipe: Recipe) -> Iterator[tuple[str, str, list[list[Packet]]]]:
    """Yield label, path and sessions of each capture."""
    for name in recipe.families or ():
        family = BY_NAME[name]
        if recipe.plant is None:
            yield name, f"{family.group}/{name}.pcap", make_sessions(family, recipe)
            continue
        for group, label in (("Benign", name), ("Malware", f"{name}-{recipe.plant}")):
            sessions = make_planted_sessions(family, recipe, malicious=group == "Malware")
            yield label, f"{group}/{label}.pcap", sessions


def _foreign(out: pathlib.Path) -> set[str]:
    paths = {path.relative_to(out).as_posix() for path in out.rglob("*") if not path.is_dir()}
    return paths - _names()


def _names() -> set[str]:
    """Return the path of every file that a lab may hold."""
    own = {f"{family.group}/{family.name}.pcap" for family in FAMILIES}
    made = {f"Malware/{family.name}-{kind}.pcap" for family in FAMILIES for kind in KINDS}
    return own | made | {EVIDENCE, RECIPE}


def pcap(packets: Iterable[Packet]) -> bytes:
    """Return a capture file of Ethernet frames with times in microseconds."""
    parts = [struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, 262_144, 1)]
    for packet in packets:
        seconds, rest = divmod(packet.time_ns, 1_000_000_000)
        size = len(packet.data)
        parts += (struct.pack("<IIII", seconds, rest // 1000, size, size), packet.data)
    return b"".join(parts)
