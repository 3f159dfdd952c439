"""Internet checksums over whole datagrams, by dpkt and by definition."""

import struct

import dpkt


def word_sum(data: bytes) -> int:
    data += bytes(len(data) % 2)
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


def summed(datagram: bytes) -> bytes:
    """Return an IP datagram with dpkt's checksums."""
    ip = (dpkt.ip.IP if datagram[0] >> 4 == 4 else dpkt.ip6.IP6)(datagram)
    if isinstance(ip, dpkt.ip.IP):
        ip.sum = 0
    if not isinstance(ip.data, bytes):
        ip.data.sum = 0
        if isinstance(ip.data, dpkt.icmp6.ICMP6):
            ip.data.sum = 0
    return bytes(ip)
