"""The cells of the record on the captures of protocols and of malware."""

from __future__ import annotations

import csv
import pathlib

import numpy as np
from record_datasets import HOSTS_HIDDEN, PORTS_HIDDEN, Make, masked, rewrite, write_labels

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.store import Dataset, open_dataset

HERE = pathlib.Path(__file__).parent
MALWARE_LABELS = HERE / "malware_labels.csv"

BY_CAPTURE = "capture:70/10/20"

OF_ONE_CAPTURE = 5
"""Most sessions that a capture gives where captures are to stand for others."""

LEAST_TEST, LEAST_TRAIN = 20, 10
"""Sessions of a class that is asked for in another project's captures."""

ATTACKS = (
    "TLS/suricata__bug-5713-01__TLSv1-Extracted-MaliciousC2.pcap",
    "QUIC/zeek__quic__merlinc2_Zeek_example.pcapng",
    "SMB/zeek__smb__SMBGhost.pcap",
    "TLS/zeek__tls__heartbleed.pcap",
    "TLS/zeek__tls__heartbleed-success.pcap",
    "TLS/zeek__tls__heartbleed-encrypted.pcap",
    "TLS/zeek__tls__heartbleed-encrypted-success.pcap",
    "HTTP/zeek__http__smuggle-http-request.pcap",
)
"""Captures of protocols that are not benign."""

TESTED, MOST = 3, 200
"""One in so many families of malware is for the test, 3 for validation; most sessions of one."""


def protocols(
    work: pathlib.Path, captures: pathlib.Path, seed: int, split: str, most: int = 0
) -> Dataset:
    """Return the 16 protocols, sessions on their ports only, with nothing hidden.

    Args:
        most: of a capture; 0 for all.
    """
    path = work / f"data/protocols-{split.replace('/', '_')}-{most or 'all'}-{seed}"
    if not path.exists():
        labels = work / "protocols.csv"
        write_labels(labels, protocol_rows(captures))
        convert(
            [captures / "protocols"],
            path,
            rules=ReadingRules(most_per_capture=most),
            split=split,
            seed=seed,
            labels=labels,
        )
    return open_dataset(path)


def protocol_rows(captures: pathlib.Path) -> list[tuple[str, str, str, str]]:
    """Return rows of a label table: the sessions of each capture that its manifest speaks of."""
    rows = []
    with open(captures / "protocols/manifest.csv", newline="", encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            ports = [each.split("/") for each in row["ports"].split() if "/" in each]
            told = " or ".join(f"({protocol} and port {port})" for protocol, port in ports)
            rows.append((row["path"], told, row["label"], "Benign"))
    return rows


def malware_rows() -> list[tuple[str, str, str, str]]:
    """Return rows of a label table: the malicious sessions of each capture, family by family."""
    with open(MALWARE_LABELS, newline="", encoding="utf-8") as stream:
        return [tuple(row.values()) for row in csv.DictReader(stream)]


def by_capture(most: int) -> Make:
    """Return what reads the protocols, split by capture, ports hidden.

    One capture has 100 of 133 sessions of LDAP: with all of them it is what training knows of LDAP,
    and the other 31 captures are for the test.

    Args:
        most: sessions of a capture; 0 for all.
    """

    def make(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
        return masked(protocols(work, captures, seed, BY_CAPTURE, most).path, PORTS_HIDDEN)

    return make


def by_source(train_on: str) -> Make:
    """Return what trains on one project's captures and tests on the other's, ports hidden."""

    def make(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
        path = work / f"data/protocols-from-{train_on}-{seed}"
        if not path.exists():
            plain = protocols(work, captures, seed, "capture:85/15/0")
            whole = masked(plain.path, PORTS_HIDDEN)
            split = np.asarray(whole.table["split"].to_pylist(), object)
            names = whole.table["capture"].to_pylist()
            away = np.array([not name.split("/")[-1].startswith(train_on) for name in names])
            split[away] = "test"
            test = np.bincount(whole.labels[away], minlength=len(whole.classes))
            train = np.bincount(whole.labels[split == "train"], minlength=len(whole.classes))
            asked = (test >= LEAST_TEST) & (train >= LEAST_TRAIN)
            rewrite(whole, path, np.flatnonzero(asked[whole.labels]), split)
        return open_dataset(path)

    return make


def families_left_out(captures: pathlib.Path, work: pathlib.Path, seed: int) -> Dataset:
    """Return malicious and benign sessions; each split has families that the others have not.

    Benign sessions are split by capture. Of a family at most MOST sessions are taken: one capture
    repeats one attempt 1,562 times.
    """
    path = work / f"data/malicious-{seed}"
    if not path.exists():
        labels = work / "malicious.csv"
        benign = [row for row in protocol_rows(captures) if row[0] not in ATTACKS]
        write_labels(labels, [*malware_rows(), *benign])
        whole = work / f"data/malicious-whole-{seed}"
        if not whole.exists():
            convert(
                [captures / "malware", captures / "protocols"],
                whole,
                rules=ReadingRules(),
                split=BY_CAPTURE,
                seed=seed,
                labels=labels,
            )
        data = masked(whole, HOSTS_HIDDEN)
        split = np.asarray(data.table["split"].to_pylist(), object)
        malicious = data.task_labels("binary") == 1
        families = np.unique(data.labels[malicious])
        rng = np.random.Generator(np.random.Philox(seed))
        drawn = rng.permutation(families)
        parts = np.split(drawn, [len(families) // TESTED, len(families) // TESTED + 3])
        used = ~malicious & (split != "unused")
        for name, part in zip(("test", "validation", "train"), parts, strict=True):
            for family in part:
                own = np.flatnonzero(data.labels == family)
                used[rng.permutation(own)[:MOST]] = True
                split[own] = name
        rewrite(data, path, np.flatnonzero(used), split)
    return open_dataset(path)


def labelled_payload(captures: pathlib.Path, work: pathlib.Path) -> Dataset:
    """Return the protocols and the malicious sessions by their payloads."""
    path = work / "data/labelled-payload"
    if not path.exists():
        labels = work / "labelled.csv"
        write_labels(labels, [*malware_rows(), *protocol_rows(captures)])
        inputs = [captures / "malware", captures / "protocols"]
        convert(inputs, path, rules=ReadingRules(layers="payload"), labels=labels)
    return open_dataset(path)
