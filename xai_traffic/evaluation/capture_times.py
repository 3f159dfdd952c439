"""When the sessions of each class were captured, by year.

Classes from different times differ in more than behaviour: in systems, in networks, in what was
then usual. Times before packet capture existed are a clock that somebody reset, and where some
classes have them, that is one more thing that tells them apart.
"""

from __future__ import annotations

from collections import Counter

import numpy as np

from xai_traffic.data.store import Dataset

FIRST_YEAR = 1988
"""The first release of tcpdump: no capture is older."""


def capture_times(dataset: Dataset, labels: np.ndarray, classes: list[str]) -> dict:
    """Count sessions by the year they begin in.

    Args:
        labels: int [N] of all rows of the dataset's table, into `classes`.

    Returns:
        `years`: by year, as text, `sessions` and `per_class` (of classes that have any); and
        `impossible`: part of all sessions that begin before FIRST_YEAR.
    """
    begins = dataset.table["first_time"].to_numpy().astype("datetime64[Y]").astype(int) + 1970
    counts = Counter(zip(begins.tolist(), labels.tolist(), strict=True))
    years: dict[str, dict] = {}
    for (year, label), count in sorted(counts.items()):
        own = years.setdefault(str(year), {"sessions": 0, "per_class": {}})
        own["sessions"] += count
        own["per_class"][classes[label]] = count
    return {"years": years, "impossible": float((begins < FIRST_YEAR).mean())}
