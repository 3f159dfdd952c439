"""The hosts of the lab: clients of one network, and servers somewhere in the documentation's."""

from __future__ import annotations

from xai_traffic.lab.packets import Host

_GATEWAY = bytes.fromhex("02005e100001")

CLIENTS = tuple(
    Host(
        mac=bytes.fromhex("02004c4f5000")[:5] + bytes([number]),
        address=bytes([10, 20, number % 3, 10 + number]),
        ttl=(64, 128)[number % 2],
        window=(502, 1026, 2052)[number % 3],
    )
    for number in range(24)
)
SERVERS = tuple(
    Host(
        mac=_GATEWAY,
        address=bytes([203, 0, 113, 20 + number]),
        ttl=44 + number,
        window=(509, 501, 235)[number % 3],
    )
    for number in range(16)
)
