"""What an audit says of a run, of the mask it proposes, and of the training under it, as HTML."""

from __future__ import annotations

from typing import Any

from xai_traffic.explain import METHODS
from xai_traffic.report.charts import bar
from xai_traffic.report.intervals import ends
from xai_traffic.report.markup import count, percent, text


def run_section(found: dict[str, Any]) -> str:
    """Return attribution by field beside the drop when it is exchanged; empty without a run."""
    run = found["run"]
    if run is None:
        return ""
    verdicts = {row["field"]: row["verdict"] for row in found["fields"]}
    rows = [row for row in run["fields"] if row["drop"] is not None]
    rows.sort(key=lambda row: (-row["drop"]["mean"], -row["share"]))
    body = "".join(_row(row["field"], row, verdicts.get(row["field"])) for row in rows)
    groups = "".join(
        _row(f"all that mask {row['group']} hides", row, None) for row in run["groups"]
    )
    head = (
        '<tr><th scope="col">field</th><th scope="col">verdict</th>'
        '<th scope="col" class="number">share of attribution</th>'
        '<th scope="col" class="number">accuracy lost when exchanged</th>'
        '<th scope="col" class="number">95 %</th></tr>'
    )
    return (
        f"<p>{text(run['run'])} ({text(run['model'])}, step {run['step']:,}) judges "
        f"{percent(run['accuracy'])} of {count(run['sessions'], 'test session')} rightly "
        f"({ends(run['interval'], percent)}). Beside "
        f"the share of each field in what {text(METHODS[run['method']])} says the verdicts rest on "
        "stands the accuracy that is lost when sessions exchange that field: each gets the values "
        "of another one, lengths and checksums made right again. A share without a loss is blame "
        "without effect, or another field says the same; a loss without a share is overlooked by "
        "the explanation.</p>"
        f'<div class="scroll-x"><table class="audited"><thead>{head}</thead>'
        f"<tbody>{body}</tbody><tbody>{groups}</tbody></table></div>"
    )


def _row(name: str, row: dict[str, Any], verdict: str | None) -> str:
    drop = row["drop"]
    tag = f'<span class="verdict {verdict}">{verdict}</span>' if verdict else ""
    return (
        f'<tr><th scope="row">{text(name)}</th><td>{tag}</td>'
        f'<td class="number">{bar(row["share"], "share")} {percent(row["share"])}</td>'
        f'<td class="number">{bar(drop["mean"], "drop")} {_points(drop["mean"])}</td>'
        f'<td class="number">{ends(drop, _points)}</td></tr>'
    )


def _points(part: float) -> str:
    """Return a difference of shares in points, with a true minus sign."""
    return f"{100 * part:.1f}".replace("-", "\u2212")


def _percent(part: float) -> str:
    return percent(part, 2)


def retrain_section(found: dict[str, Any]) -> str:
    """Return both scores; empty where nothing was trained."""
    retrained = found["retrain"]
    if retrained is None:
        return ""
    rows = "".join(
        f'<tr><th scope="row">{words}{" <b>LEAKY</b>" * bool(row["leaky"])}</th>'
        f'<td class="number">{row["sessions"]:,}</td>'
        f'<td class="number">{bar(row["accuracy"]["value"], "drop")} '
        f"{_percent(row['accuracy']['value'])}</td>"
        f'<td class="number">{ends(row["accuracy"], _percent)}</td>'
        f'<td class="number">{_percent(row["macro_f1"]["value"])}</td>'
        f'<td class="number">{ends(row["macro_f1"], _percent)}</td></tr>'
        for words, row in (("as it was", retrained["before"]), ("masked", retrained["after"]))
    )
    differ = retrained["difference"]
    leaks = "".join(
        f"<p>The masked dataset is LEAKY: {text(reason)}.</p>"
        for reason in retrained["after"]["leaky"]
    )
    line = (
        f"<p>Of the {count(differ['sessions'], 'test session')} that both have, the difference is "
        f"<b>{_points(differ['mean'])} points</b> ({ends(differ, _points)}, 95\u00a0% by "
        "bootstrap over what the split keeps together).</p>"
        if differ["mean"] is not None
        else "<p>No test session is in both.</p>"
    )
    return (
        "<p>The same config, trained under mask "
        f"<code>{text(retrained['mask'])}</code> on the same split. "
        "A mask makes some sessions equal to others; those are left out once.</p>"
        '<div class="scroll-x"><table class="audited"><thead><tr><th scope="col">run</th>'
        '<th scope="col" class="number">test sessions</th>'
        '<th scope="col" class="number">accuracy</th><th scope="col" class="number">95 %</th>'
        '<th scope="col" class="number">macro-F1</th><th scope="col" class="number">95 %</th>'
        f"</tr></thead><tbody>{rows}</tbody></table>"
        f"</div>{leaks}{line}"
    )


def proposal_section(found: dict[str, Any]) -> str:
    """Return the mask that is proposed, what it leaves, and the commands."""
    proposal = found["proposal"]
    parts = []
    if proposal["mask"]:
        hides = "".join(
            f'<tr><th scope="row">{text(mask)}</th><td>{_names(names)}</td></tr>'
            for mask, names in proposal["hides"].items()
        )
        commands = "\n".join(text(command) for command in proposal["commands"])
        parts.append(
            f"<p>Mask <code>{text(proposal['mask'])}</code> hides the identifiers and artefacts "
            "that tell. What is left of the score without them is the honest one.</p>"
            '<div class="scroll-x"><table class="audited"><thead><tr><th scope="col">mask</th>'
            f'<th scope="col">hides</th></tr></thead><tbody>{hides}</tbody></table></div>'
            f'<pre class="commands">{commands}</pre>'
        )
    else:
        parts.append("<p>No identifier or artefact that a mask can hide tells much.</p>")
    if proposal["left"]:
        parts.append(
            f"<p>These tell as well, and only masks <code>header</code> or <code>payload</code> "
            f"hide them, with much else: {_names(proposal['left'])}.</p>"
        )
    if proposal["outside"]:
        parts.append(
            f"<p>These are not in the image, so that models do not see them: "
            f"{_names(proposal['outside'])}. They tell that the classes were captured at other "
            "times or in other ways; only other captures help.</p>"
        )
    return "".join(parts)


def _names(names: list[str]) -> str:
    return ", ".join(f"<code>{text(name)}</code>" for name in names)
