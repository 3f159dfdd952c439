"""Of a model card: the sections on what the model was trained and evaluated on."""

from __future__ import annotations

import hashlib
from collections import Counter
from typing import Any

from xai_traffic.capture.masking import MASKS, parse_mask
from xai_traffic.data.split import SPLITS
from xai_traffic.evaluation.run_record import RunRecord
from xai_traffic.report.markdown import bullets, code, codes, percent, table

LISTED = 20
"""Most captures that are listed; of more there is one hash over all."""

SPLIT_KEYS = {
    "random": "sessions by chance, those of one 5-tuple of one capture together",
    "hash": "sessions by a hash of their bytes, those of one 5-tuple of one capture together",
    "session": "sessions, all of one 5-tuple together",
    "host": "sessions by host, all of one initiator together",
    "time": "sessions by time: the test is later than the training",
    "capture": "whole captures",
    "family": "sessions by family: some classes are in the test alone",
}
"""What each key of a split deals out."""


def split_key(record: RunRecord) -> str | None:
    """Return the key that the dataset was split by, None where it is not known."""
    return ((record.manifest or {}).get("split") or "").partition(":")[0] or None


def hides(record: RunRecord) -> str:
    """Return what the mask hides, in words."""
    names = [name for name in MASKS if name in parse_mask(record.mask)]
    return "nothing" if not names else ", ".join(names)


def training_data(record: RunRecord) -> list[str]:
    """Return the section on the training data: captures, what became of them, labels, split."""
    reading, manifest = record.summary.reading, record.manifest
    sizes = (record.summary.result or {}).get("sessions", {})
    lines = [f"Dataset {code(reading['dataset']['manifest_sha256'])} (SHA-256 of its manifest)."]
    if sizes:
        lines[0] += (
            f" Trained on {sizes['train']:,} sessions; {sizes['validation']:,} of the validation "
            "split chose the checkpoint."
        )
    lines.append("")
    if manifest is None:
        return [
            *lines,
            "Captures, classes and split: *not at hand*, for the dataset is gone or was made anew. "
            "With it in its place: `xai-traffic card RUN`.",
            "",
        ]
    return [
        *lines,
        *_captures(manifest.get("captures")),
        *_rules(reading["rules"], manifest),
        *_per_class(manifest.get("per_class")),
        *_faults(manifest),
    ]


def _captures(captures: list[dict[str, Any]] | None) -> list[str]:
    if not captures:
        return ["Captures: *not told* by the manifest.", ""]
    size = sum(row.get("bytes") or 0 for row in captures)
    packets = sum(row["packets"] for row in captures)
    told = f"{len(captures):,} captures, {size:,} bytes, {packets:,} packets"
    if len(captures) > LISTED:
        return [
            f"{told}; {code(captures_sha256(captures))} is the SHA-256 of their hashes and names, "
            "a line `SHA-256  NAME` each, sorted.",
            "",
        ]
    rows = [(code(row["capture"]), code(row["sha256"]), f"{row['packets']:,}") for row in captures]
    return [f"{told}:", "", *table(("capture", "SHA-256", "packets"), rows)]


def captures_sha256(captures: list[dict[str, Any]]) -> str:
    """Return one hash over hashes and names of captures, as `sha256sum | sort | sha256sum` does."""
    lines = sorted(f"{row['sha256']}  {row['capture']}\n" for row in captures)
    text = "".join(lines).encode("utf-8", "surrogateescape")
    return hashlib.sha256(text).hexdigest()


