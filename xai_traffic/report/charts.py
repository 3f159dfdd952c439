"""Small charts as inline SVG and HTML, which take the page's colours, light or dark."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.evaluation.curves import Curve
from xai_traffic.report.markup import text

WIDTH, HEIGHT, LEFT, TOP, BASE = 360, 150, 46, 10, 34


def curve_chart(curve: Curve, unit: str, label: str) -> str:
    """Return the deletion and insertion curves of one explanation, with the spread of chance.

    Args:
        unit: what is removed and put in, "packets" or "fields".
        label: what the chart shows, for screen readers; hostile text.
    """
    values = (curve.deletion, curve.insertion, curve.random_deletion, curve.random_insertion)
    low, high = min(one.min() for one in values), max(one.max() for one in values)
    if high - low < 1e-6:
        low, high = low - 0.5, high + 0.5
    ticks = even_ticks(low, high)

    def x(place: float) -> float:
        return LEFT + (WIDTH - LEFT - 8) * place

    def y(value: float) -> float:
        return TOP + HEIGHT * (high - value) / (high - low)

    def points(line: np.ndarray) -> list[str]:
        return [f"{x(a):.0f},{y(b):.0f}" for a, b in zip(curve.places, line, strict=True)]

    parts = [
        f'<svg class="curve" viewBox="0 0 {WIDTH} {TOP + HEIGHT + BASE}" role="img" '
        f'aria-label="{text(label)}">'
    ]
    for tick in ticks:
        parts.append(
            f'<path class="rule" d="M{LEFT} {y(tick):.0f}H{WIDTH - 8}"/>'
            f'<text x="{LEFT - 6}" y="{y(tick) + 4:.0f}" text-anchor="end">{tick:g}</text>'
        )
    for kind, chance in (("del", curve.random_deletion), ("ins", curve.random_insertion)):
        # Along the upper edge, and back along the lower one.
        band = points(chance.max(0)) + points(chance.min(0))[::-1]
        parts.append(f'<path class="band {kind}" d="M{"L".join(band)}Z"/>')
        parts.append(f'<path class="chance {kind}" d="M{"L".join(points(chance.mean(0)))}"/>')
    for kind, line in (("del", curve.deletion), ("ins", curve.insertion)):
        parts.append(f'<path class="{kind}" d="M{"L".join(points(line))}"/>')
    base = TOP + HEIGHT
    for place, anchor in ((0, "start"), (0.5, "middle"), (1, "end")):
        parts.append(
            f'<text x="{x(place):.0f}" y="{base + 14}" text-anchor="{anchor}">'
            f"{100 * place:.0f}\u00a0%</text>"
        )
    parts.append(
        f'<text x="{x(0.5):.0f}" y="{base + 29}" text-anchor="middle">'
        f"{unit}, highest share first</text></svg>"
    )
    return "".join(parts)


def bar(share: float, kind: str = "plain") -> str:
    """Return a horizontal bar of a share of 1, to stand beside its number."""
    width = 100 * min(max(share, 0.0), 1.0)
    return (
        '<svg class="bar" viewBox="0 0 100 8" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="back" width="100" height="8" rx="1"/>'
        f'<rect class="{kind}" width="{width:.2f}" height="8" rx="1"/></svg>'
    )


def even_ticks(low: float, high: float, most: int = 5) -> Sequence[float]:
    """Return at most `most` round numbers, evenly spaced, from `low` to `high`."""
    rough = (high - low) / (most - 1)
    power = 10.0 ** np.floor(np.log10(rough))
    step = power * next(part for part in (1, 2, 5, 10) if part * power >= rough * 0.999)
    return [float(n * step) for n in range(int(np.ceil(low / step)), int(high // step) + 1)]
