"""Render packets as heiFIP 1.1.1 does: layouts `heifip-none` and `heifip-header`.

These are no masks: bytes move. Both give every packet new random MAC and IP addresses (lengths and
checksums stay) and take out payload by what scapy knows of its port; HEADER also rewrites headers
to the few fields that it takes for unbiased. See FACTS.md section 2 for what that means for a
model; here it is reproduced, to be compared with. `layers.py` says how a packet is read.

    none     all TCP or UDP payload is taken out if it holds a TLS record or bytes that scapy does
             not know; an HTTP message loses its body only. The rest stays as captured.
    header   as none; and IPv4 becomes version and flags, type of service, time to live, protocol;
             IPv6 version, traffic class, next header, hop limit; TCP two bytes of flags and the
             options, UDP nothing; an HTTP head some of its fields; DNS what `dns.py` says,
             appended once more behind everything else.

heiFIP draws its addresses unseeded; here they follow from a seed, the packet's number and time.
In the modes' other ways to fail, heiFIP stops: it cannot render HEADER without a link layer, nor
DNS with bytes behind it. Here such a packet is rendered without what heiFIP misses.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from xai_traffic.capture.heifip.applications import (
    CLDAP,
    DNS,
    HTTP,
    KERBEROS,
    LDAP,
    REQUEST,
    RESPONSE,
    TLS,
)
from xai_traffic.capture.heifip.ber import read_kerberos_message, read_ldap_message
from xai_traffic.capture.heifip.dns import Unreadable, header_form, read_message
from xai_traffic.capture.heifip.http import request_form, response_form, tcp_form
from xai_traffic.capture.heifip.layers import ETHERNET, RAW, Layers
from xai_traffic.capture.records import NONE, TILE

RANDOM = 44
"""Random bytes that a packet may need: two MAC and two IPv6 addresses."""

SEED = 0
"""Of the addresses; another gives other noise and the same bytes beside it."""

_OFFSETS = ("network", "transport", "payload", "outer")
_GAMMA = np.uint64(0x9E3779B97F4A7C15)

_ADDRESSES = {ETHERNET: (0, 6), "ipv4": (12, 4), "ipv6": (8, 16)}
"""Where the first of two addresses begins in a layer, and bytes of each."""

_FORMS = {
    "ipv4": lambda data: bytes([data[0] & 0xF0 | data[6] >> 5, data[1], data[8], data[9]]),
    "ipv6": lambda data: bytes([6, (data[0] << 4 | data[1] >> 4) & 0xFF, data[6], data[7]]),
    "tcp": tcp_form,
    "udp": lambda data: b"",
    REQUEST: request_form,
    RESPONSE: response_form,
}
"""What HEADER makes of the first layer of a name."""


_ENCODED_ANEW = {
    LDAP: read_ldap_message,
    CLDAP: read_ldap_message,
    KERBEROS: read_kerberos_message,
}


class Rendering(NamedTuple):
    """A packet as rendered: its bytes, and the (first byte, number) of runs that are random."""

    data: bytes
    random: list[tuple[int, int]]


def render_tiles(
    tiles: np.ndarray, packets: np.ndarray, header: bool, seed: int = SEED
) -> tuple[np.ndarray, np.ndarray]:
    """Render packets, each from a tile that holds all of it, and keep their first 256 bytes.

    Args:
        tiles: uint8 [n, width], of layers `all`.
        packets: PACKET [n].
        header: mode HEADER, else NONE.
        seed: of the random addresses.

    Returns:
        uint8 [n, 256], and rows whose `length` is that of the rendering and that have no offsets:
        what lay there has moved.
    """
    noise = draw_noise(packets["frame"], packets["time_ns"], seed)
    made = np.zeros((len(packets), TILE), np.uint8)
    rows = packets.copy()
    lengths, links = packets["length"].tolist(), packets["link"].tolist()
    for row, (length, link) in enumerate(zip(lengths, links, strict=True)):
        packet = tiles[row, :length].tobytes()
        data = render(packet, link, header, noise[row].tobytes()).data[:TILE]
        made[row, : len(data)] = np.frombuffer(data, np.uint8)
        rows["length"][row] = len(data)
    for name in _OFFSETS:
        rows[name] = NONE
    return made, rows


def draw_noise(frames: np.ndarray, times: np.ndarray, seed: int = SEED) -> np.ndarray:
    """Return uint8 [n, RANDOM], a function of each packet's number and time (SplitMix64)."""
    state = np.full(len(frames), seed, np.uint64)
    for part in (frames, times):
        state = _mix(state ^ np.asarray(part).astype(np.uint64))
    words = state[:, None] + _GAMMA * np.arange(1, RANDOM // 8 + 2, dtype=np.uint64)
    return _mix(words).astype("<u8").view(np.uint8)[:, :RANDOM]


def _mix(words: np.ndarray) -> np.ndarray:
    words = words + _GAMMA
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        words = (words ^ words >> np.uint64(shift)) * np.uint64(factor)
    return words ^ words >> np.uint64(31)


def render(packet: bytes, link: int, header: bool, noise: bytes) -> Rendering:
    """Render one packet.

    Args:
        packet: as captured.
        link: its link type.
        header: mode HEADER, else NONE.
        noise: RANDOM bytes to take the addresses from.
    """
    layers = Layers(packet, link)
    kept, padding = _kept(layers)
    redrawn = {layers.place(ETHERNET), layers.place(*_IP)}
    made, random, behind = bytearray(), [], b""
    for place, (name, start, stop) in enumerate(kept):
        data, first = packet[start:stop], layers.place(name) == place
        if header and first and name in _FORMS:
            made += _FORMS[name](data)
        elif header and first and name == DNS:
            message, behind = _dns_form(data, place > 0 and kept[place - 1][0] == "tcp")
            made += message
        elif name in _ENCODED_ANEW:
            made += _ENCODED_ANEW[name](data)[1]
        elif place in redrawn:
            begin, size = _ADDRESSES[name]
            drawn, noise = noise[: 2 * size], noise[2 * size :]
            if data[begin : begin + size] == data[begin + size : begin + 2 * size]:
                drawn = 2 * drawn[:size]  # equal addresses stay equal
            random.append((len(made) + begin, 2 * size))
            made += data[:begin] + drawn + data[begin + 2 * size :]
        else:
            made += data
    made += behind
    for start, stop in padding:
        made += packet[start:stop]
    return Rendering(bytes(made), random)


_IP = ("ipv4", "ipv6")


def _kept(layers: Layers) -> tuple[list[tuple[str, int, int]], list[tuple[int, int]]]:
    """Return the layers and the padding that heiFIP keeps."""
    last = None
    if layers.place(RAW) is not None and layers.place(HTTP) is not None:
        last = layers.place(REQUEST, RESPONSE)
    elif layers.place(RAW) is not None or layers.place(TLS) is not None:
        last = layers.place("tcp", "udp", *_IP)
    if last is None:
        return layers.found, layers.padding
    return layers.found[: last + 1], []


def _dns_form(data: bytes, over_tcp: bool) -> tuple[bytes, bytes]:
    """Return a DNS layer as HEADER writes it, and what it appends."""
    message = read_message(data[2:] if over_tcp else data)
    try:
        again, behind = header_form(message)
    except Unreadable:
        return data, b""
    unchanged = not any(message.sections) and message.sections[0] is not None
    return (data if unchanged else again), behind
