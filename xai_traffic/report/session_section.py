"""The part of the report that explains one session.

It is whole without the script, told by the leading method. With it the same tables follow the
method that is chosen, and the static bytes and picture give way to panes that can be walked.
"""

from __future__ import annotations

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.evaluation.answers import is_wrong, verdict_words
from xai_traffic.explain import METHODS, PER_BYTE
from xai_traffic.report.cards import cards, conclusion
from xai_traffic.report.charts import bar, curve_chart
from xai_traffic.report.explained import Explained
from xai_traffic.report.figures import LEFT_OUT
from xai_traffic.report.hex_view import heat_levels, hex_view
from xai_traffic.report.markup import count, data_uri, percent, text
from xai_traffic.report.packet_list import packet_list
from xai_traffic.report.picture import picture_png
from xai_traffic.report.session_data import largest_fields, method_notes, packed

WORDED, DUMPED, CLASSES = 5, 2, 5
"""Packets told in words, packets with a static hex dump, classes listed."""


def session_section(explained: Explained, key: str, rules: ReadingRules) -> str:
    """Return the section as HTML.

    Args:
        key: id of the section, and prefix of the ids in it.
        rules: of the run.
    """
    ranked = explained.ranked()
    return "\n".join(
        [
            f'<section class="session" id="{key}" aria-labelledby="{key}-title">',
            _head(explained, key),
            _switch(explained, key),
            '<div class="columns"><div>',
            "<h3>What the verdict rests on</h3>",
            f'<div class="believe">{conclusion(explained.card())}</div>',
            _words(explained, key, ranked),
            "</div><div>",
            "<h3>Fields, over the whole session</h3>",
            _fields(explained),
            "</div></div>",
            "<h3>Packets</h3>",
            packet_list(explained, key),
            '<div class="panes" hidden></div>',
            _dumps(explained, ranked[:DUMPED], rules),
            _picture(explained),
            _curves(explained),
            cards(explained),
            f'<script type="application/json" class="data">"{packed(explained)}"</script>',
            "</section>",
        ]
    )


def endpoints(verdict: dict) -> str:
    """Return both ends of a session, and those of the tunnel it lies in.

    IPv6 addresses stand in brackets where a port follows.
    """
    ends = []
    for side in ("source", "destination"):
        address, port = verdict[side], verdict[f"{side}_port"]
        if port:
            address = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
        ends.append(text(address))
    shown = f'<span class="address">{ends[0]}</span> → <span class="address">{ends[1]}</span>'
    if verdict["tunnel"]:
        outer = [text(verdict[f"outer_{side}"]) for side in ("source", "destination")]
        shown += (
            f' <span class="quiet">in {text(verdict["tunnel"])} '
            f'<span class="address">{outer[0]}</span> → <span class="address">{outer[1]}</span>'
            "</span>"
        )
    return shown


def _head(explained: Explained, key: str) -> str:
    verdict = explained.verdict
    truth = ""
    if explained.truth is not None:
        wrong = " wrong" * is_wrong(verdict, explained.truth)
        truth = (
            '<span class="tag right">labelled so</span>'
            if explained.truth == verdict["label"]
            else f'<span class="tag{wrong}">labelled {text(explained.truth)}</span>'
        )
    ranked = sorted(verdict["probabilities"].items(), key=lambda item: -item[1])[:CLASSES]
    chances = "".join(
        f'<tr><th scope="row">{text(name)}</th><td>{bar(p, "chance")}</td>'
        f"<td>{percent(p)}</td></tr>"
        for name, p in ranked
    )
    sizes = f"{count(verdict['packets'], 'packet')}, {count(verdict['bytes'], 'byte')}"
    if explained.read < verdict["packets"]:
        sizes += f" (the model reads the first {count(explained.read, 'packet')})"
    community = verdict["community_id"]
    return f"""<header>
<div><h2 id="{key}-title">Session {verdict["session"]}: {text(verdict_words(verdict))}
<span class="probability">{percent(verdict["probability"])}</span> {truth}</h2>
<p>{text(str(verdict["protocol"]).upper())} {endpoints(verdict)}<br>
{text(verdict["first_time"])} to {text(verdict["last_time"])}<br>{sizes}<br>
<span class="quiet">{text(verdict["capture"])}{" · " + text(community) if community else ""}</span>
</p></div>
<table class="chances"><caption>probabilities</caption>{chances}</table>
</header>"""


def _switch(explained: Explained, key: str) -> str:
    """Return the choice of the method; without the script it is not to be seen."""
    choices = "".join(
        f'<label><input type="radio" name="{key}-method" value="{name}"'
        f"{' checked' * (name == explained.leading)}><span>{text(METHODS[name])} "
        f'<span class="grade {explained.card(name).grade}">{explained.card(name).grade}</span>'
        "</span></label>"
        for name in explained.shares
    )
    return f'<fieldset class="switch" hidden><legend>Explained by</legend>{choices}</fieldset>'


