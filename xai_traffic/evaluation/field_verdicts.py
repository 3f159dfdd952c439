"""What a field that tells the label is: an identifier, an artefact, or a signal.

    identifier   names a host, a session or a packet. A model that reads it knows these captures by
                 heart and says nothing of others.
    artefact     comes of where, when and how the capture was made, or of the hosts' systems and
                 networks: other captures of the same behaviour have other values.
    signal       is what a program does or says: it may hold elsewhere.

The verdict goes by the field's name alone, in the table below, first match first; how much the
field tells is another column. It is a judgement by people who know protocols, not a measurement,
and the reason stands beside it.
"""

from __future__ import annotations

import re
from typing import NamedTuple

IDENTIFIER, ARTEFACT, SIGNAL = "identifier", "artefact", "signal"


class Verdict(NamedTuple):
    """What a field is, and why."""

    verdict: str
    reason: str


_TABLE = (
    (r"eth\.(src|dst)\.oui", IDENTIFIER, "the vendor of a network card: names the capture's hosts"),
    (
        r"(eth|wlan|sll)\.(src|dst|sa|da|ta|ra|bssid)\b.*",
        IDENTIFIER,
        "the address of a network card: names a host, or the router beside it",
    ),
    (r"(ip|ipv6)\.(src|dst)", IDENTIFIER, "an address: names a host"),
    (
        r".*(rec_rt|src_rt|time_stamp_addr|routing\..*addr.*|home_address|orig\.addr)",
        IDENTIFIER,
        "an address: names a host",
    ),
    (
        r"(tcp|udp)\.dstport|(tcp|udp)\.srcport|sctp\.(src|dst)port|teredo\.orig\.port",
        IDENTIFIER,
        "a port: names a service by convention, which anyone may choose otherwise, or a socket",
    ),
    (r"ip\.id|ipv6\.flow|ipv6\.fraghdr\.ident", IDENTIFIER, "numbers packets, a counter of a host"),
    (
        r".*checksum.*|.*\.icv|wlan\.fcs|eth\.fcs",
        IDENTIFIER,
        "a sum over other fields, addresses among them",
    ),
    (
        r"tcp\.(seq|ack)(_raw)?|sctp\.(verification_tag|.*tsn.*)",
        IDENTIFIER,
        "numbers bytes from a start drawn by chance",
    ),
    (
        r"tcp\.options\.timestamp\.(tsval|tsecr)",
        IDENTIFIER,
        "a host's clock: tells how long it has been up, and so which host and when",
    ),
    (
        r"vlan\.id|ieee8021ad\.id|mpls\.label|vxlan\.(vni|gbp)|geneve\.(vni|option.*)|"
        r"gre\.(key.*|sequence_number|ack_number)|gtp\.(teid|seq_number|npdu_number|ext_hdr)|"
        r"(ah|enc)\.(spi|sequence)|erspan.*|pppoe\.session_id|pweth.*sequence.*|wlan\.seq|"
        r"teredo\.auth.*|nflog.*|radiotap.*|prism.*",
        IDENTIFIER,
        "names a network, a tunnel or the tap the capture was made at",
    ),
    (
        r"dns\.id|tls\.handshake\.(random|session_id)|.*key_share_key_exchange|.*psk.*|"
        r"tls\.handshake\.extensions_.*ticket.*",
        IDENTIFIER,
        "a number drawn for one exchange",
    ),
    (
        r"http\.(cookie|set_cookie|authorization|proxy_auth.*|date|last_modified|x_forwarded_for|"
        r"www_authenticate|sec_websocket_(key|accept))",
        IDENTIFIER,
        "names a user, a visit or a time",
    ),
    (
        r"dns\.(a|aaaa)|dns\.svcb\.svcparam\.ipv.*",
        IDENTIFIER,
        "an address: names a host, as it was at that time",
    ),
    (
        r"frame\.time_epoch",
        ARTEFACT,
        "when the capture was made; not in the image, but in a split by chance",
    ),
    (r"frame\.cap_len", ARTEFACT, "how many bytes of a packet the capture kept"),
    (
        r"ip\.ttl.*|ipv6\.hlim|mpls\.ttl",
        ARTEFACT,
        "starts by the sender's system, falls with the hops to the tap",
    ),
    (
        r"tcp\.window_size_value",
        ARTEFACT,
        "buffers of the sender's system",
    ),
    (
        r"tcp\.option_kind|tcp\.options.*|mptcp.*|tcp\.hdr_len",
        ARTEFACT,
        "chosen by the sender's system: a fingerprint of it",
    ),
    (
        r"ip\.(dsfield|flags|version)|ip\.opt.*|ipv6\.(tclass|version|opt.*)",
        ARTEFACT,
        "set by the sender's system, or on the way",
    ),
    (
        r"eth\.(type|len|padding|trailer)|llc.*|sll.*|wlan.*|ppp.*|null.*|raw.*|frame|vlan.*|"
        r"ieee8021ad.*|mpls.*|gre.*|vxlan.*|geneve.*|gtp.*|teredo.*|ipv6\.routing.*",
        ARTEFACT,
        "of the link or tunnel that the capture was made on",
    ),
)
_TABLE = tuple((re.compile(pattern), verdict, why) for pattern, verdict, why in _TABLE)

_SIGNALS = (
    (r"payload|.*\.(app_data|file_data)", "what the programs say"),
    (r"ip\.proto|ipv6\.nxt", "the transport that a program chose"),
    (r".*(len|length|plen|size|bytes).*", "how much is said at a time"),
    (r"frame\.time_delta|session\.duration", "how fast the answer comes, or how long it goes on"),
    (r"session\..*", "how much is said, and by whom"),
    (r"tcp\.flags|tcp\.urgent.*|icmp.*", "the course of a connection"),
    (r"tls\..*", "what a program offers and asks for in a TLS handshake"),
    (r"http.*", "what a program asks for and answers"),
    (r"dns\..*", "what a program asks the name service"),
)
_SIGNALS = tuple((re.compile(pattern), why) for pattern, why in _SIGNALS)


def verdict_of(name: str) -> Verdict:
    """Return what a field is by its name; layers of tunnels (`ip.src#1`) count as the field."""
    base = name.partition("#")[0]
    for pattern, verdict, why in _TABLE:
        if pattern.fullmatch(base):
            return Verdict(verdict, why)
    for pattern, why in _SIGNALS:
        if pattern.fullmatch(base):
            return Verdict(SIGNAL, why)
    return Verdict(SIGNAL, "part of what the programs say")
