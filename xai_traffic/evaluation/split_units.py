"""Which sessions of a split count as one: those that the split's key keeps together.

Sessions of one host or capture are alike, and a hundred of them are no hundred witnesses. An
interval that draws sessions one by one takes them for such, and comes out too narrow.
"""

from __future__ import annotations

import numpy as np

from xai_traffic.data.column_hashes import hash_five_tuples, hash_texts, mix
from xai_traffic.data.deal import connected, ties
from xai_traffic.data.leaks import TUPLE
from xai_traffic.data.store import Dataset

UNITS = {
    "capture": "capture",
    "host": "client",
    "session": "5-tuple",
}
"""What a split by a key deals out; under any other key the 5-tuples of a capture."""

FIVE_TUPLE = "5-tuple of a capture"


def unit_name(dataset: Dataset) -> str:
    """Return what the split of a dataset deals out, in words."""
    key = (dataset.manifest.get("split") or "").partition(":")[0]
    return UNITS.get(key, FIVE_TUPLE)


def units_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the number of each session's unit, int64 [n], 0 up.

    Sessions without addresses are each their own. Clients of one 5-tuple of a capture are one, for
    they are dealt out together.

    Args:
        rows: int [n], rows of the dataset's table.
    """
    table = dataset.table.select([*TUPLE, "capture"]).take(rows)
    capture = hash_texts(table["capture"])
    unit = unit_name(dataset)
    if unit == "capture":
        keys = capture
    else:
        keys = hash_five_tuples(table)
        if unit != UNITS["session"]:
            keys = mix(keys ^ mix(capture))
        alone = np.asarray(table["source"].is_null())
        keys = np.where(alone, mix(np.asarray(rows, np.uint64)), keys)
        if unit == UNITS["host"]:
            groups = np.unique(keys, return_inverse=True)[1]
            tied = ties(groups[~alone], hash_texts(table["source"])[~alone])
            keys = connected(*tied, len(groups))[groups]
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
