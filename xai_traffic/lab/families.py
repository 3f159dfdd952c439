"""Six families of sessions: three of benign traffic, and for each a malicious twin.

A twin comes from the same function as the family it resembles, with the same hosts, ports, sizes,
delays and choices; only its plants differ, and where one family has a plant its twin has filler of
the same length. So nothing but the planted bytes tells the two apart, and an explanation that
points elsewhere is wrong.

    benign  web    HTTP: requests over one connection, pages and images back
    malware beacon the same, with the implant's identifier in the cookie
    benign  mail   SMTP: one message with an attachment
    malware exploit the same, with a sled and code in the attachment
    benign  dns    a few look-ups over one socket
    malware tunnel the same, with data encoded in the first label
"""

from __future__ import annotations

import base64
import dataclasses
import random
import struct
from collections.abc import Callable, Mapping

from xai_traffic.lab.packets import (
    CLIENT,
    SERVER,
    Connection,
    Conversation,
    Datagrams,
    Host,
    Packet,
    Plant,
)

Plants = Mapping[str, Plant]

_SLOT = 24  # bytes of a plant in a cookie or header
_SLED = 40  # bytes of a plant in an attachment
_GATEWAY = bytes.fromhex("02005e100001")

WORDS = tuple(
    word
    for line in (
        "river stone paper window garden silver meadow harbor winter copper lantern orchard",
        "bridge valley summit forest ribbon marble candle thunder velvet compass anchor",
        "willow prairie ember canyon cedar falcon linen amber basil clover drift fable glade",
    )
    for word in line.split()
)
AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/126.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 14_5) AppleWebKit/605.1.15 Safari/605",
    "curl/8.9.1",
)
DOMAINS = ("example.com", "example.net", "example.org")
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

BEACON = Plant("beacon identifier", "http.cookie", b"7Kf0xE1gVbT2qLw9ZsYpQm4R")
EDGE = Plant("cache signature", "http.response.line", b"HIT-EDGE-CACHE-NODE-0042")
SLED = Plant(
    "exploit code",
    "payload",
    b"\x90" * 20 + bytes.fromhex("eb1f5e8976080031c0884607 89460cb00b89f38d"),
)
TUNNEL = Plant("tunnel marker", "dns.qry.name", b"0x7a7a9f9f3e3e1d1d")


@dataclasses.dataclass(frozen=True)
class Family:
    """How the sessions of one label are made.

    Args:
        name: label, and stem of the capture's name.
        group: "Benign" or "Malware", the capture's folder.
        talk: fills a conversation, by chance, with the plants given.
        transport: what the conversation runs over.
        ports: server ports to choose from.
        plants: the family's plants by the slot they go to.
    """

    name: str
    group: str
    talk: Callable[[Conversation, random.Random, Plants], None]
    transport: type[Conversation]
    ports: tuple[int, ...]
    plants: Plants

    def session(
        self, chance: random.Random, client: Host, port: int, start_ns: int
    ) -> list[Packet]:
        """Return the packets of one session, in order of time."""
        server, server_port = chance.choice(SERVERS), chance.choice(self.ports)
        talk = self.transport(chance, client, server, (port, server_port), start_ns)
        self.talk(talk, chance, self.plants)
        return talk.packets


def _words(chance: random.Random, count: int, joint: str = " ") -> str:
    return joint.join(chance.choice(WORDS) for _ in range(count))


def _hexadecimal(chance: random.Random, size: int) -> bytes:
    return "".join(chance.choice("0123456789abcdef") for _ in range(size)).encode()


def _in_slot(plants: Plants, slot: str, filler: bytes) -> bytes:
    return plants[slot].data if slot in plants else filler


def _think(talk: Conversation, chance: random.Random) -> None:
    """Wait as people and programs do: mostly a moment, now and then a minute."""
    talk.wait(0.2 * 300 ** chance.random())


