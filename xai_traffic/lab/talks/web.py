"""Pages over HTTP/1.1."""

from __future__ import annotations

import random

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import AGENTS, hexadecimal, host_name, think, words

COOKIE = 24
"""Bytes of the slots "cookie" and "edge"."""


def web(talk: Connection, chance: random.Random) -> None:
    """Fetch a few pages over one connection (RFC 9112)."""
    host = host_name(chance)
    agent = chance.choice(AGENTS)
    cookie = Slot("cookie", hexadecimal(chance, COOKIE), "http.cookie")
    talk.open()
    for _ in range(chance.randint(1, 4)):
        path = words(chance, chance.randint(1, 2), "/")
        talk.send(
            CLIENT,
            f"GET /{path} HTTP/1.1\r\nHost: {host}\r\nCookie: id=".encode(),
            cookie,
            f"\r\nUser-Agent: {agent}\r\nAccept: */*\r\nConnection: keep-alive\r\n\r\n".encode(),
        )
        talk.wait(chance.uniform(0.002, 0.15))
        edge = words(chance, 6, "-").upper()[:COOKIE].encode()
        kind, body = _page(chance)
        status = chance.choice(("200 OK", "200 OK", "200 OK", "404 Not Found"))
        head = f"\r\nServer: nginx\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n"
        talk.send(
            SERVER,
            f"HTTP/1.1 {status}\r\nX-Node: ".encode(),
            Slot("edge", edge, "http.response.line"),
            head.encode() + body,
        )
        think(talk, chance)
    talk.close()


def _page(chance: random.Random) -> tuple[str, bytes]:
    """Return the type and bytes of a page or of something packed."""
    size = int(200 * 40 ** chance.random())
    if chance.random() < 0.3:
        return "application/octet-stream", chance.randbytes(size)
    page = f"<html><title>{words(chance, 2)}</title><p>{words(chance, size // 7)}</p></html>"
    return "text/html", page.encode()
