"""Find the layers of a packet as heiFIP 1.1.1 sees them, that is as scapy 2.5.0 dissects it.

heiFIP's rendering hangs on which protocols scapy knows by their ports and whether it can read
them, not on what the packet holds. Behaviour was observed on heiFIP 1.1.1 with scapy 2.5.0 and its
default layers, HTTP and TLS, and written anew:

A layer keeps its bytes as captured. What a length field leaves over is padding: it moves behind
everything else. A layer that cannot be read becomes `raw` from its first byte on, and so does what
no known protocol follows.
"""

from __future__ import annotations

import struct
from collections.abc import Callable

from xai_traffic.capture.heifip.applications import application_of
from xai_traffic.capture.heifip.dns import Unreadable
from xai_traffic.capture.records import ICMP, TCP, UDP

ETHERNET, VLAN, COOKED, LOOPBACK, PPP_LINK = "ethernet", "vlan", "cooked", "loopback", "ppp"
RAW, PADDING = "raw", "padding"

_LINKS = {
    1: "_ethernet",
    0: "_loopback",
    108: "_loopback",
    113: "_cooked",
    276: "_cooked2",
    9: "_ppp",
    12: "_ip",
    101: "_ip",
    228: "_ipv4",
    229: "_ipv6",
}
_ETHER_TYPES = {
    0x8100: "_vlan",
    0x88A8: "_vlan",
    0x0800: "_ipv4",
    0x86DD: "_ipv6",
    0x8864: "_pppoe",
}
_EXTENSIONS = (0, 43, 60)  # hop-by-hop, routing, destination options
_MESSAGE_ABOUT = (3, 4, 5, 11, 12)  # ICMP types that carry the packet they are about


