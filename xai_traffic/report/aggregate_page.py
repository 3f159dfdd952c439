"""aggregate.html: what the verdicts on a split rest on, in one file without outside links.

There is no script in it, and a content security policy that forbids any: hostile text that slipped
through could neither run nor call out.
"""

from __future__ import annotations

import importlib.resources
import math
import shlex
import string
from collections.abc import Mapping, Sequence
from typing import Any

from xai_traffic import __version__
from xai_traffic.evaluation.answers import is_wrong, nearest_class
from xai_traffic.explain import METHODS, PER_BYTE
from xai_traffic.report.aggregate_charts import ceiling, position_chart, share_bar
from xai_traffic.report.intervals import ends, hundredfold
from xai_traffic.report.markup import content_hash, count, percent, text
from xai_traffic.report.session_section import endpoints

COLUMNS = 14
"""Fields of the heat table: those that are the first of all in some class, then the largest."""

SHOWN = 12
"""Fields of a class that are shown at once; the others fold."""

FEW = 5
"""Sessions below which a difference between right and wrong verdicts is not pointed out."""


def render(found: Mapping[str, Any]) -> str:
    """Return the page.

    Args:
        found: as `evaluation.aggregates.aggregate` returns it.
    """
    style = _resource("report.css") + _resource("aggregate.css")
    classes = found["classes"]
    return string.Template(_resource("aggregate.html")).substitute(
        style=style,
        style_hash=content_hash(style),
        version=text(__version__),
        summary=_summary(found),
        facts=_facts(found),
        notes=_notes(found),
        tables="".join(_heat_table(found, method) for method in found["methods"]),
        contents="".join(
            f'<li><a href="#c{number}">{text(name)} <span class="quiet">{own["sessions"]:,}</span>'
            "</a></li>"
            for number, (name, own) in enumerate(classes.items())
        ),
        sections="".join(
            _class_section(found, name, own, f"c{number}")
            for number, (name, own) in enumerate(classes.items())
        ),
    )


def heat_columns(found: Mapping[str, Any], method: str, most: int = COLUMNS) -> list[str]:
    """Return the fields to show side by side: the first of each class, then those of most share.

    They are ordered by the mean of their shares over the classes.
    """
    shares = class_shares(found, method)
    largest: dict[str, float] = {}
    sums: dict[str, float] = {}
    for own in shares.values():
        for place, (field, share) in enumerate(own.items()):
            largest[field] = max(largest.get(field, 0.0), share + (place == 0))
            sums[field] = sums.get(field, 0.0) + share
    kept = sorted(largest, key=lambda field: (-largest[field], field))[:most]
    return sorted(kept, key=lambda field: (-sums[field], field))


def class_shares(found: Mapping[str, Any], method: str) -> dict[str, dict[str, float]]:
    """Return the mean share of each field, ranked, by class; classes without shares left out."""
    shares = {
        name: {row["field"]: row["share"] for row in own["methods"][method]["fields"]}
        for name, own in found["classes"].items()
    }
    return {name: own for name, own in shares.items() if own}


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _summary(found: Mapping[str, Any]) -> str:
    leaky = "".join(
        f" <strong>LEAKY, not what its split says: {text(reason)}.</strong>"
        for reason in found["leaky"]
    )
    drawn = f", drawn from {found['of']:,}," if found["sessions"] < found["of"] else ""
    right, judged = found["right"], ""
    if right["mean"] is not None:
        told = [right[end] for end in ("low", "high") if right[end] is not None]
        ends = f" ({' to '.join(map(percent, told))})" * bool(told)
        judged = f" {percent(right['mean'])}{ends} of the verdicts are right."
    unknown = sum(own["unknown"] for own in found["classes"].values())
    if unknown:
        judged += (
            f" {count(unknown, 'session is', 'sessions are')} called unknown, neither right nor "
            "wrong, and summed up under the nearest class."
        )
    return (
        f"{count(found['sessions'], 'session')} of split {text(found['split'])}{drawn} judged by "
        f"{text(found['model'])} and explained by {_methods(found['methods'])}, summed up for "
        f"{count(len(found['classes']), 'verdict')}.{judged}{leaky}"
    )


def _methods(names: Sequence[str]) -> str:
    return ", ".join(METHODS[name] for name in names)


def _facts(found: Mapping[str, Any]) -> str:
    rows = {
        "Run": f"{text(found['run'])}, step {found['step']:,}",
        "Data": f"{text(found['dataset'])}, split {text(found['split'])}",
        "Hidden from the model": "nothing" if found["mask"] == "none" else text(found["mask"]),
        "Explained": "of each session the verdict, by " + _methods(found["methods"]),
        "Intervals": f"95 %, by bootstrap; what is drawn is each {text(found['unit'])}, with the "
        "sessions of the class that it has. Of fewer than four they are all that can be",
        "Typical sessions": "medoids, chosen one by one, each the one that brings the sessions "
        "of the class nearest to a typical one. Two sessions are as far apart as the part of their "
        "shares that would have to move to other fields: 0&nbsp;% to 100&nbsp;%",
        "Atypical sessions": "those farthest from every typical one",
        "Seed": text(found["seed"]),
    }
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())


