"""The part of a session's section that tells how far to believe its explanations."""

from __future__ import annotations

import math

from xai_traffic.explain import LIMITS, METHODS, METRICS, Card
from xai_traffic.report.explained import Explained
from xai_traffic.report.markup import text


def conclusion(card: Card) -> str:
    """Return the sentence of a card as HTML."""
    grade, says = card.conclusion.split(": ", 1)
    return f"<p>{_grade(grade)} {text(says[0].upper() + says[1:])}</p>"


def cards(explained: Explained) -> str:
    """Return the cards of all methods, and what else was measured, as HTML."""
    measured = {name: explained.card(name) for name in explained.shares}
    checked = [
        metric
        for metric in LIMITS
        if any(check.metric == metric for card in measured.values() for check in card.checks)
    ]
    head = "".join(f'<th scope="col">{text(LIMITS[metric].title)}</th>' for metric in checked)
    rows = "".join(_row(name, card, checked) for name, card in measured.items())
    return (
        "<h3>How far to believe it</h3>"
        '<div class="scroll-x"><table class="cards"><thead><tr><th scope="col">explanation</th>'
        f'<th scope="col" class="says">card</th>{head}</tr></thead><tbody>{rows}</tbody></table>'
        f"</div>{_others(explained, checked)}"
    )


def _row(name: str, card: Card, checked: list[str]) -> str:
    found = {check.metric: check for check in card.checks}
    cells = "".join(
        f'<td title="{text(found[metric].says)}">{_grade(found[metric].grade)} '
        f"{_number(found[metric].value)}</td>"
        if metric in found
        else "<td></td>"
        for metric in checked
    )
    return (
        f'<tr data-method="{name}"><th scope="row">{text(METHODS[name])}</th>'
        f'<td class="says">{conclusion(card)}</td>{cells}</tr>'
    )


def _others(explained: Explained, checked: list[str]) -> str:
    """Return what has no limit, of all methods."""
    names = [
        metric
        for metric in METRICS
        if metric not in checked
        and any(math.isfinite(own.get(metric, math.nan)) for own in explained.metrics.values())
    ]
    head = "".join(f'<th scope="col">{text(METHODS[name])}</th>' for name in explained.shares)
    rows = "".join(
        f'<tr><th scope="row">{text(metric.replace("_", " "))}</th>'
        + "".join(
            f'<td class="number">{_number(explained.metrics[name].get(metric, math.nan))}</td>'
            for name in explained.shares
        )
        + f'<td class="quiet">{text(METRICS[metric])}</td></tr>'
        for metric in names
    )
    return (
        '<details><summary class="quiet">More measures</summary><div class="scroll-x">'
        f'<table class="cards"><thead><tr><th></th>{head}<th></th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div></details>"
    )


def _grade(grade: str) -> str:
    return f'<span class="grade {grade}">{grade}</span>'


def _number(value: float) -> str:
    return f"{value:.2g}" if math.isfinite(value) else ""
