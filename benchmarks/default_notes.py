"""What the makers of the model to start with say of it, as its card has it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from default_sessions import LICENCES, MOST, SILENT
from default_unseen import Unseen

from xai_traffic.report.markdown import percent, table

COMMAND = (
    "python benchmarks/default_model.py --captures CAPTURES --work DIR "
    "--out xai_traffic/default_model"
)
MEANT = """\
This model comes with xai_traffic so that `xai-traffic classify default CAPTURE` and
`xai-traffic explain default CAPTURE` say something before anybody has trained anything. It tells
which of 16 protocols a session speaks by what is said alone: it sees no header, so no address, no
port, no hop count and no clock can tell it anything. It is **no detector of malware**: it knows no
family, and malware that speaks HTTP is HTTP to it. Train your own on your own captures for that.

It has never seen any protocol but the 16, nor traffic of a network in work: its captures are test
cases of two projects, chosen to exercise parsers, and often odd. It sees nothing behind the first 8
packets of a session or the first 256 bytes of a packet's payload, and does not judge sessions
without a payload at all, such as scans and refused connections. Of what is encrypted from the first
byte there is nothing for it to see.
"""


def notes(seen: Sequence[Unseen], families: dict[str, Any]) -> str:
    """Return the notes in Markdown.

    Args:
        seen: what it says of other captures.
        families: what a model finds that knows families of malware too, see `alarms`.
    """
    used = [name for name in LICENCES if name in ("OISF/suricata-verify", "zeek/zeek")]
    kept = ", ".join(f"{name} ({LICENCES[name]})" for name in used)
    stated = ", ".join(f"{name} ({LICENCES[name]})" for name in LICENCES if name not in used)
    rows = [
        (
            one.name,
            f"{one.captures:,}",
            f"{one.sessions:,}",
            percent(one.unknown),
            f"{one.on_ports:,}",
            percent(one.agree),
            percent(one.otherwise),
            ", ".join(f"{label} {count:,}" for label, count in one.labels.most_common(4)),
        )
        for one in seen
    ]
    columns = ("source", "captures", "sessions", "called unknown", "on a port of the 16")
    columns += ("get its protocol", "get another", "called, most often")
    return "\n".join(
        [
            MEANT,
            "### Licences of what it learnt from",
            "",
            f"Its captures are of {kept}; at most {MOST} sessions of one capture and label are in "
            "its splits. Never trained on, for no licence is stated: "
            f"{', '.join(SILENT)}, and all of USTC-TFC2016, whose parts have several sources. No "
            "capture is in the package.",
            "",
            f"Malicious sessions of {stated} would be allowed too, and were left out. A model of "
            f"the same recipe that knows their {len(families['families'])} families as well "
            f"({', '.join(families['families'])}) calls malicious "
            f"{_called(families['benign'])} benign test sessions, {_called(families['malicious'])} "
            f"malicious sessions of other sources, and {_called(families['own'])} among these that "
            "are of families it knows, with intervals by capture. Most of these families are one "
            "capture each, so that no split by capture can test them.",
            "",
            "### What it says of captures that it has never seen",
            "",
            "The score of its unknown rule was chosen by how well five scores tell the four "
            "programs above under classes that it has never seen, which flatters it there.",
            "",
            "Whole captures, intervals by capture. Most sessions of malware captures are ordinary "
            "background. A port of the 16 is one that stands for a protocol it knows; malware need "
            "not keep to that, so that what gets another is an error or a find.",
            "",
            *table(columns, rows),
            f"Made by `{COMMAND}`.",
        ]
    )


def _called(found: dict[str, Any]) -> str:
    """Return "6 of 1,943 (0.31 % (0.00, 2.10))"."""
    return f"{found['called']:,} of {found['sessions']:,} ({percent(found['part'])})"
