"""Channels of IRC."""

from __future__ import annotations

import random

from xai_traffic.lab.packets import CLIENT, SERVER, Connection, Slot
from xai_traffic.lab.talks.fillers import DOMAINS, WORDS, text, think

COMMAND = 24
"""Bytes of the slots "said" and "heard", with which a message begins."""


def chat(talk: Connection, chance: random.Random) -> None:
    """Join a channel, hear and say something there (RFC 2812)."""
    server = f"irc.{chance.choice(DOMAINS)}"
    nick = f"{chance.choice(WORDS)}{chance.randrange(100)}"
    channel = f"#{chance.choice(WORDS)}"
    friends = [f"{chance.choice(WORDS)}{number}" for number in range(3)]
    talk.open()
    talk.send(CLIENT, f"NICK {nick}\r\nUSER {nick} 0 * :{chance.choice(WORDS)}\r\n".encode())
    talk.wait(chance.uniform(0.01, 0.3))
    users = chance.randrange(20, 900)
    lines = (
        f"001 {nick} :Welcome to the network {nick}!{nick}@host",
        f"002 {nick} :Your host is {server}, running version 3.1",
        f"004 {nick} {server} 3.1 iosw biklmnopstv",
        f"251 {nick} :There are {users} users on 1 server",
        f"422 {nick} :MOTD File is missing",
    )
    talk.send(SERVER, "".join(f":{server} {line}\r\n" for line in lines).encode())
    talk.wait(chance.uniform(0.1, 1))
    talk.send(CLIENT, f"JOIN {channel}\r\n".encode())
    joined = (
        f":{nick}!{nick}@host JOIN {channel}\r\n"
        f":{server} 353 {nick} = {channel} :{nick} @{' '.join(friends)}\r\n"
        f":{server} 366 {nick} {channel} :End of /NAMES list\r\n"
    )
    talk.send(SERVER, joined.encode())
    for turn in range(chance.randint(2, 7)):
        think(talk, chance)
        # the first to speak is the channel's operator, so that a bot gets its orders
        friend = friends[0] if turn == 0 else chance.choice(friends)
        kind = chance.random() if turn > 1 else turn * 0.99
        if kind < 0.5:
            head = f":{friend}!{friend}@host PRIVMSG {channel} :".encode()
            talk.send(SERVER, head, *_message(chance, "heard" if turn == 0 else "answer"))
        elif kind < 0.7:
            token = chance.randrange(10**8)
            talk.send(SERVER, f"PING :{token}\r\n".encode())
            talk.send(CLIENT, f"PONG :{token}\r\n".encode())
        else:
            talk.send(CLIENT, f"PRIVMSG {channel} :".encode(), *_message(chance, "said"))
    talk.send(CLIENT, b"QUIT :bye\r\n")
    talk.send(SERVER, f"ERROR :Closing Link: {nick}[host] (Quit: bye)\r\n".encode())
    talk.close()


def _message(chance: random.Random, slot: str) -> tuple[Slot, bytes]:
    """Return some words, as many bytes of them in a slot as a command has."""
    start = Slot(slot, text(chance, COMMAND))
    return start, b" " + text(chance, int(4 * 30 ** chance.random())) + b"\r\n"
