"""What an audit says of bytes, splits and labels, as HTML."""

from __future__ import annotations

from typing import Any

from xai_traffic.report.audit_fields import ends_below
from xai_traffic.report.charts import bar
from xai_traffic.report.intervals import ends
from xai_traffic.report.markup import count, percent, text

STEPS = 8
"""Shades of a byte's skill."""

_ROW = 16
_LISTED = 10


def positions_section(found: dict[str, Any]) -> str:
    """Return one picture a packet of what each byte tells, and the first positions."""
    names = {(row["packet"], row["byte"]): row["name"] for row in found["positions"]}
    maps = "".join(
        f"<figure>{_map(packet, skills, names)}<figcaption>packet {packet}</figcaption></figure>"
        for packet, skills in enumerate(found["position_skill"])
    )
    rows = "".join(
        f'<tr><th scope="row">packet {row["packet"]}, byte {row["byte"]}</th>'
        f"<td><code>{text(row['name'] or '')}</code></td>"
        f'<td class="number">{bar(row["skill"], "plain")} {percent(row["balanced_accuracy"])}'
        f"{ends_below(row, 'balanced_accuracy')}</td>"
        f'<td class="number">{percent(row["accuracy"])}{ends_below(row, "accuracy")}</td>'
        f'<td class="number">{row["ami"]:.3f}</td>'
        f'<td class="number">{percent(row["coverage"], 0)}</td></tr>'
        for row in found["positions"][:_LISTED]
    )
    shades = "".join(f'<span class="swatch h{step}"></span>' for step in range(1, STEPS + 1))
    return (
        "<p>The same rule on every byte of the first packets, laid out as in the image: 16 bytes a "
        "row. That a packet or a byte is not there is a value as well.</p>"
        f'<p class="legend">from guessing {shades} to perfect</p>'
        f'<div class="maps">{maps}</div>'
        '<div class="scroll-x"><table class="audited"><thead><tr><th scope="col">position</th>'
        '<th scope="col">mostly</th><th scope="col" class="number">balanced accuracy</th>'
        '<th scope="col" class="number">accuracy</th><th scope="col" class="number">AMI</th>'
        '<th scope="col" class="number">sessions</th></tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _map(packet: int, skills: list[float], names: dict[tuple[int, int], str | None]) -> str:
    side = _ROW * 10
    parts = [
        f'<svg class="map" viewBox="0 0 {side} {side}" role="img" '
        f'aria-label="what each byte of packet {packet} tells">'
        f'<rect class="back" width="{side}" height="{side}"/>'
    ]
    for byte, skill in enumerate(skills):
        step = min(round(skill * STEPS), STEPS)
        if step > 0:
            name = names.get((packet, byte))
            told = f", {text(name)}" if name else ""
            parts.append(
                f'<rect class="heat h{step}" x="{byte % _ROW * 10}" y="{byte // _ROW * 10}" '
                f'width="10" height="10"><title>byte {byte}{told}: {percent(skill)}</title></rect>'
            )
    return "".join(parts) + "</svg>"


def shared_section(found: dict[str, Any]) -> str:
    """Return which identifiers the test split shares with training."""
    rows = "".join(
        f'<tr><th scope="row">{text(row["identifier"])}</th>'
        f'<td class="number">{row["sessions"]:,}</td>'
        f'<td class="number">{row["values"]:,}</td>'
        f'<td class="number">{bar(row["shared"], "plain")} {percent(row["shared"])}</td>'
        f'<td class="number">{bar(row["same_label"], "chance")} {percent(row["same_label"])}</td>'
        f"<td>{_least(row['per_class'])}</td></tr>"
        for row in found["shared_identifiers"]
    )
    head = "".join(
        f'<th scope="col"{" class=number" * (place in (1, 2, 3, 4))}>{name}</th>'
        for place, name in enumerate(
            (
                "identifier",
                "test sessions that have one",
                "values in training",
                "known from training",
                "known, and of that label there",
                "classes that share least",
            )
        )
    )
    return (
        "<p>Where test sessions come from hosts, names or captures that training has as well, "
        "their scores cannot tell behaviour from acquaintance. Taken from the dataset's own "
        "record, whatever a mask hides from models.</p>"
        f'<div class="scroll-x"><table class="audited"><thead><tr>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>"
    )


def _least(per_class: dict[str, float]) -> str:
    ranked = sorted(per_class.items(), key=lambda item: (item[1], item[0]))[:3]
    return ", ".join(f"{text(name)}\u00a0{percent(share, 0)}" for name, share in ranked)


def neighbours_section(found: dict[str, Any]) -> str:
    """Return how near the test split lies to training."""
    near = found["nearest_neighbours"]
    right, alike = (
        f"{percent(near[name])} ({ends(near['intervals'][name], percent)})"
        for name in ("accuracy", "balanced_accuracy")
    )
    within = "".join(
        f'<tr><th scope="row">at most {percent(float(limit), 0)}</th>'
        f'<td class="number">{bar(part, "plain")} {percent(part)}</td></tr>'
        for limit, part in near["within"].items()
    )
    classes = "".join(
        f'<tr><th scope="row">{text(name)}</th><td class="number">{percent(row["median"])}</td>'
        f'<td class="number">{bar(row["recall"], "chance")} {percent(row["recall"])}'
        f'<br><span class="quiet">{ends(row["interval"], percent)}</span></td></tr>'
        for name, row in near["per_class"].items()
    )
    return (
        f"<p>Of {count(near['test'], 'test session')}, the nearest of "
        f"{count(near['train'], 'training session')} by the part of bytes that differ, over the "
        f"first {near['packets']} packets. Its label is right for {right} of them, "
        f"{alike} with classes weighed alike: a model that does no better may have learnt by "
        "heart.</p>"
        '<div class="pair"><div class="scroll-x"><table class="audited"><thead><tr>'
        '<th scope="col">bytes that differ</th><th scope="col" class="number">test sessions</th>'
        f"</tr></thead><tbody>{within}</tbody></table></div>"
        '<div class="scroll-x"><table class="audited"><thead><tr><th scope="col">class</th>'
        '<th scope="col" class="number">median distance</th>'
        '<th scope="col" class="number">neighbour right</th></tr></thead>'
        f"<tbody>{classes}</tbody></table></div></div>"
    )


def conflicts_section(found: dict[str, Any]) -> str:
    """Return the images that have several labels."""
    conflicts = found["label_conflicts"]
    if not conflicts["images"]:
        return "<p>No image has more than one label.</p>"
    pairs = "".join(
        f"<tr><td>{text(row['a'])}</td><td>{text(row['b'])}</td>"
        f'<td class="number">{row["images"]:,}</td></tr>'
        for row in conflicts["pairs"][:_LISTED]
    )
    examples = "".join(
        "<li>"
        + "; ".join(
            f"{text(one['capture'])} session {one['session']}: <b>{text(one['label'])}</b> "
            f"({text(one['split'])})"
            for one in row["sessions"]
        )
        + "</li>"
        for row in conflicts["examples"]
    )
    return (
        f"<p>{count(conflicts['images'], 'image')}, of {count(conflicts['sessions'], 'session')}, "
        f"have several labels under this mask. Whatever a model says of them, it is wrong for at "
        f"least {conflicts['lost']:,}.</p>"
        '<div class="pair"><div class="scroll-x"><table class="audited"><thead><tr>'
        '<th scope="col">label</th><th scope="col">and</th>'
        '<th scope="col" class="number">images</th></tr></thead>'
        f'<tbody>{pairs}</tbody></table></div><ul class="words">{examples}</ul></div>'
    )
