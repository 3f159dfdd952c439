"""The part of the report that explains one session."""

from __future__ import annotations

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.explain import METHODS, PER_BYTE, session_fields
from xai_traffic.report.cards import cards, conclusion
from xai_traffic.report.charts import bar, share_chart
from xai_traffic.report.explained import Explained
from xai_traffic.report.figures import LEFT_OUT
from xai_traffic.report.hex_view import heat_levels, hex_view
from xai_traffic.report.jsonl import DIRECTIONS
from xai_traffic.report.markup import count, data_uri, percent, text

WORDED, DUMPED, OPEN = 5, 10, 2
"""Packets told in words, packets with a hex view, those of them that stand open."""

FIELDS, LISTED, CLASSES = 12, 8, 5
"""Fields listed of the session, of a packet; classes listed."""

CAPTIONS = {
    "integrated_gradients": "Integrated Gradients, from the same packets with all bytes zero: the "
    "three regions that speak most for the verdict.",
    "session": "The session as the model sees it: one tile a packet, one pixel a byte.",
    "grad_cam": "Grad-CAM: where the model's last maps speak for the verdict. Coarser than a "
    "packet in most models.",
    "attention": "Attention rollout: what the class token looks at, through all layers. The same "
    "for every class.",
    "gradient_weighted_attention": "Gradient-weighted attention: what the class token looks at for "
    "the sake of this class, through all layers.",
    "attention_heads": "Attention of every head of the last layer, and of all layers below.",
}
PER_BYTE_CAPTION = "{}: the three regions that speak most for the verdict."
GRID_CAPTION = "{}, of the model's last maps. Coarser than a packet in most models."