def web(talk: Connection, chance: random.Random, plants: Plants) -> None:
    """Fetch a few pages over one HTTP/1.1 connection (RFC 9112)."""
    host = f"{chance.choice(WORDS)}.{chance.choice(DOMAINS)}"
    agent = chance.choice(AGENTS)
    filler = _hexadecimal(chance, _SLOT)
    talk.open()
    for _ in range(chance.randint(1, 4)):
        cookie = _in_slot(plants, "cookie", filler)
        head = (
            f"GET /{_words(chance, chance.randint(1, 2), '/')} HTTP/1.1\r\n"
            f"Host: {host}\r\nCookie: id={cookie.decode()}\r\n"
            f"User-Agent: {agent}\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n"
        )
        talk.send(CLIENT, head.encode(), tuple(plants.values()))
        talk.wait(chance.uniform(0.002, 0.15))
        edge = _in_slot(plants, "edge", _words(chance, 6, "-").upper()[:_SLOT].encode())
        kind, body = _page(chance)
        status = chance.choice(("200 OK", "200 OK", "200 OK", "404 Not Found"))
        answer = (
            f"HTTP/1.1 {status}\r\nX-Node: {edge.decode()}\r\nServer: nginx\r\n"
            f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        talk.send(SERVER, answer.encode() + body, tuple(plants.values()))
        _think(talk, chance)
    talk.close()


def _page(chance: random.Random) -> tuple[str, bytes]:
    """Return the type and bytes of a page or of something packed."""
    size = int(200 * 40 ** chance.random())
    if chance.random() < 0.3:
        return "application/octet-stream", chance.randbytes(size)
    text = f"<html><title>{_words(chance, 2)}</title><p>{_words(chance, size // 7)}</p></html>"
    return "text/html", text.encode()


def mail(talk: Connection, chance: random.Random, plants: Plants) -> None:
    """Deliver one message with an attachment by SMTP (RFC 5321)."""
    site, away = chance.choice(DOMAINS), chance.choice(DOMAINS)
    sender, receiver = chance.choice(WORDS), chance.choice(WORDS)
    talk.open()
    talk.send(SERVER, f"220 mail.{site} ESMTP ready\r\n".encode())
    for command, reply in (
        (f"EHLO {chance.choice(WORDS)}.{away}", f"250 mail.{site}"),
        (f"MAIL FROM:<{sender}@{away}>", "250 2.1.0 Ok"),
        (f"RCPT TO:<{receiver}@{site}>", "250 2.1.5 Ok"),
        ("DATA", "354 End data with <CR><LF>.<CR><LF>"),
    ):
        talk.send(CLIENT, f"{command}\r\n".encode())
        talk.wait(chance.uniform(0.001, 0.05))
        talk.send(SERVER, f"{reply}\r\n".encode())
        if chance.random() < 0.1:
            _think(talk, chance)
    text = base64.encodebytes(chance.randbytes(int(150 * 20 ** chance.random())))
    text = text.replace(b"\n", b"\r\n")
    filler = base64.b64encode(chance.randbytes(_SLED))[:_SLED]
    head = f"From: {sender}@{away}\r\nSubject: {_words(chance, chance.randint(1, 4))}\r\n\r\n"
    code = _in_slot(plants, "attachment", filler)
    message = head.encode() + code + b"\r\n" + text
    talk.send(CLIENT, message + b"\r\n.\r\n", tuple(plants.values()))
    talk.wait(chance.uniform(0.01, 0.4))
    talk.send(SERVER, b"250 2.0.0 Ok: queued as " + _hexadecimal(chance, 10).upper() + b"\r\n")
    talk.send(CLIENT, b"QUIT\r\n")
    talk.send(SERVER, b"221 2.0.0 Bye\r\n")
    talk.close()


def dns(talk: Datagrams, chance: random.Random, plants: Plants) -> None:
    """Look up a few names over one socket (RFC 1035)."""
    domain = f"{chance.choice(WORDS)}.{chance.choice(DOMAINS)}"
    size = len(TUNNEL.data)
    for _ in range(chance.randint(2, 6)):
        filler = _words(chance, 4, "-")[:size].encode()
        tail = _hexadecimal(chance, chance.randint(4, 24))
        label = _in_slot(plants, "label", filler) + tail
        name = b"".join(bytes([len(part)]) + part for part in (label, *domain.encode().split(b".")))
        number, kind = chance.randrange(1 << 16), chance.choice((1, 1, 1, 28, 16))
        question = name + b"\0" + struct.pack(">HH", kind, 1)
        query = struct.pack(">HHHHHH", number, 0x0100, 1, 0, 0, 0) + question
        talk.send(CLIENT, query, tuple(plants.values()))
        talk.wait(chance.uniform(0.001, 0.08))
        text = _hexadecimal(chance, chance.randint(8, 40))
        data = {
            1: bytes([198, 51, 100, chance.randrange(1, 255)]),
            28: bytes.fromhex("20010db8") + chance.randbytes(12),
            16: bytes([len(text)]) + text,
        }[kind]
        seconds = chance.choice((60, 300, 3600))
        answer = struct.pack(">HHHIH", 0xC00C, kind, 1, seconds, len(data)) + data
        reply = struct.pack(">HHHHHH", number, 0x8180, 1, 1, 0, 0) + question + answer
        talk.send(SERVER, reply, tuple(plants.values()))
        _think(talk, chance)


FAMILIES = (
    Family("dns", "Benign", dns, Datagrams, (53,), {}),
    Family("mail", "Benign", mail, Connection, (25, 587), {}),
    Family("web", "Benign", web, Connection, (80, 8080), {"edge": EDGE}),
    Family("beacon", "Malware", web, Connection, (80, 8080), {"cookie": BEACON}),
    Family("exploit", "Malware", mail, Connection, (25, 587), {"attachment": SLED}),
    Family("tunnel", "Malware", dns, Datagrams, (53,), {"label": TUNNEL}),
)