def _words(explained: Explained, key: str, ranked: list[int]) -> str:
    parts = explained.shares[explained.leading].packets()
    items = []
    for row in ranked[:WORDED]:
        packet = explained.packets[row]
        fields = ", ".join(
            f"<code>{text(field.name)}</code>\u00a0{percent(share)}"
            for field, share in explained.top_fields(row)[:3]
        )
        items.append(
            f'<li><a href="#{key}-p{row}">packet {packet["packet"]}</a> '
            f'<b>{percent(float(parts[row]))}</b> <span class="way d{packet["direction"]}">'
            f"{text(explained.words[row])}</span><br>"
            f'<span class="quiet">frame {packet["frame"]}; {fields}</span></li>'
        )
    if not items:
        items = ["<li>Nothing: no byte of this session moves the verdict.</li>"]
    notes = "<br>".join(text(note) for note in method_notes(explained, explained.leading))
    return f'<ol class="words">{"".join(items)}</ol><p class="quiet notes">{notes}</p>'


def _fields(explained: Explained) -> str:
    top, rest, others = largest_fields(explained, explained.leading)
    rows = "".join(
        f'<tr><th scope="row"><code>{text(name)}</code></th>'
        f"<td>{bar(share / top[0][1])}</td><td>{percent(share)}</td></tr>"
        for name, share in top
    )
    if rest:
        rows += f'<tr class="quiet"><th scope="row">{count(others, "other field")}</th><td></td>'
        rows += f"<td>{percent(rest)}</td></tr>"
    return f'<table class="fields"><tbody>{rows or "<tr><td>None.</td></tr>"}</tbody></table>'


def _picture(explained: Explained) -> str:
    caption = "The session as the model sees it: one tile a packet, one pixel a byte; in colour "
    caption += "what speaks for the verdict"
    if explained.leading in PER_BYTE:
        caption += " and against it"
    if explained.shown != explained.extent:
        caption += f"; {LEFT_OUT}"
    height, width = explained.shown
    uri = data_uri(picture_png(explained, explained.leading))
    return (
        '<h3>Picture</h3><figure class="picture">'
        f'<img src="{uri}" width="{width}" height="{height}" alt="{caption}">'
        f"<figcaption>{caption}.</figcaption></figure>"
    )


def _curves(explained: Explained) -> str:
    """Return the charts of all methods; the script shows those of the chosen one alone."""
    blocks = []
    for name, units in explained.curves.items():
        charts = "".join(
            "<figure>"
            + curve_chart(
                curve, unit, f"deletion and insertion of {unit} as {METHODS[name]} ranks them"
            )
            + "</figure>"
            for unit, curve in units.items()
        )
        if charts:
            blocks.append(
                f'<div class="curves" data-method="{name}"><h4>{text(METHODS[name])}</h4>'
                f"<div>{charts}</div></div>"
            )
    if not blocks:
        return ""
    legend = (
        '<span class="key del"></span>deleted one after another: a good ranking falls early '
        '<span class="key ins"></span>inserted into nothing: a good ranking rises early '
        '<span class="key chance"></span>mean and spread of random orders'
    )
    return (
        f"<h3>Deletion and insertion: the logit of {text(explained.target)}</h3>"
        f'<p class="legend">{legend}</p>{"".join(blocks)}'
    )


def _dumps(explained: Explained, rows: list[int], rules: ReadingRules) -> str:
    """Return the bytes of some packets, for paper and for browsers without scripts."""
    if not rows:
        return ""
    shares = explained.shares[explained.leading]
    levels = heat_levels(shares.signed)
    parts = shares.packets()
    legend = [f"{METHODS[explained.leading]}: "]
    legend.append('<span class="key p6"></span>for the verdict ')
    if explained.leading in PER_BYTE:
        legend.append('<span class="key n6"></span>against it ')
    if rules.mask != "none":
        legend.append('<span class="key masked"></span>hidden from the model by the mask')
    blocks = []
    for row in rows:
        packet = explained.packets[row]
        cut = packet["captured"] > packet["start"] + packet["length"]
        note = (
            f'<p class="quiet">first {packet["length"]} bytes of {packet["captured"]}</p>'
            if cut
            else ""
        )
        blocks.append(
            f'<div class="packet"><p><b>packet {packet["packet"]}</b> '
            f'{percent(float(parts[row]))} <span class="way d{packet["direction"]}">'
            f"{text(explained.words[row])}</span></p>"
            f"{hex_view(explained, row, levels)}{note}</div>"
        )
    return (
        '<div class="static"><h3>Bytes of the packets with the largest shares</h3>'
        f'<p class="legend">{"".join(legend)}</p>{"".join(blocks)}</div>'
    )
