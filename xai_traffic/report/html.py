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
from xai_traffic.evaluation.answers import verdict_words
from xai_traffic.explain import METHODS
from xai_traffic.report.explained import Explained
from xai_traffic.report.markup import content_hash, count, percent, text
from xai_traffic.report.session_section import session_section
from xai_traffic.report.session_table import identity, session_table
from xai_traffic.training.run import Run

SCRIPTS = (
    "session_data.js",
    "markup.js",
    "packet_list.js",
    "field_tree.js",
    "hex_dump.js",
    "picture.js",
    "session_view.js",
    "session_table.js",
    "keys.js",
    "page.js",
)
"""The page's script in the order of its parts; the last one starts it."""


@dataclasses.dataclass(frozen=True, eq=False)
class Judged:
    """All verdicts that the report is about, explained or not.

    Args:
        verdicts: as `classify` gives them.
        truths: the sessions' labels, None where unknown.
        sources: names of the captures or of the dataset and split.
        masked: the bytes shown are those of a masked dataset, not those captured.
        failures: (capture, reason) of captures that could not be read, or not to their end.
        redacted: addresses and names are pseudonyms, see `redact`.
    """

    verdicts: list[dict[str, Any]]
    truths: list[str | None]
    sources: list[str]
    masked: bool
    failures: list[tuple[str, str]]
    redacted: bool = False


def render(run: Run, judged: Judged, sessions: list[Explained]) -> str:
    """Return the report.

    Args:
        sessions: those explained.
    """
    style = _resource("report.css")
    script = "\n".join(_resource(name) for name in SCRIPTS)
    keys = [f"s{number}" for number in range(len(sessions))]
    known = {
        identity(explained.verdict): (key, explained)
        for explained, key in zip(sessions, keys, strict=True)
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
        table=session_table(judged.verdicts, judged.truths, known),
        sections="\n".join(
            session_section(explained, key, run.rules)
            for explained, key in zip(sessions, keys, strict=True)
        ),
    )


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


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
    if judged.redacted:
        notes.append(
            "Redacted: addresses and host names are pseudonyms, the same for the same one "
            "throughout, and checksums, which would give addresses away, are zero. What else "
            "packets say stands as captured: paths, user names, cookies, and names in what no "
            "dissector here can read."
        )
    notes += [f"{text(name)}: {text(reason)}" for name, reason in judged.failures]
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def _contents(sessions: list[Explained], keys: list[str]) -> str:
    return "".join(
        f'<li><a href="#{key}">session {explained.verdict["session"]}: '
        f"{text(verdict_words(explained.verdict))} "
        f"{percent(explained.verdict['probability'])}</a></li>"
        for explained, key in zip(sessions, keys, strict=True)
    )