def _notes(found: Mapping[str, Any]) -> str:
    notes = []
    if found["never_judged"]:
        names = ", ".join(text(name) for name in found["never_judged"])
        notes.append(f"No session was judged to be: {names}.")
    if found["mask"] != "none":
        notes.append(
            "The dataset is masked: fields that the mask hides are constant, and what share they "
            "have is the model's answer to that constant."
        )
    if found["redacted"]:
        notes.append("Addresses and host names are pseudonyms.")
    return "".join(f'<p class="note">{note}</p>' for note in notes)


def _heat_table(found: Mapping[str, Any], method: str) -> str:
    columns, shares = heat_columns(found, method), class_shares(found, method)
    largest = max((share for own in shares.values() for share in own.values()), default=1.0)
    head = "".join(f'<th scope="col"><span>{text(field)}</span></th>' for field in columns)
    numbers = {name: number for number, name in enumerate(found["classes"])}
    rows = []
    for name, own in shares.items():
        cells = "".join(_heat_cell(own.get(field), largest) for field in columns)
        rest = max(0.0, 1.0 - sum(own.get(field, 0.0) for field in columns))
        sessions = found["classes"][name]["methods"][method]["sessions"]
        rows.append(
            f'<tr><th scope="row"><a href="#c{numbers[name]}">{text(name)}</a> '
            f'<span class="of">{sessions:,}</span></th>{cells}'
            f'<td class="rest">{percent(rest, 0)}</td></tr>'
        )
    return (
        f'<section class="sums" aria-labelledby="heat-{method}"><h2 id="heat-{method}">'
        f"Share of each field by verdict: {METHODS[method]}</h2>"
        '<div class="scroll-x" tabindex="0" role="region" aria-label="fields by verdict">'
        f'<table class="heat"><thead><tr><th scope="col"></th>{head}'
        f'<th scope="col"><span>all others</span></th></tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div></section>"
    )


def _heat_cell(share: float | None, largest: float) -> str:
    """Return a cell in nine levels of colour; a dot where no session of the class has the field.

    Levels go by the root of the share, or one large share would leave all others pale.
    """
    if share is None:
        return '<td class="rest">·</td>'
    level = round(8 * math.sqrt(share / largest))
    kind = f" class=p{level}" if level else ""
    return f"<td{kind}>{percent(share, 0 if share >= 0.01 else 1)}</td>"


def _class_section(found: Mapping[str, Any], name: str, own: Mapping[str, Any], key: str) -> str:
    known = own["right"] + own["wrong"]
    right = f", {own['right']:,} right and {own['wrong']:,} wrong" * bool(known)
    right += f", {own['unknown']:,} called unknown" * bool(own["unknown"])
    several = len(found["methods"]) > 1
    parts = "".join(
        (f'<h3 class="method">{METHODS[method]}</h3>' if several else "")
        + _method_part(found, part, method)
        for method, part in own["methods"].items()
    )
    return (
        f'<section class="session" id="{key}" aria-labelledby="{key}-title"><h2 id="{key}-title">'
        f"{text(name)}</h2><p>{count(own['sessions'], 'verdict')}{right}; mean probability "
        f"{percent(own['probability'])}.</p>{parts}</section>"
    )


def _method_part(found: Mapping[str, Any], part: Mapping[str, Any], method: str) -> str:
    said = []
    if part["left_out"]:
        said.append(
            f"{count(part['left_out'], 'session')} left out, to whose bytes it attributes nothing."
        )
    if part["padding"] >= 0.005:
        said.append(f"{percent(part['padding'])} of it falls outside the captured bytes.")
    told = f'<p class="quiet">{" ".join(said)}</p>' if said else ""
    if not part["sessions"]:
        return told
    return (
        told
        + _field_table(part, signed=method in PER_BYTE)
        + _packet_part(part, signed=method in PER_BYTE)
        + _examples(found, part, method)
    )


def _field_table(part: Mapping[str, Any], *, signed: bool) -> str:
    rows = part["fields"]
    top = ceiling(max(row["high"] for row in rows))
    told = {name: part[name] for name in ("right", "wrong") if rows[0][name] is not None}
    names = ["field", f"share, 0 to {percent(top, 0)}", "mean", "interval"]
    names += ["net"] * signed + ["has it"]
    names += [f"{name} ({number:,})" for name, number in told.items()]
    classes = ["", "graph", *["number"] * (len(names) - 2)]
    head = "".join(
        f'<th scope="col"{f" class={kind}" if kind else ""}>{name}</th>'
        for name, kind in zip(names, classes, strict=True)
    )
    lines = [_field_row(row, top, signed, told) for row in rows]
    shown = _ranked(head, lines[:SHOWN])
    rest = lines[SHOWN:]
    folded = (
        f"<details><summary>{count(len(rest), 'more field')}, "
        f"{percent(sum(row['share'] for row in rows[SHOWN:]))} together</summary>"
        f"{_ranked(head, rest)}</details>"
        if rest
        else ""
    )
    notes = "; net: the share for the verdict less that against it" * signed
    if told and min(told.values()) >= FEW:
        notes += "; bold: right and wrong verdicts whose intervals lie apart"
    return (
        "<h3>Fields</h3>"
        '<p class="legend"><span class="key mean"></span>mean share <span class="key reach"></span>'
        '95&nbsp;% interval <span class="key size"></span>its share of the bytes'
        f"{notes}</p>{shown}{folded}"
    )


