"""Messages over SMTP."""

from __future__ import annotations

import base64
import random

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import DOMAINS, WORDS, hexadecimal, think, words

ATTACHMENT = 40
"""Bytes of the slot "attachment"."""


def mail(talk: Connection, chance: random.Random) -> None:
    """Deliver one message with an attachment (RFC 5321)."""
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
            think(talk, chance)
    body = base64.encodebytes(chance.randbytes(int(150 * 20 ** chance.random())))
    body = body.replace(b"\n", b"\r\n")
    filler = base64.b64encode(chance.randbytes(ATTACHMENT))[:ATTACHMENT]
    subject = words(chance, chance.randint(1, 4))
    talk.send(
        CLIENT,
        f"From: {sender}@{away}\r\nSubject: {subject}\r\n\r\n".encode(),
        Slot("attachment", filler),
        b"\r\n" + body + b"\r\n.\r\n",
    )
    talk.wait(chance.uniform(0.01, 0.4))
    talk.send(SERVER, b"250 2.0.0 Ok: queued as " + hexadecimal(chance, 10).upper() + b"\r\n")
    talk.send(CLIENT, b"QUIT\r\n")
    talk.send(SERVER, b"221 2.0.0 Bye\r\n")
    talk.close()
