"""report.html: one file without outside links, for a browser that is cut off from the network.

A content security policy forbids everything but the page's own style and script, by their hashes,
and its embedded pictures: hostile text that slipped through could neither run nor call out.
"""

from __future__ import annotations

import dataclasses
import importlib.resources
import string
from typing import Any

from xai_traffic import __version__
from xai_traffic.explain import METHODS
from xai_traffic.report.charts import bar
from xai_traffic.report.explained import Explained
from xai_traffic.report.markup import content_hash, count, percent, text
from xai_traffic.report.session_section import endpoints, session_section
from xai_traffic.training.run import Run

LISTED = 500
"""Sessions in the table; `classify` tells of all."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """All verdicts that the report is about, explained or not.

    Args:
        verdicts: as `classify` gives them.
        truths: the sessions' labels, None where unknown.
        sources: names of the captures or of the dataset and split.
        masked: the bytes shown are those of a masked dataset, not those captured.
        failures: (capture, reason) of captures that could not be read, or not to their end.
    """

    verdicts: list[dict[str, Any]]
    truths: list[str | None]
    sources: list[str]
    masked: bool
    failures: list[tuple[str, str]]


def render(
    run: Run, judged: Judged, sessions: list[Explained], pictures: list[dict[str, bytes]]
) -> str:
    """Return the report.

    Args:
        sessions: those explained.
        pictures: PNG by method of each, see `figures.write_figures`.
    """
    style, script = _resource("report.css"), _resource("report.js")
    keys = [f"s{number}" for number in range(len(sessions))]
    known = {
        _identity(explained.verdict): key for explained, key in zip(sessions, keys, strict=True)
    }
    return string.Template(_resource("report.html")).substitute(
        style=style,
        script=script,
        style_hash=content_hash(style),
        script_hash=content_hash(script),
        version=text(__version__),
        summary=_summary(run, judged, sessions),
        facts=_facts(run, judged, sessions),
        notes=_notes(judged),
        contents=_contents(sessions, keys),
        table=_table(judged, known),
        sections="\n".join(
            session_section(explained, key, pngs, run.rules)
            for explained, key, pngs in zip(sessions, keys, pictures, strict=True)
        ),
    )


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _identity(verdict: dict[str, Any]) -> tuple[str, int]:
    return verdict["capture"], verdict["session"]


def _summary(run: Run, judged: Judged, sessions: list[Explained]) -> str:
    tally: dict[str, int] = {}
    for verdict in judged.verdicts:
        tally[verdict["label"]] = tally.get(verdict["label"], 0) + 1
    ranked = sorted(tally.items(), key=lambda item: (-item[1], item[0]))
    named = ", ".join(f"{text(name)}\u00a0{number:,}" for name, number in ranked[:8])
    more = f" and {count(len(ranked) - 8, 'other class', 'other classes')}" * (len(ranked) > 8)
    return (
        f"{count(len(judged.verdicts), 'session')} judged by {text(run.model.name)} "
        f"({text(run.path.name)}), {len(sessions)} explained. Verdicts: {named}{more}."
    )


def _facts(run: Run, judged: Judged, sessions: list[Explained]) -> str:
    rules = run.rules
    methods = ", ".join(METHODS[name] for name in sessions[0].shares) if sessions else "none"
    sources = ", ".join(text(source) for source in judged.sources[:5])
    if len(judged.sources) > 5:
        sources += f" and {len(judged.sources) - 5} more"
    rows = {
        "Judged": sources,
        "Run": f"{text(run.path)}, step {run.step:,}",
        "Model": f"{text(run.model.name)}, variant {text(run.model.variant)}, "
        f"{run.parameter_count:,} parameters, {text(run.task)}",
        "Classes": ", ".join(text(name) for name in run.classes),
        "Hidden from the model": "nothing" if rules.mask == "none" else text(rules.mask),
        "Sessions by": f"{text(rules.rule)}, at least {count(rules.min_packets, 'packet')}",
        "Packets": f"layers {text(rules.layers)}, filter <code>{text(rules.filter)}</code>",
        "Methods": methods,
    }
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())


def _notes(judged: Judged) -> str:
    notes = []
    if judged.masked:
        notes.append(
            "The bytes shown are those that the dataset keeps, with the mask applied: the captured "
            "ones are not in it. Explain the capture itself to see them."
        )
    notes += [f"{text(name)}: {text(reason)}" for name, reason in judged.failures]
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def _contents(sessions: list[Explained], keys: list[str]) -> str:
    return "".join(
        f'<li><a href="#{key}">session {explained.verdict["session"]}: '
        f"{text(explained.verdict['label'])} {percent(explained.verdict['probability'])}</a></li>"
        for explained, key in zip(sessions, keys, strict=True)
    )


def _table(judged: Judged, known: dict[tuple[str, int], str]) -> str:
    captures = len({verdict["capture"] for verdict in judged.verdicts}) > 1
    truths = any(truth is not None for truth in judged.truths)
    pairs = list(zip(judged.verdicts, judged.truths, strict=True))
    # The explained ones are always listed, however many there are.
    room = LISTED - len(known)
    kept = []
    for verdict, truth in pairs:
        explained = _identity(verdict) in known
        if explained or room > 0:
            kept.append((verdict, truth))
            room -= not explained
    names = ["session", *["capture"] * captures, "begins", "protocol", "from → to", "packets",
             "bytes", "verdict", *["label"] * truths, "probability"]  # fmt: skip
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    rows = "".join(
        _row(verdict, truth, captures, truths, known.get(_identity(verdict)))
        for verdict, truth in kept
    )
    left = len(pairs) - len(kept)
    rest = (
        f'<p class="quiet">{count(left, "more session")}: '
        "<code>xai-traffic classify</code> lists all.</p>"
        if left
        else ""
    )
    return (
        f'<div class="scroll"><table class="sessions"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{rest}"
    )


def _row(verdict: dict, truth: str | None, captures: bool, truths: bool, key: str | None) -> str:
    number = f'<a href="#{key}">{verdict["session"]}</a>' if key else str(verdict["session"])
    begins = verdict["first_time"].replace("T", " ")[:23]
    wrong = truth is not None and truth != verdict["label"]
    cells = [
        f'<td class="number">{number}</td>',
        f"<td>{text(verdict['capture'])}</td>" if captures else "",
        f'<td class="time">{text(begins)}</td>',
        f"<td>{text(verdict['protocol'])}</td>",
        f"<td>{endpoints(verdict)}</td>",
        f'<td class="number">{verdict["packets"]:,}</td>',
        f'<td class="number">{verdict["bytes"]:,}</td>',
        f"<td><b>{text(verdict['label'])}</b></td>",
        f"<td{' class=wrong' * wrong}>{text(truth or '')}</td>" if truths else "",
        f'<td class="number">{bar(verdict["probability"], "chance")} '
        f"{percent(verdict['probability'])}</td>",
    ]
    return f"<tr{' class=explained' * bool(key)}>{''.join(cells)}</tr>"
