"""Identifiers that the splits share: which test sessions have a host, a name or a capture that
training has as well.

Where they do, a model may know the host instead of the behaviour, and no score on that split can
tell which. Only a split that keeps hosts, captures or times together can.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping

import numpy as np

from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.field_ranking import Audited
from xai_traffic.evaluation.field_values import FieldValues

_FIELDS = {
    "initiator's MAC address": (("eth.src", 0),),
    "responder's MAC address": (("eth.src", 1), ("eth.dst", 0)),
    "TLS server name": (("tls.handshake.extensions_server_name", 0),),
    "HTTP host": (("http.host", 0),),
    "DNS name asked for": (("dns.qry.name", 0),),
}
"""Identifiers in the packets: field and side, the first that a session has."""

_MASKED = {
    "initiator's MAC address": "addresses",
    "responder's MAC address": "addresses",
    **dict.fromkeys(("TLS server name", "HTTP host", "DNS name asked for"), "payload"),
}


def shared_identifiers(
    dataset: Dataset, rows: np.ndarray, audited: Audited, fields: FieldValues
) -> list[dict]:
    """Say for each identifier which part of the test sessions shares its value with training.

    Addresses, ports and captures are the dataset's own record of them, whatever a mask hides.

    Args:
        rows: int [N], rows of the dataset's table, in the order of `audited`.

    Returns:
        dicts with `identifier`; `sessions`, test sessions that have it; `shared`, part of them
        whose value a training session has; `same_label`, part of them whose value has their own
        label most often in training; `values`, different ones in training; and `per_class`, the
        part shared by class of the test sessions.
    """
    found = []
    for name, values in _identifiers(dataset, rows, fields).items():
        row = _shared(values, audited)
        if row is not None:
            found.append({"identifier": name, **row})
    return found


def _identifiers(
    dataset: Dataset, rows: np.ndarray, fields: FieldValues
) -> dict[str, Mapping[int, object]]:
    table = dataset.table.take(rows)
    names = ("capture", "source", "destination", "source_port", "destination_port", "protocol")
    columns = {name: table[name].to_pylist() for name in names}
    pairs = [
        tuple(sorted(pair, key=str))
        for pair in zip(columns["source"], columns["destination"], strict=True)
    ]
    whole = list(zip(*(columns[name] for name in names[1:]), strict=True))
    lists = {
        "capture": columns["capture"],
        "initiator's address": columns["source"],
        "responder's address": columns["destination"],
        "both addresses": pairs,
        "5-tuple": whole,
    }
    result: dict[str, Mapping[int, object]] = {
        name: {at: value for at, value in enumerate(values) if value is not None}
        for name, values in lists.items()
    }
    masks = dataset.rules.mask.split("+")
    for name, places in _FIELDS.items():
        if _MASKED[name] in masks or "header" in masks and _MASKED[name] == "addresses":
            continue
        own: dict[int, object] = {}
        for place in reversed(places):
            own |= fields.values.get(place, {})
        result[name] = own
    return result


def _shared(values: Mapping[int, object], audited: Audited) -> dict | None:
    labels = audited.labels
    known: dict[object, Counter[int]] = defaultdict(Counter)
    for session in audited.train.tolist():
        if session in values:
            known[values[session]][int(labels[session])] += 1
    have = [session for session in audited.test.tolist() if session in values]
    if not have:
        return None
    shared = np.array([values[session] in known for session in have])
    same = np.array(
        [
            values[session] in known
            and known[values[session]].most_common(1)[0][0] == labels[session]
            for session in have
        ]
    )
    own = labels[have]
    return {
        "sessions": len(have),
        "shared": float(shared.mean()),
        "same_label": float(same.mean()),
        "values": len(known),
        "per_class": {
            audited.classes[label]: float(shared[own == label].mean())
            for label in np.unique(own).tolist()
        },
    }