class Layers:
    """The layers of one packet.

    Attributes:
        data: the packet.
        found: (name, first byte, byte behind the last) of each layer but padding, outermost first.
        padding: (first byte, byte behind the last), in the order in which heiFIP appends it.
    """

    def __init__(self, data: bytes, link: int):
        self.data = data
        self.found: list[tuple[str, int, int]] = []
        self.padding: list[tuple[int, int]] = []
        self._payload(getattr(self, _LINKS.get(link, ""), None), 0, len(data))

    def place(self, *names: str) -> int | None:
        """Return the place in `found` of the first layer of the first name that is there."""
        for name in names:
            for place, (each, _, _) in enumerate(self.found):
                if each == name:
                    return place
        return None

    def _add(self, name: str, start: int, stop: int) -> None:
        self.found.append((name, start, stop))

    def _payload(self, dissect: Callable | None, start: int, stop: int, padded: int = 0) -> None:
        """Dissect what follows; keep it raw where that fails. Padding reaches up to `padded`."""
        if start < stop:
            before = len(self.found), len(self.padding)
            try:
                if dissect is None:
                    raise Unreadable
                dissect(start, stop)
            except (Unreadable, struct.error, IndexError):
                del self.found[before[0] :], self.padding[before[1] :]
                self._add(RAW, start, stop)
        if stop < padded:
            self.padding.append((stop, padded))

    def _word(self, at: int, stop: int) -> int:
        if at + 2 > stop:
            raise Unreadable
        return int.from_bytes(self.data[at : at + 2])

    def _of_type(self, kind: int) -> Callable | None:
        return getattr(self, _ETHER_TYPES.get(kind, ""), None)

    def _ethernet(self, start: int, stop: int) -> None:
        kind = self._word(start + 12, stop)
        if kind <= 1500:  # heiFIP knows no addresses in IEEE 802.3 frames
            end = min(stop, start + 14 + kind)
            self._add("ieee802.3", start, start + 14)
            self._payload(None, start + 14, end, stop)
            return
        self._add(ETHERNET, start, start + 14)
        self._payload(self._of_type(kind), start + 14, stop)

    def _vlan(self, start: int, stop: int) -> None:
        kind = self._word(start + 2, stop)
        self._add(VLAN, start, start + 4)
        self._payload(self._of_type(kind), start + 4, stop)

    def _pppoe(self, start: int, stop: int) -> None:
        self._word(start + 4, stop)
        self._add("pppoe", start, start + 6)
        self._payload(self._ppp, start + 6, stop)

    def _ppp(self, start: int, stop: int) -> None:
        if self.data[start] == 0xFF:  # HDLC: address, control
            self._add("hdlc", start, start + 2)
            self._payload(self._ppp, start + 2, stop)
            return
        size = 1 if self.data[start] & 1 else 2
        kind = self.data[start] if size == 1 else self._word(start, stop)
        self._add(PPP_LINK, start, start + size)
        follows = {0x21: self._ipv4, 0x57: self._ipv6}.get(kind)
        self._payload(follows, start + size, stop)

    def _cooked(self, start: int, stop: int) -> None:
        kind = self._word(start + 14, stop)
        self._add(COOKED, start, start + 16)
        self._payload(self._of_type(kind), start + 16, stop)

    def _cooked2(self, start: int, stop: int) -> None:
        if start + 20 > stop:
            raise Unreadable
        self._add(COOKED, start, start + 20)
        self._payload(self._of_type(self._word(start, stop)), start + 20, stop)

    def _loopback(self, start: int, stop: int) -> None:
        if start + 4 > stop:
            raise Unreadable
        self._add(LOOPBACK, start, start + 4)
        follows = {0: self._ipv4, 2: self._ipv4, 10: self._ipv6}.get(self.data[start])
        self._payload(follows, start + 4, stop)

    def _ip(self, start: int, stop: int) -> None:
        (self._ipv6 if self.data[start] >> 4 == 6 else self._ipv4)(start, stop)

    def _ipv4(self, start: int, stop: int, name: str = "ipv4") -> None:
        if start + 20 > stop:
            raise Unreadable
        size = max(20, (self.data[start] & 15) * 4)
        begin, total = min(start + size, stop), self._word(start + 2, stop)
        self._add(name, start, begin)
        left = total - (self.data[start] & 15) * 4
        end = stop if left < 0 else min(stop, begin + left)
        protocol, first = self.data[start + 9], not self._word(start + 6, stop) & 0x1FFF
        if name == "ipv4":
            follows = {
                TCP: self._tcp if first else None,
                UDP: self._udp if first else None,
                ICMP: self._icmp if first else None,
                4: self._ipv4 if first else None,
                41: self._ipv6,
                47: self._gre if first else None,
            }.get(protocol)
        else:
            follows = {TCP: self._tcp_about, UDP: self._udp_about}.get(protocol)
        self._payload(follows, begin, end, stop)

    def _ipv6(self, start: int, stop: int) -> None:
        if start + 40 > stop:
            raise Unreadable
        self._add("ipv6", start, start + 40)
        end = min(stop, start + 40 + self._word(start + 4, stop))
        self._payload(self._next_header(self.data[start + 6]), start + 40, end, stop)

    def _next_header(self, kind: int) -> Callable | None:
        if kind in _EXTENSIONS:
            return self._extension
        known = {TCP: self._tcp, UDP: self._udp, 41: self._ipv6, 4: self._ipv4, 47: self._gre}
        return {**known, 44: self._fragment, 58: self._opaque}.get(kind)

    def _extension(self, start: int, stop: int) -> None:
        end = start + 8 + 8 * self.data[start + 1]
        if end > stop:
            raise Unreadable
        self._add("extension", start, end)
        self._payload(self._next_header(self.data[start]), end, stop)

    def _fragment(self, start: int, stop: int) -> None:
        offset = self._word(start + 2, stop) >> 3
        if start + 8 > stop:
            raise Unreadable
        self._add("extension", start, start + 8)
        follows = None if offset else self._next_header(self.data[start])
        self._payload(follows, start + 8, stop)

    def _gre(self, start: int, stop: int) -> None:
        kind, flags = self._word(start + 2, stop), self.data[start]
        if self.data[start + 1] & 7 or flags & 0x40:
            raise Unreadable
        size = 4 + 4 * (bool(flags & 0x80) + bool(flags & 0x20) + bool(flags & 0x10))
        if start + size > stop:
            raise Unreadable
        self._add("gre", start, start + size)
        self._payload(self._of_type(kind), start + size, stop)

    def _opaque(self, start: int, stop: int) -> None:
        self._add("opaque", start, stop)

    def _icmp(self, start: int, stop: int) -> None:
        if start + 4 > stop:
            raise Unreadable
        size = 20 if self.data[start] in (13, 14) else 12 if self.data[start] in (17, 18) else 8
        begin = min(start + size, stop)
        self._add("icmp", start, begin)
        about = self.data[start] in _MESSAGE_ABOUT
        self._payload(self._ip_about if about else None, begin, stop)

    def _ip_about(self, start: int, stop: int) -> None:
        self._ipv4(start, stop, "ipv4 about")

    def _tcp_about(self, start: int, stop: int) -> None:
        size = min(20, stop - start)
        self._add("tcp about", start, start + size)
        self._payload(None, start + size, stop)

    def _udp_about(self, start: int, stop: int) -> None:
        self._add("udp about", start, min(start + 8, stop))
        self._payload(None, start + 8, stop)

    def _tcp(self, start: int, stop: int) -> None:
        if start + 20 > stop:
            if stop - start not in (2, 4, 8, 12, 14, 16, 18):  # between two fields is well
                raise Unreadable
            self._add("tcp", start, stop)
            return
        begin = min(stop, start + max(20, 4 * (self.data[start + 12] >> 4)))
        self._add("tcp", start, begin)
        self._application(TCP, start, begin, stop, stop)

    def _udp(self, start: int, stop: int) -> None:
        if start + 8 > stop:
            raise Unreadable
        begin, left = start + 8, self._word(start + 4, stop) - 8
        self._add("udp", start, begin)
        end = min(stop, begin + left) if left >= 0 else max(begin, stop + left)
        self._application(UDP, start, begin, end, stop)

    def _application(self, protocol: int, ports: int, start: int, stop: int, padded: int) -> None:
        source, destination = struct.unpack_from(">HH", self.data, ports)
        read = application_of(protocol, source, destination)

        def dissect(begin: int, end: int) -> None:
            for name, size in read(self.data[begin:end]):
                if name == PADDING:
                    self.padding.append((begin, begin + size))
                else:
                    self._add(name, begin, begin + size)
                begin += size
            if begin < end:
                self._add(RAW, begin, end)

        self._payload(dissect if read else None, start, stop, padded)
