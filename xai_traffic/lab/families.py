"""Fifteen families of sessions: nine of benign traffic, and for six of them a malicious twin.

A twin comes from the same talk as the family it resembles, with the same hosts, ports, sizes,
delays and choices; only its plants differ, and where one family has a plant its twin has filler of
the same length. So nothing but the planted bytes tells the two apart, and an explanation that
points elsewhere is wrong.

    benign  web       malware beacon        the implant's identifier in the cookie of its requests
    benign  https     malware tls-beacon    the name of the control server (SNI)
    benign  dns       malware tunnel        data encoded in the first label of a name
    benign  mail      malware exploit       a sled and code in the attachment
    benign  chat      malware bot           an order to the bots of the channel
    benign  files     malware exfiltration  an archive of what was stolen
    benign  database, ssh, peers            no twin
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Mapping, Sequence

from xai_traffic.lab.hosts import SERVERS
from xai_traffic.lab.packets import Connection, Conversation, Datagrams, Host, Packet, Plant
from xai_traffic.lab.talks.chat import chat
from xai_traffic.lab.talks.database import database
from xai_traffic.lab.talks.dns import dns
from xai_traffic.lab.talks.files import files
from xai_traffic.lab.talks.https import https
from xai_traffic.lab.talks.mail import mail
from xai_traffic.lab.talks.peers import peers
from xai_traffic.lab.talks.ssh import ssh
from xai_traffic.lab.talks.web import web

BEACON = Plant("beacon identifier", b"7Kf0xE1gVbT2qLw9ZsYpQm4R")
EDGE = Plant("cache signature", b"HIT-EDGE-CACHE-NODE-0042")
SLED = Plant(
    "exploit code", b"\x90" * 20 + bytes.fromhex("eb1f5e8976080031c0884607 89460cb00b89f38d")
)
TUNNEL = Plant("tunnel marker", b"0x7a7a9f9f3e3e1d1d")
CONTROL = Plant("control server", b"cdn7x0-relay")
ORDER = Plant("order to bots", b"!flood 192.0.2.99 80 600")
LOOT = Plant("stolen archive", b"7z\xbc\xaf\x27\x1c\x00\x04" + b"credentials-and-ledger-1")


@dataclasses.dataclass(frozen=True)
class Family:
    """How the sessions of one label are made.

    Args:
        name: label, and stem of the capture's name.
        group: "Benign" or "Malware", the capture's folder.
        talk: fills a conversation by chance.
        transport: what the conversation runs over.
        ports: server ports to choose from.
        plants: the family's plants by the slot they go to.
    """

    name: str
    group: str
    talk: Callable[[Conversation, random.Random], None]
    transport: type[Conversation]
    ports: tuple[int, ...]
    plants: Mapping[str, Plant] = dataclasses.field(default_factory=dict)

    def session(
        self,
        chance: random.Random,
        client: Host,
        port: int,
        start_ns: int,
        opening: Sequence[int] = (),
    ) -> list[Packet]:
        """Return the packets of one session, in order of time; `opening` as of conversations."""
        server, server_port = chance.choice(SERVERS), chance.choice(self.ports)
        talk = self.transport(
            chance,
            client,
            server,
            (port, server_port),
            start_ns,
            plants=self.plants,
            opening=opening,
        )
        self.talk(talk, chance)
        return talk.packets


_WEB, _MAIL, _TORRENT = (80, 8080), (25, 587), tuple(range(6881, 6890))

FAMILIES = (
    Family("chat", "Benign", chat, Connection, (6667,)),
    Family("database", "Benign", database, Connection, (5432,)),
    Family("dns", "Benign", dns, Datagrams, (53,)),
    Family("files", "Benign", files, Connection, _WEB),
    Family("https", "Benign", https, Connection, (443,)),
    Family("mail", "Benign", mail, Connection, _MAIL),
    Family("peers", "Benign", peers, Connection, _TORRENT),
    Family("ssh", "Benign", ssh, Connection, (22,)),
    Family("web", "Benign", web, Connection, _WEB, {"edge": EDGE}),
    Family("beacon", "Malware", web, Connection, _WEB, {"cookie": BEACON}),
    Family("bot", "Malware", chat, Connection, (6667,), {"heard": ORDER}),
    Family("exfiltration", "Malware", files, Connection, _WEB, {"beginning": LOOT}),
    Family("exploit", "Malware", mail, Connection, _MAIL, {"attachment": SLED}),
    Family("tls-beacon", "Malware", https, Connection, (443,), {"sni": CONTROL}),
    Family("tunnel", "Malware", dns, Datagrams, (53,), {"label": TUNNEL}),
)
BY_NAME = {family.name: family for family in FAMILIES}
