"""`explain --aggregate`: what the verdicts on a split rest on, written into a new folder."""

from __future__ import annotations

import os
import pathlib
from collections.abc import Sequence
from typing import Any

from xai_traffic import explain
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.aggregates import aggregate
from xai_traffic.report.aggregate_figures import write_aggregate_figures
from xai_traffic.report.aggregate_page import render
from xai_traffic.report.explained import methods_for
from xai_traffic.report.identities import redacted_text
from xai_traffic.report.pseudonyms import Pseudonyms
from xai_traffic.report.redact import redact_verdict
from xai_traffic.training.run import Run
from xai_traffic.whole import Destination, write_json

PAGE, NUMBERS, FIGURES = "aggregate.html", "aggregate.json", "figures"
KINDS = ("typical", "atypical")
"""Lists of sessions."""


def aggregate_run(
    run: Run,
    dataset: Dataset | str | os.PathLike,
    out: str | os.PathLike,
    *,
    split: str = "test",
    methods: Sequence[str] | None = None,
    limit: int | None = None,
    seed: int = 0,
    redact: Pseudonyms | None = None,
    overwrite: bool = False,
) -> dict[str, pathlib.Path]:
    """Explain the verdicts on a split, sum the explanations up, and write what came out.

    Args:
        run: a trained run whose layout is `tiles`.
        dataset: a dataset, or its folder, read by the run's own rules.
        out: folder for `aggregate.html`, `aggregate.json` (what `evaluation.aggregates.aggregate`
            returns, and `redacted`) and `figures/`.
        split: of the dataset.
        methods: names of `explain.METHODS`; by default the one that reports follow, the first of
            those that `explain` runs by itself.
        limit: most sessions, drawn at random; None for all.
        seed: of that draw, and of the intervals.
        redact: what addresses and host names become in all that is written, see `redact`; None
            leaves them.
        overwrite: replace `out`, if it holds nothing but an earlier aggregate.

    Returns:
        Paths `page`, `numbers` and `figures`.

    Raises:
        RunError: the run cannot be explained so, the data was read by other rules, or `out` is in
            the way.
    """
    suitable = methods_for(run, methods and tuple(methods))
    if not methods:
        suitable = tuple(name for name in explain.METHODS if name in suitable)[:1]
    out = pathlib.Path(out)
    place = Destination(out, overwrite, "an aggregate", _foreign, RunError)
    place.check_free()
    data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
    found = aggregate(run, data, split, methods=suitable, limit=limit, seed=seed)
    found = redact_aggregate(found, redact) if redact else {**found, "redacted": False}
    with place.whole_folder() as folder:
        (folder / FIGURES).mkdir()
        write_aggregate_figures(found, folder / FIGURES)
        write_json(folder / NUMBERS, found)
        (folder / PAGE).write_text(render(found), encoding="utf-8")
    return {"page": out / PAGE, "numbers": out / NUMBERS, "figures": out / FIGURES}


def redact_aggregate(found: dict[str, Any], pseudonyms: Pseudonyms) -> dict[str, Any]:
    """Return aggregates whose sessions and paths name no host."""

    def session(row: dict[str, Any]) -> dict[str, Any]:
        changed = redact_verdict(row, pseudonyms)
        return {name: changed[name] for name in row}

    def method(part: dict[str, Any]) -> dict[str, Any]:
        return {**part, **{kind: [session(row) for row in part[kind]] for kind in KINDS}}

    classes = {
        name: {**own, "methods": {key: method(part) for key, part in own["methods"].items()}}
        for name, own in found["classes"].items()
    }
    paths = {name: redacted_text(found[name], pseudonyms) for name in ("run", "dataset")}
    return {**found, **paths, "classes": classes, "redacted": True}


def _foreign(folder: pathlib.Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} - {PAGE, NUMBERS, FIGURES}