def _ranked(head: str, lines: Sequence[str]) -> str:
    return (
        f'<div class="scroll-x"><table class="ranked"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div>"
    )


def _field_row(row: Mapping[str, Any], top: float, signed: bool, told: Mapping[str, int]) -> str:
    cells = [
        f'<th scope="row">{text(row["field"])}</th>',
        f'<td class="graph">{share_bar(row, top)}</td>',
        f'<td class="number">{percent(row["share"])}</td>',
        f'<td class="number interval">{ends(row, hundredfold(".1f"))}</td>',
    ]
    if signed:
        cells.append(f'<td class="number">{_signed(row["net"])}</td>')
    cells.append(f'<td class="number">{percent(row["frequency"], 0)}</td>')
    if told:
        right, wrong = row["right"], row["wrong"]
        apart = right["low"] > wrong["high"] or wrong["low"] > right["high"]
        apart = apart and min(told.values()) >= FEW
        kind = "number differs" if apart else "number"
        cells += [f'<td class="{kind}">{percent(side["share"])}</td>' for side in (right, wrong)]
    return f"<tr>{''.join(cells)}</tr>"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}\u00a0%".replace("-", "\u2212")


def _packet_part(part: Mapping[str, Any], *, signed: bool) -> str:
    rows = part["packets"]
    names = ["packet", "mean", "interval", "client to server", "server to client"]
    names += ["net"] * signed + ["has it"]
    head = "".join(f'<th scope="col" class="number">{name}</th>' for name in names)
    lines = []
    for row in rows:
        cells = [percent(row["share"]), ends(row, hundredfold(".1f"))]
        cells += [percent(row[way]) for way in ("initiator", "responder")]
        cells += [_signed(row["net"])] if signed else []
        cells.append(percent(row["frequency"], 0))
        numbers = "".join(f'<td class="number">{cell}</td>' for cell in cells)
        lines.append(f'<tr><th scope="row" class="number">{row["packet"]}</th>{numbers}</tr>')
    return (
        "<h3>Packets, by their position in the session</h3>"
        '<p class="legend"><span class="key d0"></span>client to server '
        '<span class="key d1"></span>server to client '
        '<span class="key reach"></span>95&nbsp;% interval of both <span class="key has"></span>'
        "sessions that have it, 0 to 100&nbsp;%</p>"
        f"{position_chart(rows)}<details><summary>As a table</summary>"
        f"{_ranked(head, lines)}</details>"
    )


def _examples(found: Mapping[str, Any], part: Mapping[str, Any], method: str) -> str:
    names = ["session", "capture", "from → to", "packets", "label", "probability", "", "rests on"]
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    kinds = (
        ("typical", "Typical", lambda row: f"stands for {percent(row['stands_for'], 0)}"),
        ("atypical", "Atypical", lambda row: f"{percent(row['distance'], 0)} apart"),
    )
    body = []
    for kind, title, note in kinds:
        if part[kind]:
            body.append(f'<tr class="kind"><th scope="rowgroup" colspan="8">{title}</th></tr>')
        body += [_example(row, note(row)) for row in part[kind]]
    numbers = sorted({row["session"] for kind in ("typical", "atypical") for row in part[kind]})
    command = [
        "xai-traffic", "explain", found["run"], "--data", found["dataset"], "--split",
        found["split"], "--methods", method, "--sessions", ",".join(map(str, numbers)),
        "--out", "why",
    ]  # fmt: skip
    return (
        "<h3>Sessions to look at</h3>"
        f'<div class="scroll-x"><table class="examples"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(body)}</tbody></table></div>"
        '<p class="quiet">Open them, packet by packet (sessions are numbered in each capture):</p>'
        f'<code class="command">{text(shlex.join(command))}</code>'
    )


def _example(row: Mapping[str, Any], note: str) -> str:
    wrong = is_wrong(row, row["truth"])
    note += ", called unknown" * (row["label"] != nearest_class(row))
    fields = ", ".join(
        f"{text(field['field'])} {percent(field['share'], 0)}" for field in row["fields"]
    )
    cells = [
        f'<td class="number">{row["session"]}</td>',
        f"<td>{text(row['capture'])}</td>",
        f"<td>{endpoints(row)}</td>",
        f'<td class="number">{row["packets"]:,}</td>',
        f"<td{' class=wrong' * wrong}>{text(row['truth'] or '')}</td>",
        f'<td class="number">{percent(row["probability"])}</td>',
        f'<td class="note-cell">{note}</td>',
        f"<td>{fields}</td>",
    ]
    return f"<tr>{''.join(cells)}</tr>"
