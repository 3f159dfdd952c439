"""The `explain` verb: judge sessions, explain the most telling, write what tells of it."""

from __future__ import annotations

import dataclasses
import os
import pathlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from xai_traffic import explain
from xai_traffic.capture.masking import apply_mask
from xai_traffic.capture.reader import find_captures
from xai_traffic.capture.sessions import Sessions, read_capture_by
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import CaptureError, RunError, XaiTrafficError
from xai_traffic.evaluation.classify import verdicts_on
from xai_traffic.evaluation.evaluate import check_rules
from xai_traffic.report.annotated import (
    ANNOTATED,
    ANNOTATED_FOLDER,
    COLOURS,
    Judgement,
    write_annotated,
)
from xai_traffic.report.explained import (
    Explained,
    compare_sessions,
    explain_sessions,
    methods_for,
)
from xai_traffic.report.figures import write_figures
from xai_traffic.report.html import Judged, render
from xai_traffic.report.jsonl import write_jsonl
from xai_traffic.report.parquet import write_parquet
from xai_traffic.report.pseudonyms import Pseudonyms
from xai_traffic.report.redact import redact_judged, redact_run, redact_sessions
from xai_traffic.terminal import log, progress
from xai_traffic.training.run import Run
from xai_traffic.whole import Destination

REPORT, LINES, FIGURES = "report.html", "explanations.jsonl", "figures"
TABLE = "explanations.parquet"
MADE = {REPORT, LINES, TABLE, FIGURES, ANNOTATED, ANNOTATED_FOLDER, COLOURS}
"""All that a report's folder may hold."""
LIMIT = 12
"""Sessions explained unless they are named."""


@dataclasses.dataclass(frozen=True, eq=False)
class _Source:
    """Sessions of one capture or dataset, and the model's verdicts on some of its rows."""

    data: Sessions | Dataset
    rows: np.ndarray
    verdicts: list[dict[str, Any]]
    truths: list[str | None]
    name: str = ""
    path: pathlib.Path | None = None  # of a capture, whose name it is

    def tiles(self, place: int) -> tuple[np.ndarray, Any]:
        """Return tiles and packet table of the session at a place among `rows`."""
        row = int(self.rows[place])
        first, count = (self.data.table[name][row].as_py() for name in ("first_tile", "tiles"))
        return self.data.tiles[first : first + count], self.data.packets.slice(first, count)


