"""What a run rests on: attribution by field, next to what it loses when that field is exchanged.

Attribution says what an explainer thinks of the model; the drop says what the model does. A field
with a large share and no drop is blamed wrongly, or another field says the same; one with a drop
and no share is overlooked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from xai_traffic.capture.fields import Field, dissect
from xai_traffic.capture.images import spread
from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.bootstrap import interval, widened
from xai_traffic.evaluation.explanations import AT_ONCE, drawn_rows, explain_images
from xai_traffic.evaluation.field_exchange import exchange_fields
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.explain.aggregate import byte_shares, session_fields
from xai_traffic.explain.traffic import Traffic, traffic_of
from xai_traffic.terminal import progress
from xai_traffic.training.run import Run
from xai_traffic.training.state import params_sha256

METHOD = "gradient_x_input"
"""The default explainer: one backward pass, and it tells bytes apart. Ask for Integrated Gradients
where there is time for them."""

LIMIT = 256
"""Sessions of the test split, drawn at random."""

SINGLE = 12
"""Fields exchanged one by one: so many of the largest shares, and so many of the first ranks."""


class _Verdicts(NamedTuple):
    """What the sessions are, which are judged rightly, and their units: each [n]."""

    labels: np.ndarray
    right: np.ndarray
    units: np.ndarray


def field_reliance(
    run: Run,
    dataset: Dataset,
    ranked: Sequence[dict],
    *,
    split: str = "test",
    method: str = METHOD,
    limit: int = LIMIT,
    seed: int = 0,
) -> dict[str, Any]:
    """Explain verdicts on a split, and judge its sessions again with fields exchanged.

    Args:
        ranked: of `rank_fields`.
        method: of `explain.METHODS`.
        limit: sessions.
        seed: of the draw and of the exchanges.

    Returns:
        `run`, `model`, `step`, `params_sha256`, `method`, `split`, `sessions`, `accuracy` and its
        `interval` (`mean`, `low`, `high`: 95 %); `fields`: dicts with `field`,
        `share` (mean over sessions of its share of |attribution|), `sessions` that have it, and
        `drop`: accuracy lost when it is exchanged, with `low` and `high` (95 % by bootstrap over
        `unit`), None where it was not; and `groups`: the same of all fields of a mask at once.

    Raises:
        RunError: as `drawn_rows`, or the method is unknown or cannot explain the model.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    rows = np.sort(drawn_rows(run, dataset, split, limit, rng))
    place = np.array([run.classes.index(name) for name in dataset.task_classes(run.task)])
    labels = place[dataset.task_labels(run.task)[rows]]
    traffic = traffic_of(dataset, rows)
    pairs = zip(traffic.tiles, traffic.packets, strict=True)
    fields = [dissect(tile, row) for tile, row in pairs]
    verdicts = run.logits(traffic.images()).argmax(-1).astype(np.int32)
    right = verdicts == labels
    judged = _Verdicts(labels, right, units_of(dataset, rows))
    units = len(np.unique(judged.units))
    shares = _mean_shares(run, traffic, fields, verdicts, method)

    have = _sessions_with(traffic, fields)
    wanted = list(shares)[:SINGLE]
    known = [row["field"] for row in ranked if row["in_image"] and row["field"] in have]
    wanted += [name for name in known[:SINGLE] if name not in wanted]
    drops: dict[str, dict] = {}
    for number, name in enumerate(progress(wanted, "exchange fields")):
        drops[name] = _drop(run, traffic, fields, {name}, judged, seed, number)
    groups = []
    members: dict[str, set[str]] = {}
    for row in ranked:
        if row["mask"] and row["field"] in have:
            members.setdefault(row["mask"], set()).add(row["field"])
    for number, (mask, own) in enumerate(sorted(members.items())):
        drop = _drop(run, traffic, fields, own, judged, seed, len(wanted) + number)
        share = sum(shares.get(name, 0.0) for name in own)
        groups.append({"group": mask, "fields": sorted(own), "share": share, "drop": drop})
    return {
        "run": str(run.path),
        "model": run.model.name,
        "step": run.step,
        "params_sha256": params_sha256(run.variables),
        "method": method,
        "split": split,
        "sessions": len(rows),
        "unit": unit_name(dataset),
        "accuracy": float(right.mean()),
        "interval": widened(interval(right.astype(float), judged.units, seed=seed), units),
        "fields": [
            {
                "field": name,
                "share": share,
                "sessions": len(have.get(name, ())),
                "drop": drops.get(name),
            }
            for name, share in shares.items()
        ],
        "groups": groups,
    }


def _mean_shares(
    run: Run,
    traffic: Traffic,
    fields: Sequence[Sequence[Field]],
    targets: np.ndarray,
    method: str,
) -> dict[str, float]:
    """Return the mean share of each field over all sessions, largest first."""
    images, count = traffic.images()[..., 0], len(traffic)
    ends = np.cumsum(traffic.counts).tolist()
    starts = [end - int(size) for end, size in zip(ends, traffic.counts, strict=True)]
    of = [list(fields[start:end]) for start, end in zip(starts, ends, strict=True)]
    totals: dict[str, float] = {}
    for first in progress(range(0, count, AT_ONCE), "explain"):
        part = slice(first, first + AT_ONCE)
        found = explain_images(run, images[part], targets[part], (method,), of[part])[method]
        for one, own in zip(np.asarray(found.attributions), of[part], strict=True):
            lengths = [parts[-1].end if parts else 0 for parts in own]
            for name, share in session_fields(byte_shares(one, lengths), own).items():
                totals[name] = totals.get(name, 0.0) + share / count
    return dict(sorted(totals.items(), key=lambda item: (-item[1], item[0])))


def _sessions_with(traffic: Traffic, fields: Sequence[Sequence[Field]]) -> dict[str, set[int]]:
    session, _ = spread(traffic.counts)
    have: dict[str, set[int]] = {}
    for own, parts in zip(session.tolist(), fields, strict=True):
        for field in parts:
            have.setdefault(field.name, set()).add(own)
    return have


def _drop(
    run: Run,
    traffic: Traffic,
    fields: Sequence[Sequence[Field]],
    names: set[str],
    judged: _Verdicts,
    seed: int,
    number: int,
) -> dict:
    """Return the accuracy lost with the fields exchanged, with its interval over units."""
    rng = np.random.Generator(np.random.Philox([seed, number]))
    tiles, _ = exchange_fields(traffic, fields, names, rng)
    session, _ = spread(traffic.counts)
    other = np.unique(session[(tiles != traffic.tiles).any(1)])
    after = judged.right.copy()
    if len(other):
        images = Traffic(tiles, traffic.packets, traffic.counts, traffic.mask).images()[other]
        after[other] = run.logits(images).argmax(-1) == judged.labels[other]
    return interval(judged.right.astype(float) - after, judged.units, seed=seed)
