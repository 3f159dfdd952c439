"""Small bar charts as inline SVG and HTML, which take the page's colours, light or dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.report.markup import percent, text

WIDTH, HEIGHT, LEFT, BASE = 520, 96, 44, 18


def share_chart(
    shares: np.ndarray, directions: Sequence[int], words: Sequence[str], links: Sequence[str | None]
) -> str:
    """Return bars of the packets' shares, coloured by direction.

    Args:
        shares: float [n].
        directions: 0 client to server, 1 server to client.
        words: of each packet; hostile text.
        links: of each packet, the id of its hex view or None.
    """
    places = max(len(shares), 16)
    step = (WIDTH - LEFT) / places
    top = ceiling(float(np.max(shares, initial=0.0)))
    parts = [
        f'<svg class="shares" viewBox="0 0 {WIDTH} {HEIGHT + BASE + 8}" role="img" '
        f'aria-label="share of each packet">'
    ]
    for part in (0.5, 1.0):
        y = 8 + HEIGHT * (1 - part)
        parts.append(f'<line class="rule" x1="{LEFT}" x2="{WIDTH}" y1="{y:g}" y2="{y:g}"/>')
        digits = 0 if top >= 0.1 else 1
        parts.append(
            f'<text x="{LEFT - 6}" y="{y + 4:g}" text-anchor="end">'
            f"{percent(part * top, digits)}</text>"
        )
    for number, share in enumerate(shares):
        x, tall = LEFT + number * step, HEIGHT * float(share) / top
        bar = (
            f'<rect class="d{int(directions[number])}" x="{x + 0.12 * step:.1f}" '
            f'y="{8 + HEIGHT - tall:.2f}" width="{0.76 * step:.1f}" height="{tall:.2f}" rx="1">'
            f"<title>packet {number}: {percent(float(share))}, {text(words[number])}</title></rect>"
        )
        link = links[number]
        parts.append(f'<a href="#{link}" tabindex="-1">{bar}</a>' if link else bar)
        if number % (1 if len(shares) <= 24 else 4) == 0:
            parts.append(
                f'<text x="{x + step / 2:.1f}" y="{HEIGHT + BASE + 4}" '
                f'text-anchor="middle">{number}</text>'
            )
    base = HEIGHT + 8
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH}" y1="{base}" y2="{base}"/></svg>')
    return "".join(parts)


def bar(share: float, kind: str = "plain") -> str:
    """Return a horizontal bar of a share of 1, to stand beside its number."""
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="back" width="100" height="8" rx="1"/>'
        f'<rect class="{kind}" width="{width:.2f}" height="8" rx="1"/></svg>'
    )


def ceiling(largest: float) -> float:
    """Return a round number at or above the largest share."""
    for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8):
        if largest <= top:
            return top
    return 1.0
