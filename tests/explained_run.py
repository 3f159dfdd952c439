"""An untrained run and a capture full of hostile text, for tests of reports."""

import pathlib
import struct

import jax
import numpy as np
from capture_bytes import ethernet, ipv4, pcap, tcp, udp

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.models import build
from xai_traffic.training.run import Run

CLASSES = ["Chat", "<script>alert(1)</script>", "Zeus \x1b[31m"]
HOST = "<script>alert(2)</script>\x1b[2J"


def make_run(path: pathlib.Path, classes: list[str] = CLASSES, **rules) -> Run:
    """Return a run of a tiny ViT with random parameters."""
    model = build("vit", len(classes), variant="debug")
    # A fresh head is zero: every weight gets noise, so that verdicts differ and have reasons.
    rng = np.random.default_rng(0)
    variables = jax.tree.map(
        lambda leaf: np.asarray(leaf) + rng.normal(scale=0.03, size=leaf.shape).astype(np.float32),
        model.init(jax.random.key(1)),
    )
    return Run(
        path=path,
        config=None,
        task="multiclass",
        rules=ReadingRules(**rules),
        classes=classes,
        dataset={"path": "nowhere", "manifest_sha256": ""},
        model=model,
        variables=variables,
        step=7,
    )


def client_hello(host: str) -> bytes:
    name = host.encode("latin-1")
    entry = struct.pack(">BH", 0, len(name)) + name
    listed = struct.pack(">H", len(entry)) + entry
    extensions = struct.pack(">HH", 0, len(listed)) + listed
    body = b"\x03\x03" + bytes(range(32)) + b"\0" + struct.pack(">H", 2) + b"\x13\x01" + b"\1\0"
    body += struct.pack(">H", len(extensions)) + extensions
    hello = b"\1" + struct.pack(">I", len(body))[1:] + body
    return b"\x16\x03\x01" + struct.pack(">H", len(hello)) + hello


def write_capture(path: pathlib.Path, sessions: int = 5) -> pathlib.Path:
    """Write TLS sessions with a hostile server name, HTTP with a hostile host, and a DNS query."""
    rng = np.random.default_rng(0)
    records = []
    for number in range(sessions):
        source, port = f"192.168.7.{number + 1}", 40000 + number
        up = {"source": source, "destination": "10.9.8.7"}
        down = {"source": "10.9.8.7", "destination": source}
        if number % 3 == 2:
            query = b"\1\2\1\0\0\1\0\0\0\0\0\0\7example\3org\0\0\1\0\1"
            records.append(ethernet(ipv4(udp(port, 53, data=query), protocol=17, **up)))
            continue
        said = client_hello(HOST)
        if number % 3 == 1:
            said = f"GET /{HOST} HTTP/1.1\r\nHost: {HOST}\r\n\r\n".encode("latin-1")
        noise = rng.bytes(300)
        records += [
            ethernet(ipv4(tcp(port, 443, flags=2), **up)),
            ethernet(ipv4(tcp(443, port, flags=0x12), **down)),
            ethernet(ipv4(tcp(port, 443, flags=0x18, data=said), **up)),
            ethernet(ipv4(tcp(443, port, flags=0x18, data=noise), **down)),
        ]
    path.write_bytes(pcap(records))
    return path