def explain_run(
    run: Run,
    captures: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    lists: Sequence[str | os.PathLike] = (),
    dataset: Dataset | str | os.PathLike | None = None,
    split: str = "test",
    sessions: Sequence[int] | None = None,
    methods: Sequence[str] | None = None,
    limit: int = LIMIT,
    metrics: bool = False,
    annotate: bool = True,
    redact: Pseudonyms | None = None,
    overwrite: bool = False,
) -> dict[str, Any]:
    """Judge sessions by a run, explain some of them, and write what came out into a new folder.

    Args:
        run: a trained run whose layout is `tiles`.
        captures: files, folders, patterns; empty where `dataset` is given.
        out: folder for `report.html`, `explanations.jsonl`, `explanations.parquet`, `figures/` and,
            of captures, what `write_annotated` writes.
        lists: files that name more captures, one a line.
        dataset: a dataset, or its folder, read by the run's own rules.
        split: of the dataset.
        sessions: numbers of the sessions to explain, in every capture. By default the most telling
            few, at most `limit`: of each verdict the surest, those judged wrongly, then more.
        methods: names of `explain.METHODS`; by default all of Integrated Gradients, Grad-CAM and
            attention that suit the model.
        metrics: measure all of `explain.METRICS`, not only the quick ones that the cards need.
        annotate: copy the captures with a comment on each packet; not where they are redacted,
            for a copy holds every byte.
        redact: what addresses and host names become in all that is written, see `redact`; None
            leaves them.
        overwrite: replace `out`, if it holds nothing but an earlier report.

    Returns:
        Paths `report`, `explanations`, `table` and `figures`; `annotated`, a file or (of several
        captures) a folder, and `colours`, both None where nothing was annotated; and `failures`:
        (capture, reason) of captures that could not be read to their end; what came before the
        fault is in the report.

    Raises:
        RunError: the run cannot be explained so, the data was read by other rules, a session
            is not there, or `out` is in the way.
        CaptureError: the only capture cannot be read.
        XaiTrafficError: none of several captures can be read; all reasons are told.
    """
    if run.rules.layout != "tiles":
        raise RunError(
            f"explain needs layout 'tiles', where a tile is a packet; this run has "
            f"{run.rules.layout!r}"
        )
    chosen_methods = methods_for(run, methods and tuple(methods))
    out = pathlib.Path(out)
    place = Destination(out, overwrite, "a report", _foreign, RunError)
    place.check_free()
    failures: list[tuple[str, str]] = []
    faults: list[tuple[str, str]] = []
    if dataset is not None:
        data = dataset if isinstance(dataset, Dataset) else open_dataset(dataset)
        sources = [_judge_dataset(run, data, split)]
        names = [f"{data.path}, split {split}"]
    else:
        found = find_captures(captures, lists=lists)
        names = [name for name, _ in found]
        sources = _judge_captures(run, found, failures, faults)
    chosen = _choose(sources, sessions, limit)

    measured = tuple(explain.METRICS) if metrics else explain.QUICK
    masked = dataset is not None
    explained = _explain(run, sources, chosen, chosen_methods, masked=masked, metrics=measured)
    judged = Judged(
        verdicts=[verdict for source in sources for verdict in source.verdicts],
        truths=[truth for source in sources for truth in source.truths],
        sources=names,
        masked=dataset is not None and run.rules.mask != "none",
        failures=failures + faults,
    )
    if redact:
        # From here on nothing knows the originals, and no writer below needs to think of it.
        explained = redact_sessions(explained, redact)
        judged, run = redact_judged(judged, redact), redact_run(run, redact)
    with place.whole_folder() as folder:
        figures = folder / FIGURES
        figures.mkdir()
        for number, one in enumerate(progress(explained, "draw")):
            write_figures(one, figures, _stem(number, one))
        page = render(run, judged, explained)
        (folder / REPORT).write_text(page, encoding="utf-8")
        places: dict[str, str] = {}
        if annotate and dataset is not None:
            log.info("a dataset holds no captures: nothing is annotated")
        elif annotate and redact:
            log.info("a copy of a capture holds every byte: redacted ones are not annotated")
        elif annotate:
            several = len(names) > 1
            places = write_annotated(run, folder, _judgements(sources), explained, several)
        write_jsonl(folder / LINES, explained, run.rules.mask, places, judged.redacted)
        write_parquet(folder / LINES, folder / TABLE)
    annotated = ANNOTATED_FOLDER if len(names) > 1 else ANNOTATED
    return {
        "report": out / REPORT,
        "explanations": out / LINES,
        "table": out / TABLE,
        "figures": out / FIGURES,
        "annotated": out / annotated if places else None,
        "colours": out / COLOURS if places else None,
        "failures": failures + faults,
    }


def _judge_captures(
    run: Run, found: list[tuple[str, pathlib.Path]], failures: list, faults: list
) -> list[_Source]:
    sources = []
    problems: list[CaptureError] = []
    # As captured: the report shows what the mask hides from the model.
    unmasked = dataclasses.replace(run.rules, mask="none")
    for name, path in found:
        try:
            data = read_capture_by(path, unmasked, name)
        except CaptureError as problem:
            problems.append(problem)
            failures.append((name, str(problem)))
            continue
        if data.fault:
            faults.append((name, data.fault))
        seen = apply_mask(data.tiles, data.packets, run.rules.mask)
        masked = dataclasses.replace(data, tiles=seen)
        rows = np.arange(len(data))
        said = _judge(run, masked, rows, name)
        sources.append(_Source(data, rows, said, [None] * len(rows), name, path))
    if len(problems) == 1 and not sources:
        raise problems[0]
    if problems and not sources:
        raise XaiTrafficError(f"no capture can be read: {'; '.join(map(str, problems))}")
    if faults and not any(len(source.rows) for source in sources):
        raise RunError(f"there is no session to judge: {faults[0][1]}")
    return sources


