"""What messages are filled with by chance: words, digits, names, and pauses between messages."""

from __future__ import annotations

import random
import string

from xai_traffic.lab.packets import Conversation

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


def words(chance: random.Random, count: int, joint: str = " ") -> str:
    """Return some words."""
    return joint.join(chance.choice(WORDS) for _ in range(count))


def text(chance: random.Random, size: int) -> bytes:
    """Return `size` letters and spaces of words, none of them at the end."""
    return words(chance, size // 5 + 1)[: size - 1].encode() + b"s"


def hexadecimal(chance: random.Random, size: int) -> bytes:
    """Return `size` hexadecimal digits."""
    return "".join(chance.choice("0123456789abcdef") for _ in range(size)).encode()


def alphanumeric(chance: random.Random, size: int) -> bytes:
    """Return `size` letters and digits."""
    return "".join(chance.choices(string.ascii_letters + string.digits, k=size)).encode()


def host_name(chance: random.Random) -> str:
    """Return the name of a host."""
    return f"{chance.choice(WORDS)}.{chance.choice(DOMAINS)}"


def think(talk: Conversation, chance: random.Random) -> None:
    """Wait as people and programs do: mostly a moment, now and then a minute."""
    talk.wait(0.2 * 300 ** chance.random())
