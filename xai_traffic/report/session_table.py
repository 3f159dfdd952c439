"""The table of all sessions, explained or not, and the chips that filter it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from xai_traffic.evaluation.answers import is_wrong, verdict_words
from xai_traffic.explain import GRADES
from xai_traffic.report.charts import bar
from xai_traffic.report.explained import Explained
from xai_traffic.report.markup import count, percent, text
from xai_traffic.report.session_section import endpoints

LISTED = 500
"""Sessions in the table; `classify` tells of all."""

CHIPS = 12
"""Verdicts that have a chip of their own, the most frequent ones."""


def identity(verdict: Mapping[str, Any]) -> tuple[str, int]:
    """Return what tells a session from all others of a report."""
    return verdict["capture"], verdict["session"]


def session_table(
    verdicts: Sequence[dict[str, Any]],
    truths: Sequence[str | None],
    known: Mapping[tuple[str, int], tuple[str, Explained]],
) -> str:
    """Return chips, search field and table as HTML.

    Args:
        verdicts: as `classify` gives them.
        truths: labels, None where unknown.
        known: by `identity` the id of the section that explains a session, and what it explains.
    """
    captures = len({verdict["capture"] for verdict in verdicts}) > 1
    labelled = any(truth is not None for truth in truths)
    kept = _kept(verdicts, truths, known)
    names = ["session", *["capture"] * captures, "begins", "protocol", "from → to", "packets",
             "bytes", "verdict", *["label"] * labelled, "probability", "card"]  # fmt: skip
    numbers = ("session", "packets", "bytes", "probability")
    head = "".join(
        f'<th scope="col"{" class=number" * (name in numbers)}>{name}</th>' for name in names
    )
    rows = "".join(
        _row(verdict, truth, captures, labelled, known.get(identity(verdict)))
        for verdict, truth in kept
    )
    left = len(verdicts) - len(kept)
    rest = (
        f'<p class="quiet">{count(left, "more session")}: '
        "<code>xai-traffic classify</code> lists all.</p>"
        if left
        else ""
    )
    return (
        f"{_filters(kept, known)}"
        '<div class="scroll" tabindex="0" role="region" aria-labelledby="all">'
        f'<table class="sessions"><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{rest}"
    )


def _kept(verdicts, truths, known) -> list[tuple[dict[str, Any], str | None]]:
    # The explained ones are always listed, however many there are.
    room = LISTED - len(known)
    kept = []
    for verdict, truth in zip(verdicts, truths, strict=True):
        explained = identity(verdict) in known
        if explained or room > 0:
            kept.append((verdict, truth))
            room -= not explained
    return kept


def _filters(kept, known) -> str:
    tally: dict[str, int] = {}
    for verdict, _ in kept:
        tally[verdict["label"]] = tally.get(verdict["label"], 0) + 1
    ranked = sorted(tally, key=lambda name: (-tally[name], name))[:CHIPS]
    wrong = sum(is_wrong(verdict, truth) for verdict, truth in kept)
    grades = [explained.card().grade for _, explained in known.values()]
    groups = [
        ("verdict", [(name, text(name), tally[name]) for name in ranked]),
        ("card", [(grade, f'<span class="grade {grade}">{grade}</span>', grades.count(grade))
                  for grade in GRADES]),
        ("only", [("explained", "explained", len(known)), ("wrong", "judged wrongly", wrong)]),
    ]  # fmt: skip
    chips = "".join(
        f'<span role="group" aria-label="{kind}">'
        + "".join(
            f'<button type="button" class="chip" aria-pressed="false" data-kind="{kind}" '
            f'data-value="{text(value)}">{shown} <span class="quiet">{number}</span></button>'
            for value, shown, number in choices
            if number
        )
        + "</span>"
        for kind, choices in groups
    )
    return (
        '<div class="filter" hidden><label>Show those with '
        '<input type="search" autocomplete="off" spellcheck="false"></label>'
        f'{chips}<span class="quiet" role="status"></span></div>'
    )


def _row(
    verdict: dict[str, Any],
    truth: str | None,
    captures: bool,
    labelled: bool,
    known: tuple[str, Explained] | None,
) -> str:
    number, card = str(verdict["session"]), ""
    if known:
        key, explained = known
        number = f'<a href="#{key}">{number}</a>'
        grade = explained.card().grade
        card = f'<span class="grade {grade}">{grade}</span>'
    begins = verdict["first_time"].replace("T", " ")[:23]
    wrong = is_wrong(verdict, truth)
    cells = [
        f'<td class="number">{number}</td>',
        f'<td class="capture" title="{text(verdict["capture"])}">{text(verdict["capture"])}</td>'
        if captures
        else "",
        f'<td class="time">{text(begins)}</td>',
        f"<td>{text(verdict['protocol'])}</td>",
        f"<td>{endpoints(verdict)}</td>",
        f'<td class="number">{verdict["packets"]:,}</td>',
        f'<td class="number">{verdict["bytes"]:,}</td>',
        f"<td><b>{text(verdict_words(verdict))}</b></td>",
        f"<td{' class=wrong' * wrong}>{text(truth or '')}</td>" if labelled else "",
        f'<td class="number">{bar(verdict["probability"], "chance")} '
        f"{percent(verdict['probability'])}</td>",
        f'<td class="card">{card}</td>',
    ]
    marks = f' data-verdict="{text(verdict["label"])}"' + " data-wrong" * wrong
    if known:
        marks += f' class="explained" data-key="{known[0]}"'
    return f"<tr{marks}>{''.join(cells)}</tr>"