def _judgements(sources: list[_Source]) -> list[Judgement]:
    """Return what annotated captures are made from; nothing of a dataset."""
    return [
        Judgement(source.name, source.path, source.data.packets, source.verdicts)
        for source in sources
        if source.path is not None
    ]


def _judge_dataset(run: Run, data: Dataset, split: str) -> _Source:
    check_rules(run, data)
    rows = data.rows(split)
    column = "label" if run.task == "multiclass" else "binary_label"
    truths = data.table[column].take(rows).to_pylist()
    return _Source(data, rows, _judge(run, data, rows, f"{data.path.name}, {split}"), truths)


def _judge(run: Run, data: Sessions | Dataset, rows: np.ndarray, name: str) -> list[dict[str, Any]]:
    return list(verdicts_on(run, data, rows, description=f"judge {name}"))


def _choose(
    sources: list[_Source], numbers: Sequence[int] | None, limit: int
) -> list[tuple[int, int]]:
    """Return (source, place in its rows) of the sessions to explain, in the sources' order.

    Raises:
        RunError: there is no session, or none of a number that was asked for.
    """
    every = [(s, place) for s, source in enumerate(sources) for place in range(len(source.rows))]
    if not every:
        raise RunError("there is no session to judge: see what the reading rules drop")
    if numbers is not None:
        there = {sources[s].verdicts[place]["session"] for s, place in every}
        missing = sorted(set(numbers) - there)
        if missing:
            raise RunError(
                f"there is no session {', '.join(map(str, missing[:5]))}: numbers are those that "
                "`xai-traffic classify` prints"
            )
        return [
            (s, place) for s, place in every if sources[s].verdicts[place]["session"] in numbers
        ]

    def rank(pair: tuple[int, int]) -> tuple:
        verdict = sources[pair[0]].verdicts[pair[1]]
        # Among equally sure ones, those of more packets say more.
        return -round(verdict["probability"], 2), -min(verdict["packets"], 16), pair

    right: dict[str, list] = {}
    wrong: dict[str, list] = {}
    for pair in sorted(every, key=rank):
        label, truth = (
            sources[pair[0]].verdicts[pair[1]]["label"],
            sources[pair[0]].truths[pair[1]],
        )
        (right if truth in (None, label) else wrong).setdefault(label, []).append(pair)
    rounds = (
        [pairs[0] for pairs in right.values()],
        [pairs[0] for pairs in wrong.values()],
        [pairs[1] for pairs in right.values() if len(pairs) > 1],
    )
    return sorted([pair for group in rounds for pair in sorted(group, key=rank)][:limit])


def _explain(
    run: Run,
    sources: list[_Source],
    chosen: list[tuple[int, int]],
    methods: tuple[str, ...],
    *,
    masked: bool,
    metrics: Sequence[str],
) -> list[Explained]:
    explained: list[Explained] = []
    # A few at a time: the progress is seen, and memory is the methods' own care.
    for start in progress(range(0, len(chosen), 4), "explain"):
        group = chosen[start : start + 4]
        held = [sources[s].tiles(place) for s, place in group]
        explained += explain_sessions(
            run,
            [sources[s].verdicts[place] for s, place in group],
            [sources[s].truths[place] for s, place in group],
            [tiles for tiles, _ in held],
            [packets for _, packets in held],
            methods,
            masked=masked,
            metrics=metrics,
        )
    return compare_sessions(explained)


def _stem(number: int, explained: Explained) -> str:
    return f"{number + 1:02d}-session-{explained.verdict['session']}"


def _foreign(folder: pathlib.Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} - MADE
