"""Which sessions of a split count as one: those that the split's key keeps together.

Sessions of one host or capture are alike, and a hundred of them are no hundred witnesses. An
interval that draws sessions one by one takes them for such, and comes out too narrow.
"""

from __future__ import annotations

import numpy as np

from xai_traffic.data.column_hashes import hash_five_tuples, hash_texts, mix
from xai_traffic.data.leaks import TUPLE
from xai_traffic.data.store import Dataset

UNITS = {
    "capture": "capture",
    "host": "client",
}
"""What a split by a key deals out; under any other key the 5-tuples of a capture."""

FIVE_TUPLE = "5-tuple of a capture"


def unit_name(dataset: Dataset) -> str:
    """Return what the split of a dataset deals out, in words."""
    return UNITS.get((dataset.manifest.get("split") or "").partition(":")[0], FIVE_TUPLE)


def units_of(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    """Return the number of each session's unit, int64 [n], 0 up.

    Sessions without addresses are each their own.

    Args:
        rows: int [n], rows of the dataset's table.
    """
    table = dataset.table.select([*TUPLE, "capture"]).take(rows)
    capture = hash_texts(table["capture"])
    unit = unit_name(dataset)
    if unit == "capture":
        keys = capture
    else:
        keys = hash_texts(table["source"])
        if unit == FIVE_TUPLE:
            keys = mix(hash_five_tuples(table) ^ mix(capture))
        alone = np.asarray(table["source"].is_null())
        keys = np.where(alone, mix(np.asarray(rows, np.uint64)), keys)
    return np.unique(keys, return_inverse=True)[1].astype(np.int64)
