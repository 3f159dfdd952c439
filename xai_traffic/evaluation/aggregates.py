"""What the verdicts on a split rest on, class by class: fields, packets, and sessions to look at.

Means are over sessions, each of which counts the same; sessions to whose bytes a method attributes
nothing at all have no shares and are left out, and counted.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from scipy import sparse

from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.answers import UNKNOWN
from xai_traffic.evaluation.bootstrap import interval, intervals, widened
from xai_traffic.evaluation.representatives import Representatives, representatives
from xai_traffic.evaluation.split_shares import MethodShares, SplitShares, explain_split
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.run import Run

TOP_FIELDS = 3
"""Fields named beside a typical or atypical session."""

_NAMED = ("capture", "session", "protocol", "source", "source_port", "destination",
          "destination_port", "packets", "bytes", "tunnel", "outer_source",
          "outer_destination")  # fmt: skip


def aggregate(
    run: Run,
    dataset: Dataset,
    split: str = "test",
    *,
    methods: tuple[str, ...],
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Explain the verdicts on a split and sum the explanations up; as JSON values.

    Args:
        run, dataset, split, methods, limit, seed: as for `explain_split`.

    Returns:
        run, step, model, dataset, split, mask: what was explained.
        sessions, of: how many, and how many the split has. leaky: why it is LEAKY, if it is.
        unit: what intervals draw together. seed: of draws and intervals.
        right: the part of the verdicts that are, of sessions with a label that are not called
            unknown: mean, low, high (95 %), sessions.
        methods: their names, the leading one first. never_judged: classes without a verdict.
        classes: by the verdict, those of most sessions first, see `class_aggregates`.

    Raises:
        RunError: as `explain_split`.
    """
    shares = explain_split(run, dataset, split, methods, limit=limit, seed=seed)
    classes = class_aggregates(shares, run.classes, dataset, seed)
    return {
        "run": str(run.path),
        "step": run.step,
        "model": run.model.name,
        "dataset": str(dataset.path),
        "split": split,
        "mask": run.rules.mask,
        "sessions": len(shares.rows),
        "of": len(dataset.rows(split)),
        "unit": unit_name(dataset),
        "leaky": leaks_of(run, split, dataset),
        "seed": seed,
        "right": _right(shares, run.classes, units_of(dataset, shares.rows), seed),
        "methods": list(shares.methods),
        "never_judged": [name for name in run.classes if name not in classes],
        "classes": classes,
    }


def _right(
    shares: SplitShares, classes: list[str], units: np.ndarray, seed: int
) -> dict[str, float | int | None]:
    known = np.array([truth is not None for truth in shares.truths]) & ~shares.unknown
    right = np.array(shares.truths, object) == np.array(classes, object)[shares.verdicts]
    found = interval(right[known].astype(float), units[known], seed=seed)
    return widened(found, len(np.unique(units[known]))) if known.any() else found


def class_aggregates(
    shares: SplitShares, classes: list[str], dataset: Dataset, seed: int = 0
) -> dict[str, dict[str, Any]]:
    """Return the aggregates of each class that a verdict names, by its name.

    sessions: verdicts; unknown: of them, called so and nearest to this class; right, wrong: of
    the others, as far as there are labels; probability: their mean.
    methods: by name,
        sessions: that have shares, right and wrong of them; left_out: those to which nothing is
            attributed.
        padding: mean part of |attribution| outside the captured bytes.
        fields: ranked by share. Each: `field`; `share`, `low`, `high`: mean share in the sessions
            with its 95 % interval (bootstrap over units, see `split_units`); `net`, `net_low`,
            `net_high`: the same of net shares, above zero for the verdict, None where the method
            gives no signs; `frequency`: the part of sessions that have the field; `size`: its mean
            part of the bytes; `right`, `wrong`: `share`, `low`, `high` in sessions judged so, None
            unless there are some of both.
        packets: by position, as far as sessions reach. Each: `packet`; `share`, `low`, `high`,
            `net`, `net_low`, `net_high`; `initiator`, `responder`: the parts of the share in
            packets of that direction; `frequency`: the part of sessions that have it.
        typical, atypical: sessions, see `representatives`. Each: what names it, `label`, `truth`,
            `probability`, its first `fields` (`field`, `share`); typical ones `stands_for` and
            `spread`, atypical ones `distance`.
    """
    found = {}
    units = units_of(dataset, shares.rows)
    tally = np.bincount(shares.verdicts, minlength=len(classes))
    for number in np.argsort(-tally, kind="stable"):
        if not tally[number]:
            continue
        name = classes[number]
        places = np.flatnonzero(shares.verdicts == number)
        truths = np.array([shares.truths[place] for place in places], object)
        unknown = shares.unknown[places]
        known = np.array([truth is not None for truth in truths]) & ~unknown
        right = known & (truths == name)
        groups = {"right": right, "wrong": known & ~right}
        found[name] = {
            "sessions": len(places),
            "unknown": int(unknown.sum()),
            **{group: int(held.sum()) for group, held in groups.items()},
            "probability": float(shares.probabilities[places].mean(dtype=np.float64)),
            "methods": {
                method: _of_method(shares, own, places, groups, units, name, dataset, seed)
                for method, own in shares.methods.items()
            },
        }
    return found