def _rules(rules: dict[str, Any], manifest: dict[str, Any]) -> list[str]:
    split = manifest.get("split")
    key = (split or "").partition(":")[0]
    facts = manifest.get("split_facts", {})
    left_out = facts.get("left_out") or []
    items = [
        "read by " + ", ".join(f"{name} {code(value)}" for name, value in rules.items()),
        "labels by "
        + {"folder": "folder", "table": "a table of captures and filters"}.get(
            manifest.get("labels"), "means that the manifest does not tell"
        ),
        f"split {code(split)}, seed {manifest.get('seed')}: {SPLIT_KEYS[key]}"
        if key in SPLIT_KEYS
        else "split by means that the manifest does not tell",
    ]
    if left_out:
        items.append(f"left out of training: {codes(left_out)}")
    near = manifest.get("near_duplicates")
    items.append(
        "near duplicates: not looked for (`xai-traffic convert --near-duplicates`)"
        if near is None
        else f"near duplicates ({code(near['action'])}, Jaccard at least {near['threshold']:g}): "
        f"{near['clusters']:,} clusters of {near['sessions']:,} sessions"
    )
    return bullets(items)


def _per_class(per_class: dict[str, dict[str, Any]] | None) -> list[str]:
    if not per_class:
        return ["Sessions by class: *not told* by the manifest.", ""]
    splits = list(next(iter(per_class.values()))["splits"])
    rows = [
        (
            code(label) if label else "(no label)",
            *(
                f"{count:,}"
                for count in (
                    own["sessions"],
                    own["kept"]["sessions"],
                    own["duplicates"],
                    *(own["splits"][split] for split in splits),
                )
            ),
        )
        for label, own in per_class.items()
    ]
    lines = table(("class", "sessions", "kept", "exact duplicates", *splits), rows)
    packets: Counter[str] = Counter()
    for own in per_class.values():
        packets.update(own["dropped"])
    if packets:
        reasons = ", ".join(
            f"{code(reason)} {count:,}" for reason, count in sorted(packets.items())
        )
        lines += [f"Dropped packets, by reason: {reasons}.", ""]
    return lines


def _faults(manifest: dict[str, Any]) -> list[str]:
    items = []
    for row in manifest.get("label_conflicts") or []:
        items.append(
            f"images that have both labels {code(row['a'])} and {code(row['b'])}: {row['images']:,}"
        )
    faults = [row["capture"] for row in manifest.get("captures") or [] if row.get("fault")]
    if faults:
        shown = codes(faults[:LISTED]) + ", ..." * (len(faults) > LISTED)
        items.append(f"captures that were not read to their end, {len(faults):,}: {shown}")
    items += [code(warning) for warning in manifest.get("warnings") or []]
    return ["What the conversion warned of:", "", *bullets(items)] if items else []


def evaluation_data(record: RunRecord) -> list[str]:
    """Return the section on the evaluation data: sessions, units, and what training shares."""
    lines = []
    for split, own in record.measured["evaluation"].items():
        confidence = own["confidence"]
        stale = record.stale(own)
        lines.append(
            f"- Split {split}: {own['sessions']:,} sessions, {confidence['units']:,} units "
            f"(a unit is one {confidence['unit']})" + f"; **{stale}**" * bool(stale)
        )
    if not lines:
        lines = ["*Not measured:* `xai-traffic evaluate RUN`."]
    lines.append("")
    for reason in record.leaky:
        lines += [f"**LEAKY: {code(reason)}**", ""]
    leaks = (record.manifest or {}).get("leaks")
    if leaks is None:
        return [*lines, "What training and test share: *not at hand*.", ""]
    sizes = leaks["sessions"]
    lines += [
        "Sessions in the splits of the dataset that it was trained on: "
        + ", ".join(f"{name} {sizes[name]:,}" for name in SPLITS)
        + ".",
        "",
    ]
    if not sizes["test"]:
        return lines
    rows = [
        (
            kind.replace("_", " "),
            "not looked for" if found is None else f"{found['sessions']:,}",
            "" if found is None else percent(found["sessions"] / sizes["test"]),
        )
        for kind, found in leaks["shared"].items()
    ]
    if not record.leaky:
        lines += ["By its own key that split does not leak.", ""]
    elif not any(leaks["leaky"].values()) and not record.measured_elsewhere:
        lines += ["The split was changed since; what follows is as it was made.", ""]
    return [*lines, *table(("shared with training", "test sessions", "part"), rows)]
