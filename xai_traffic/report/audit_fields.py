"""The ranked fields of an audit, as HTML."""

from __future__ import annotations

from typing import Any

from xai_traffic.evaluation.mask_proposal import tells
from xai_traffic.report.charts import bar
from xai_traffic.report.intervals import ends
from xai_traffic.report.markup import count, percent, text

TELLING, OTHERS = 50, 40
"""Fields on the page that tell the label, and others; audit.json has all."""

_NUMBERS = ("balanced accuracy", "accuracy", "AMI", "by presence", "sessions")


def fields_section(found: dict[str, Any]) -> str:
    """Return the table of the fields that tell, and behind a fold the others."""
    telling = [row for row in found["fields"] if tells(row)]
    others = [row for row in found["fields"] if not tells(row)]
    first = _table(telling[:TELLING]) if telling else "<p><b>No field tells the label.</b></p>"
    fold = (
        f"<details><summary>{count(len(others), 'field')} that tell little or nothing"
        f"</summary>{_table(others[:OTHERS])}</details>"
        if others
        else ""
    )
    left = max(len(telling) - TELLING, 0) + max(len(others) - OTHERS, 0)
    rest = f'<p class="quiet">{count(left, "more field")} in audit.json.</p>' if left else ""
    return (
        "<p>Of each field alone: each value stands for the label that it most often has in "
        "training; scored on the test split. Ranked by balanced accuracy, which weighs all classes "
        f"alike (guessing gives {percent(found['chance'])}); accuracy counts sessions (the most "
        f"frequent class gives {percent(found['baseline'])}). AMI is adjusted mutual information; "
        "intervals (95 %) draw what the split keeps together; "
        "<i>by presence</i> is the balanced accuracy of knowing only whether a session has the "
        f"field.</p>{first}{fold}{rest}"
    )


def _table(rows: list[dict[str, Any]]) -> str:
    names = ("field", "verdict", *_NUMBERS, "frequent values, and the label most of them have")
    head = "".join(
        f'<th scope="col"{" class=number" * (name in _NUMBERS)}>{name}</th>' for name in names
    )
    return (
        f'<div class="scroll-x"><table class="audited"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(map(_row, rows))}</tbody></table></div>"
    )


def _row(row: dict[str, Any]) -> str:
    verdict = row["verdict"]
    reading = row["side"] if row["part"] == "whole" else f"{row['side']}, {row['part']}"
    about = reading if row["in_image"] else f"{reading}; not in the image"
    cells = [
        f'<th scope="row">{_breakable(row["field"])}<br>'
        f'<span class="quiet">{text(about)}</span></th>',
        f'<td><span class="verdict {verdict}" title="{text(row["reason"])}">{verdict}</span>'
        f'<div class="why">{text(row["reason"])}</div></td>',
        f'<td class="number">{bar(row["skill"], verdict)} {percent(row["balanced_accuracy"])}'
        f"{ends_below(row, 'balanced_accuracy')}</td>",
        f'<td class="number">{percent(row["accuracy"])}{ends_below(row, "accuracy")}</td>',
        f'<td class="number">{row["ami"]:.3f}</td>',
        f'<td class="number">{percent(row["presence"])}</td>',
        f'<td class="number">{percent(row["coverage"], 0)}</td>',
        f'<td class="example">{_examples(row)}</td>',
    ]
    return f"<tr>{''.join(cells)}</tr>"


def ends_below(row: dict[str, Any], name: str) -> str:
    """Return the interval of a score below it, where it has one."""
    if not row["intervals"]:
        return ""
    return f'<br><span class="quiet">{ends(row["intervals"][name], percent)}</span>'


def _breakable(name: str) -> str:
    """Return a field's name that breaks at its dots and underscores."""
    return text(name).replace(".", ".<wbr>").replace("_", "_<wbr>")


def _examples(row: dict[str, Any]) -> str:
    lines = [
        f"<div><code>{text(one['value'])}</code> {text(one['label'])} {percent(one['share'], 0)} "
        f"of {one['sessions']:,}</div>"
        for one in row["examples"]
    ]
    more = row["values"] - len(lines)
    if more > 0:
        lines.append(f'<span class="quiet">{count(more, "more value")}</span>')
    return "".join(lines)