def _of_method(
    shares: SplitShares,
    own: MethodShares,
    places: np.ndarray,
    groups: dict[str, np.ndarray],
    units: np.ndarray,
    label: str,
    dataset: Dataset,
    seed: int,
) -> dict[str, Any]:
    held = own.explained[places]
    result: dict[str, Any] = {
        "sessions": int(held.sum()),
        "right": 0,
        "wrong": 0,
        "left_out": int((~held).sum()),
        "padding": float(own.padding[places].mean()),
        **{key: [] for key in ("fields", "packets", "typical", "atypical")},
    }
    if not held.any():
        return result
    places, groups = places[held], {name: part[held] for name, part in groups.items()}
    result |= {name: int(part.sum()) for name, part in groups.items()}
    chosen = representatives(own.fields[places], seed=seed)
    result["fields"] = field_means(shares, own, places, groups, units[places], seed)
    result["packets"] = packet_means(shares, own, places, units[places], seed)
    result["typical"], result["atypical"] = _sessions(shares, own, places, chosen, label, dataset)
    return result


def field_means(
    shares: SplitShares,
    own: MethodShares,
    places: np.ndarray,
    groups: dict[str, np.ndarray],
    units: np.ndarray,
    seed: int = 0,
) -> list[dict[str, Any]]:
    """Return the `fields` of `class_aggregates`.

    Args:
        places: of sessions, int [n], all with shares.
        groups: bool [n] by name, of which intervals are told too where none is empty.
        units: of the sessions, int [n], what is drawn together.
    """
    sizes = shares.sizes[places]
    present = sparse.csr_array(sizes > 0)
    frequency = np.asarray(present.sum(axis=0)).ravel() / len(places)
    columns = np.flatnonzero(frequency)
    values = own.fields[places][:, columns]
    means = _three("", values, units, seed)
    signed = None if own.field_nets is None else own.field_nets[places][:, columns]
    nets = _three("net", signed, units, seed)
    size = np.asarray(sizes[:, columns].sum(axis=0)).ravel() / len(places)
    parts = {name: None for name in groups}
    if all(part.any() for part in groups.values()):
        parts = {name: _three("", values[part], units[part], seed) for name, part in groups.items()}
    listed = [
        {
            "field": shares.names[column],
            **_at(means, place),
            **_at(nets, place),
            "frequency": float(frequency[column]),
            "size": float(size[place]),
            **{name: None if part is None else _at(part, place) for name, part in parts.items()},
        }
        for place, column in enumerate(columns)
    ]
    return sorted(listed, key=lambda each: (-each["share"], each["field"]))


def packet_means(
    shares: SplitShares, own: MethodShares, places: np.ndarray, units: np.ndarray, seed: int = 0
) -> list[dict[str, Any]]:
    """Return the `packets` of `class_aggregates`; arguments as for `field_means`."""
    ways = shares.directions[places]
    reach = int((ways >= 0).any(axis=0).sum())
    ways, values = ways[:, :reach], own.packets[places, :reach].astype(np.float64)
    means = _three("", values, units, seed)
    signed = None if own.packet_nets is None else own.packet_nets[places, :reach]
    nets = _three("net", signed, units, seed)
    initiator, responder = (np.where(ways == way, values, 0).mean(axis=0) for way in (0, 1))
    return [
        {
            "packet": packet,
            **_at(means, packet),
            **_at(nets, packet),
            "initiator": float(initiator[packet]),
            "responder": float(responder[packet]),
            "frequency": float((ways[:, packet] >= 0).mean()),
        }
        for packet in range(reach)
    ]


def _three(prefix: str, values: Any, units: np.ndarray, seed: int) -> dict[str, Any]:
    """Return mean, low and high of all columns, under the names that they go by.

    Of too few units the ends are all that a share can be.
    """
    names = (prefix, f"{prefix}_low", f"{prefix}_high") if prefix else ("share", "low", "high")
    if values is None:
        return dict.fromkeys(names)
    mean, low, high = intervals(values, units, seed=seed)
    low = np.where(np.isnan(low), -1.0 if prefix else 0.0, low)
    return dict(zip(names, (mean, low, np.where(np.isnan(high), 1.0, high)), strict=True))


def _at(arrays: dict[str, np.ndarray | None], place: int) -> dict[str, float | None]:
    return {name: None if one is None else float(one[place]) for name, one in arrays.items()}


def _sessions(
    shares: SplitShares,
    own: MethodShares,
    places: np.ndarray,
    chosen: Representatives,
    label: str,
    dataset: Dataset,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    def name(row: int, extra: dict[str, float]) -> dict[str, Any]:
        place = places[row]
        unknown = shares.unknown[place]
        (session,) = dataset.table.select(_NAMED).slice(int(shares.rows[place]), 1).to_pylist()
        line = own.fields[[place]].toarray()[0]
        top = [column for column in np.argsort(-line, kind="stable")[:TOP_FIELDS] if line[column]]
        return {
            **session,
            **({"label": UNKNOWN, "nearest_label": label} if unknown else {"label": label}),
            "truth": shares.truths[place],
            "probability": float(shares.probabilities[place]),
            **extra,
            "fields": [
                {"field": shares.names[column], "share": float(line[column])} for column in top
            ],
        }

    typical = [
        name(row, {"stands_for": float(part), "spread": float(spread)})
        for row, part, spread in zip(chosen.typical, chosen.stand_for, chosen.spread, strict=True)
    ]
    atypical = [
        name(row, {"distance": float(distance)})
        for row, distance in zip(chosen.atypical, chosen.distances, strict=True)
    ]
    return typical, atypical
