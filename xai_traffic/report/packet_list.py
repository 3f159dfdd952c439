"""The packets of a session as a table like Wireshark's, readable without the script."""

from __future__ import annotations

from xai_traffic.report.explained import Explained
from xai_traffic.report.field_values import protocol_of
from xai_traffic.report.jsonl import DIRECTIONS
from xai_traffic.report.markup import count, percent, text
from xai_traffic.report.session_data import own_words

WAYS = ("→", "←")


def packet_list(explained: Explained, key: str) -> str:
    """Return the table as HTML; the script makes its rows choosable and adds bars.

    Args:
        key: prefix of the rows' ids, `<key>-p<packet>`.
    """
    shares = explained.shares[explained.leading].packets()
    first = int(explained.packets["time_ns"][0]) if len(explained.packets) else 0
    rows = []  # as short as HTML allows, for there are thousands of them
    for row, packet in enumerate(explained.packets):
        read = row < explained.read
        words = text(own_words(explained, row))
        if not read:
            words += ' <span class="tag unread">not read by the model</span>'
        way = int(packet["direction"])
        rows.append(
            f'<tr id="{key}-p{row}"{"" if read else " class=unread"}>'
            f"<td>{packet['packet']}</td><td>{packet['frame']}</td>"
            f"<td>{(int(packet['time_ns']) - first) / 1e9:.6f}</td>"
            f"<td class=d{way}>{WAYS[way]}<span class=unseen>{DIRECTIONS[way]}</span></td>"
            f"<td>{protocol_of(explained.fields[row])}</td><td>{packet['wire']:,}</td>"
            f"<td class=info>{words}</td><td class=share>{percent(float(shares[row]))}</td></tr>"
        )
    names = ("packet", "frame", "time, s", "way", "protocol", "length", "info", "share")
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    left = explained.verdict["packets"] - len(explained.packets)
    more = f'<p class="quiet">{count(left, "more packet")} without a tile.</p>' if left > 0 else ""
    return (
        f'<div class="scroll packets"><table class="packet-list" aria-label="packets of session '
        f'{explained.verdict["session"]}"><thead><tr>{head}</tr></thead>'
        f"<tbody>{''.join(rows)}</tbody></table></div>{more}"
    )