def session_section(
    explained: Explained, key: str, pictures: dict[str, bytes], rules: ReadingRules
) -> str:
    """Return the section as HTML.

    Args:
        key: id of the section, and prefix of the ids in it.
        pictures: PNG by method, see `figures.write_figures`.
        rules: of the run.
    """
    ranked = explained.ranked()
    dumped = ranked[:DUMPED]
    return "\n".join(
        [
            f'<section class="session" id="{key}" aria-labelledby="{key}-title">',
            _head(explained, key),
            '<div class="columns"><div>',
            "<h3>What the verdict rests on</h3>",
            _words(explained, key, ranked),
            conclusion(explained.card()),
            "</div><div>",
            "<h3>Fields, over the whole session</h3>",
            _fields(explained),
            "</div></div>",
            _pictures(explained, pictures),
            _charts(explained, key, dumped),
            _dumps(explained, key, dumped, ranked, rules),
            cards(explained),
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
        right = explained.truth == verdict["label"]
        truth = (
            '<span class="tag right">labelled so</span>'
            if right
            else f'<span class="tag wrong">labelled {text(explained.truth)}</span>'
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
<div><h2 id="{key}-title">Session {verdict["session"]}: {text(verdict["label"])}
<span class="probability">{percent(verdict["probability"])}</span> {truth}</h2>
<p>{text(str(verdict["protocol"]).upper())} {endpoints(verdict)}<br>
{text(verdict["first_time"])} to {text(verdict["last_time"])}<br>{sizes}<br>
<span class="quiet">{text(verdict["capture"])}{" · " + text(community) if community else ""}</span>
</p></div>
<table class="chances"><caption>probabilities</caption>{chances}</table>
</header>"""


def _words(explained: Explained, key: str, ranked: list[int]) -> str:
    if not ranked:
        return "<p>Nothing: no byte of this session moves the verdict.</p>"
    shares = explained.shares[explained.leading]
    parts = shares.packets()
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
    notes = [f"Shares of |attribution| by {METHODS[explained.leading]}"]
    for name, error in explained.completeness_error.items():
        rise = float(explained.attributions[name].sum(dtype=float))
        notes.append(
            f"{METHODS[name]} accounts for {rise:+.3f} of the logit "
            f"and misses {_small(error)} (completeness error)"
        )
    for name, own in explained.shares.items():
        if own.padding > 0.005:
            notes.append(
                f"{percent(own.padding)} of {METHODS[name]} falls upon padding and is left out"
            )
    return f'<ol class="words">{"".join(items)}</ol><p class="quiet">{"<br>".join(notes)}</p>'


def _small(error: float) -> str:
    return f"{error:.3f}" if error >= 0.001 else f"{error:.1e}" if error else "0"


def _fields(explained: Explained) -> str:
    named = session_fields(explained.shares[explained.leading], explained.fields)
    top = [(name, share) for name, share in named.items() if share > 0][:FIELDS]
    if not top:
        return "<p>None.</p>"
    largest = top[0][1]
    rows = "".join(
        f'<tr><th scope="row"><code>{text(name)}</code></th>'
        f"<td>{bar(share / largest)}</td><td>{percent(share)}</td></tr>"
        for name, share in top
    )
    rest = sum(named.values()) - sum(share for _, share in top)
    if rest > 1e-9:
        others = count(len(named) - len(top), "other field")
        rows += f'<tr class="quiet"><th scope="row">{others}</th><td></td>'
        rows += f"<td>{percent(rest)}</td></tr>"
    return f'<table class="fields">{rows}</table>'


def _pictures(explained: Explained, pictures: dict[str, bytes]) -> str:
    shown = []
    height, width = explained.shown
    for name, png in pictures.items():
        usual = PER_BYTE_CAPTION if name in PER_BYTE else GRID_CAPTION
        caption = CAPTIONS.get(name) or usual.format(METHODS[name])
        if explained.shown != explained.extent:
            caption += f" {LEFT_OUT.capitalize()}."
        image = f'<img src="{data_uri(png)}" alt="{text(caption)}" loading="lazy">'
        if name == "attention_heads":
            shown.append(
                f'</div><details class="heads"><summary>Attention, head by head</summary>'
                f"<figure>{image}<figcaption>{caption}</figcaption></figure></details>"
            )
        else:
            shown.append(f"<figure>{image}<figcaption>{caption}</figcaption></figure>")
    end = "" if "attention_heads" in pictures else "</div>"
    # The flatter they are, the fewer stand side by side: a byte stays large enough to see.
    kind = "pictures" + (" flat" if width >= 4 * height else " wide" if width > height else "")
    return f'<h3>Pictures</h3><div class="{kind}">{"".join(shown)}{end}'


def _charts(explained: Explained, key: str, dumped: list[int]) -> str:
    links = [f"{key}-p{row}" if row in dumped else None for row in range(len(explained.packets))]
    parts = [
        f"<figure><figcaption>{METHODS[name]}</figcaption>"
        + share_chart(shares.packets(), explained.packets["direction"], explained.words, links)
        + "</figure>"
        for name, shares in explained.shares.items()
    ]
    legend = "".join(
        f'<span class="key d{way}"></span>{name} ' for way, name in enumerate(DIRECTIONS)
    )
    return (
        f'<h3>Share of each packet</h3><p class="legend">{legend}</p>'
        f'<div class="charts">{"".join(parts)}</div>'
    )


def _dumps(
    explained: Explained, key: str, dumped: list[int], ranked: list[int], rules: ReadingRules
) -> str:
    if not dumped:
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
    for place, row in enumerate(dumped):
        packet = explained.packets[row]
        cut = packet["captured"] > packet["start"] + packet["length"]
        note = (
            f'<p class="quiet">first {packet["length"]} bytes of {packet["captured"]}</p>'
            if cut
            else ""
        )
        fields = "".join(
            f'<tr data-f="{explained.fields[row].index(field)}" tabindex="0">'
            f'<th scope="row"><code>{text(field.name)}</code></th><td>{percent(share)}</td></tr>'
            for field, share in explained.top_fields(row)[:LISTED]
        )
        blocks.append(
            f'<details class="packet" id="{key}-p{row}"{" open" * (place < OPEN)}><summary>'
            f"<b>packet {packet['packet']}</b> {percent(float(parts[row]))} "
            f'<span class="way d{packet["direction"]}">{text(explained.words[row])}</span> '
            f'<span class="quiet">frame {packet["frame"]}</span></summary>'
            f'<div class="dump"><div>{hex_view(explained, row, levels)}{note}</div>'
            f'<table class="fields">{fields}</table></div></details>'
        )
    rest = ranked[DUMPED:]
    if rest:
        held = percent(float(parts[rest].sum()))
        blocks.append(
            f'<p class="quiet">{count(len(rest), "more packet")} with {held} of the attribution '
            "in explanations.jsonl.</p>"
        )
    return f'<h3>Bytes</h3><p class="legend">{"".join(legend)}</p>{"".join(blocks)}'
