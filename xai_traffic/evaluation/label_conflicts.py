"""One image under two labels: sessions that no model can tell apart, whichever way it decides."""

from __future__ import annotations

from collections import Counter, defaultdict
from itertools import combinations

import numpy as np

from xai_traffic.data.store import Dataset

EXAMPLES = 8
"""Images shown, those of most sessions."""

_SESSIONS = 4  # shown of each


def find_conflicts(dataset: Dataset, labels: np.ndarray, classes: list[str]) -> dict:
    """Find images, as the mask leaves them, that sessions of several labels have.

    Exact duplicates within one label are gone from a dataset already.

    Args:
        labels: int [N] of all rows of the dataset's table, into `classes`.

    Returns:
        `images` and `sessions`, how many are concerned; `pairs`, dicts `a`, `b`, `images`, most
        first; `lost`, sessions that are judged wrongly at least, by any rule whatever; and
        `examples`: dicts with `content_hash` and `sessions` (capture, session, label, split).
    """
    table = dataset.table
    hashes = np.asarray(table["content_hash"].to_pylist(), object)
    _, image = np.unique(hashes.astype(str), return_inverse=True)
    rows_of: dict[int, list[int]] = defaultdict(list)
    sizes = np.bincount(image, minlength=1)
    for row in np.flatnonzero(sizes[image] > 1).tolist():
        rows_of[int(image[row])].append(row)
    mixed = [rows for rows in rows_of.values() if len(set(labels[rows].tolist())) > 1]
    pairs: Counter[tuple[str, str]] = Counter()
    lost = 0
    for rows in mixed:
        tally = Counter(labels[rows].tolist())
        pairs.update(combinations(sorted(classes[label] for label in tally), 2))
        lost += len(rows) - max(tally.values())
    mixed.sort(key=lambda rows: (-len(rows), rows[0]))
    columns = {name: table[name] for name in ("capture", "session", "split")}
    examples = [
        {
            "content_hash": str(hashes[rows[0]]),
            "sessions": [
                {
                    **{name: column[row].as_py() for name, column in columns.items()},
                    "label": classes[labels[row]],
                }
                for row in rows[:_SESSIONS]
            ],
        }
        for rows in mixed[:EXAMPLES]
    ]
    order = sorted(pairs.items(), key=lambda item: (-item[1], item[0]))
    return {
        "images": len(mixed),
        "sessions": sum(map(len, mixed)),
        "lost": lost,
        "pairs": [{"a": a, "b": b, "images": count} for (a, b), count in order],
        "examples": examples,
    }
