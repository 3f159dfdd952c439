"""Uploads of a file over HTTP (WebDAV)."""

from __future__ import annotations

import base64
import random

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import WORDS, alphanumeric, host_name, words

BEGINNING = 32
"""Bytes of the slot "beginning", the first of the file."""

_PROGRAMS = ("curl/8.9.1", "rclone/v1.66.0", "Mozilla/5.0 (Linux) mirall/3.13.0 (Nextcloud)")


def files(talk: Connection, chance: random.Random) -> None:
    """Look for a folder and upload a file into it (RFC 4918, RFC 9110)."""
    user, folder = chance.choice(WORDS), words(chance, chance.randint(1, 2), "/")
    secret = base64.b64encode(f"{user}:".encode() + alphanumeric(chance, 16)).decode()
    head = (
        f"Host: {host_name(chance)}\r\nAuthorization: Basic {secret}\r\n"
        f"User-Agent: {chance.choice(_PROGRAMS)}\r\nAccept: */*\r\n"
    )
    path = f"/remote.php/dav/files/{user}/{folder}/"
    talk.open()
    talk.send(
        CLIENT, f"PROPFIND {path} HTTP/1.1\r\n{head}Depth: 0\r\nContent-Length: 0\r\n\r\n".encode()
    )
    talk.wait(chance.uniform(0.01, 0.2))
    answer = f'<?xml version="1.0"?><d:multistatus xmlns:d="DAV:"><d:response><d:href>{path}'
    answer += "</d:href><d:status>HTTP/1.1 200 OK</d:status></d:response></d:multistatus>"
    talk.send(
        SERVER,
        b"HTTP/1.1 207 Multi-Status\r\nContent-Type: application/xml; charset=utf-8\r\n"
        + f"Content-Length: {len(answer)}\r\n\r\n{answer}".encode(),
    )
    talk.wait(chance.uniform(0.002, 0.5))
    size = int(3000 * 11 ** chance.random())
    name = f"{words(chance, 2, '-')}.{chance.choice(('zip', 'docx', 'xlsx', 'jpg', 'bin'))}"
    put = f"PUT {path}{name} HTTP/1.1\r\n{head}Content-Type: application/octet-stream\r\n"
    put += f"Content-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
    talk.send(CLIENT, put.encode())
    talk.wait(chance.uniform(0.001, 0.02))
    talk.send(SERVER, b"HTTP/1.1 100 Continue\r\n\r\n")
    talk.send(
        CLIENT,
        Slot("beginning", chance.randbytes(BEGINNING)),
        Slot("content", chance.randbytes(size - BEGINNING)),
    )
    talk.wait(chance.uniform(0.01, 0.3))
    talk.send(SERVER, b"HTTP/1.1 201 Created\r\nServer: nginx\r\nContent-Length: 0\r\n\r\n")
    talk.close()
