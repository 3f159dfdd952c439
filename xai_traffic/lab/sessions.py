"""Sessions of a capture: whose they are, when they begin, and which of them carry a plant."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable

from xai_traffic.errors import ConfigError
from xai_traffic.lab.families import Family
from xai_traffic.lab.hosts import CLIENTS
from xai_traffic.lab.packets import Host, Packet
from xai_traffic.lab.plants import KINDS
from xai_traffic.lab.recipe import Recipe

START_NS = 1_767_225_600 * 1_000_000_000
"""Time at which all captures begin: 2026-01-01 00:00 UTC."""

SECONDS_PER_SESSION = 2.0
"""Mean time between the first packets of two sessions: most lie in one another's time."""

_TRIALS, _ENOUGH = 40, 2
"""Sessions drawn to see whether a family has a place for a plant, and how many must have it."""

_DRAWS = 1000
"""Sessions drawn at most for one with a place; a family that has enough never gets there."""


def make_sessions(family: Family, recipe: Recipe) -> list[list[Packet]]:
    """Return the packets of all sessions of a family with its own plants, unless they are removed.

    Hosts, ports and times come from a source of chance that the families share, so that session k
    has the same client at the same time in every one of them.
    """
    if recipe.remove:
        family = dataclasses.replace(family, plants={})
    seed, count = recipe.seed, recipe.sessions_per_family
    return [
        family.session(random.Random(f"{family.name}/{seed}/{number}"), *beginning)
        for number, beginning in enumerate(_beginnings(random.Random(f"hosts/{seed}"), count))
    ]


def make_planted_sessions(family: Family, recipe: Recipe, malicious: bool) -> list[list[Packet]]:
    """Return the packets of all sessions of one side of a family, its own plants left out.

    Both sides are drawn alike, by different chance; only sessions with a place for the plant are
    taken, on both sides, so that nothing but the plant tells which is which.

    Raises:
        ConfigError: hardly any session of the family has a place for the plant.
    """
    side = f"{recipe.plant}/{'malicious' if malicious else 'benign'}/{recipe.seed}"
    count, carriers = recipe.sessions_per_family, set()
    if malicious:
        chance = random.Random(f"carriers/{family.name}/{side}")
        carriers = set(chance.sample(range(count), recipe.planted))
    kind = KINDS[recipe.plant]
    beginnings = _beginnings(random.Random(f"hosts/{side}"), count, kind.client)
    return [
        _draw(family, recipe, f"{family.name}/{side}/{number}", beginning, number in carriers)
        for number, beginning in enumerate(beginnings)
    ]


def has_place(family: Family, recipe: Recipe) -> bool:
    """Tell whether more than a few sessions of a family have a place for the plant."""
    kind, beginning = KINDS[recipe.plant], (CLIENTS[0], 40_000, START_NS)
    bare, found = dataclasses.replace(family, plants={}), 0
    for number in range(_TRIALS):
        chance = random.Random(f"{family.name}/place/{number}")
        packets = bare.session(chance, *beginning, opening=kind.opening[1])
        found += bool(kind.plant(packets, recipe.packet))
    return found >= _ENOUGH


def in_order_of_time(sessions: list[list[Packet]]) -> list[tuple[int, int, Packet]]:
    """Return (session, packet in it, packet) of all packets, sessions numbered by the first."""
    ordered = sorted(sessions, key=lambda packets: packets[0].time_ns)
    frames = [
        (session, index, packet)
        for session, packets in enumerate(ordered)
        for index, packet in enumerate(packets)
    ]
    return sorted(frames, key=lambda item: item[2].time_ns)  # stable: ties keep their order


def _beginnings(
    common: random.Random,
    count: int,
    change: Callable[[Host, random.Random], Host] = lambda host, _: host,
) -> list[tuple[Host, int, int]]:
    """Return client, client port and start of sessions, on ports that repeat after 28,232."""
    ports = list(range(32_768, 61_000))
    common.shuffle(ports)
    beginnings = []
    for number in range(count):
        start = common.uniform(0, count * SECONDS_PER_SESSION)
        client = change(common.choice(CLIENTS), common)
        beginnings.append((client, ports[number % len(ports)], START_NS + int(start * 1e6) * 1000))
    return beginnings


def _draw(
    family: Family, recipe: Recipe, key: str, beginning: tuple[Host, int, int], planted: bool
) -> list[Packet]:
    """Return the first session with a place for the plant, with it or without."""
    kind = KINDS[recipe.plant]
    bare = dataclasses.replace(family, plants={})
    opening = kind.opening[0 if planted else 1]
    wanted = kind.default if recipe.packet is None else recipe.packet
    for attempt in range(_DRAWS):
        chance = random.Random(f"{key}/{attempt}")
        packets = kind.prepare(bare.session(chance, *beginning, opening=opening), chance)
        carriers = kind.plant(packets, wanted)
        if carriers and planted:
            return [carriers.get(at, packet) for at, packet in enumerate(packets)]
        if carriers:
            return packets
    raise ConfigError(
        f"plant {recipe.plant!r} finds no place in family {family.name!r}: it needs {kind.where}; "
        f"choose another packet, or families without {family.name!r}"
    )
