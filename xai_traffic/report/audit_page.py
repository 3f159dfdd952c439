"""audit.html: one file without outside links or scripts, of what `evaluation.audit` found."""

from __future__ import annotations

import importlib.resources
import string
from typing import Any

from xai_traffic import __version__
from xai_traffic.evaluation.capture_times import FIRST_YEAR
from xai_traffic.evaluation.mask_proposal import tells
from xai_traffic.report.audit_data_sections import (
    conflicts_section,
    neighbours_section,
    positions_section,
    shared_section,
)
from xai_traffic.report.audit_fields import fields_section
from xai_traffic.report.audit_run_sections import proposal_section, retrain_section, run_section
from xai_traffic.report.markup import content_hash, count, percent, text

_PARTS = (
    ("fields", "Fields", fields_section),
    ("positions", "Bytes", positions_section),
    ("shared", "Shared identifiers", shared_section),
    ("neighbours", "Nearest neighbours", neighbours_section),
    ("conflicts", "Label conflicts", conflicts_section),
    ("run", "What the run rests on", run_section),
    ("retrain", "Trained again", retrain_section),
    ("mask", "The mask", proposal_section),
)


def render(found: dict[str, Any]) -> str:
    """Return the page of an audit; names, values and paths in it are hostile text."""
    style = _resource("report.css") + _resource("audit_page.css")
    parts = [(key, title, write(found)) for key, title, write in _PARTS]
    parts = [part for part in parts if part[2]]
    return string.Template(_resource("audit_page.html")).substitute(
        style=style,
        style_hash=content_hash(style),
        version=text(__version__),
        summary=_summary(found),
        findings="".join(f"<li>{finding}</li>" for finding in _findings(found)),
        facts=_facts(found),
        contents="".join(f'<li><a href="#{key}">{title}</a></li>' for key, title, _ in parts),
        sections="\n".join(
            f'<section class="part" aria-labelledby="{key}"><h2 id="{key}">{title}</h2>{body}'
            "</section>"
            for key, title, body in parts
        ),
    )


def _resource(name: str) -> str:
    return importlib.resources.files(__package__).joinpath(name).read_text("utf-8")


def _summary(found: dict[str, Any]) -> str:
    sessions = found["sessions"]
    classes = count(len(found["classes"]), "class", "classes")
    return (
        f"{text(found['dataset'])}: {classes}, majority rules learnt on "
        f"{count(sessions['train'], 'training session')} and scored on "
        f"{count(sessions['test'], 'test session')}. The most frequent class alone gives "
        f"{percent(found['baseline'])}."
    )


def _findings(found: dict[str, Any]) -> list[str]:
    """Say in sentences what a reader must not miss."""
    findings = [
        f"<strong>LEAKY</strong>, numbers are not what the split says: {text(reason)}."
        for reason in found["leaky"]
    ]
    for verdict, words in (
        ("identifier", "The identifier that tells most is"),
        ("artefact", "The artefact that tells most is"),
        ("signal", "The signal that tells most is"),
    ):
        rows = [row for row in found["fields"] if row["verdict"] == verdict]
        if rows and tells(rows[0]):
            findings.append(
                f"{words} <code>{text(rows[0]['field'])}</code>: it alone gives "
                f"{percent(rows[0]['accuracy'])} accuracy, "
                f"{percent(rows[0]['balanced_accuracy'])} with all classes weighed alike."
            )
        elif verdict != "signal":
            findings.append(f"No {verdict} tells much of the label by itself.")
    captures = found["captures"]
    if captures["classes_of_one"]:
        classes = count(len(captures["per_class"]), "class", "classes")
        findings.append(
            f"{captures['classes_of_one']} of {classes} "
            "come from a single capture each: there, class and capture are the same thing, and "
            "whatever is of the capture tells the class."
        )
    times = found["capture_times"]
    if times["impossible"] > 0:
        old = [year for year in times["years"] if int(year) < FIRST_YEAR]
        whole = [
            name
            for name, sessions in _per_class(times["years"]).items()
            if sum(sessions.get(year, 0) for year in old) == sum(sessions.values())
        ]
        findings.append(
            f"{percent(times['impossible'])} of the sessions have time stamps of {text(old[0])}, "
            "when nobody captured packets: their clock was reset. "
            f"{count(len(whole), 'class has', 'classes have')} no other time."
        )
    near = found["nearest_neighbours"]
    findings.append(
        f"The label of the nearest training session is right for {percent(near['accuracy'])} of "
        f"the test sessions; {percent(near['within']['0.02'])} of them lie within 2\u00a0% of "
        "their bytes of one."
    )
    images = found["label_conflicts"]["images"]
    if images:
        findings.append(f"{count(images, 'image')} have more than one label.")
    retrained = found["retrain"]
    if retrained:
        before, after = (retrained[name]["accuracy"]["value"] for name in ("before", "after"))
        findings.append(
            f"Trained again under mask <code>{text(retrained['mask'])}</code>, test accuracy is "
            f"{percent(after)} where it was {percent(before)}"
            + (", and the masked dataset is LEAKY." if retrained["after"]["leaky"] else ".")
        )
    elif found["proposal"]["mask"]:
        findings.append(
            f"Mask <code>{text(found['proposal']['mask'])}</code> would hide the identifiers and "
            "artefacts that tell."
        )
    return findings


def _per_class(years: dict[str, dict]) -> dict[str, dict[str, int]]:
    """Return sessions by year for each class."""
    result: dict[str, dict[str, int]] = {}
    for year, own in years.items():
        for name, sessions in own["per_class"].items():
            result.setdefault(name, {})[year] = sessions
    return result


def _facts(found: dict[str, Any]) -> str:
    sessions = ", ".join(
        f"{split} {number:,} of {found['of'][split]:,}"
        for split, number in found["sessions"].items()
    )
    rows = {
        "Dataset": text(found["dataset"]),
        "Labels": text(found["task"]) + ": " + ", ".join(text(name) for name in found["classes"]),
        "Sessions": sessions,
        "Split": text(found["split"]),
        "Sessions by": text(found["rule"]),
        "Mask": text(found["mask"]),
        "Packets dissected": f"{found['packets']:,}",
        "Seed": str(found["seed"]),
    }
    return "".join(f"<dt>{name}</dt><dd>{value}</dd>" for name, value in rows.items())
