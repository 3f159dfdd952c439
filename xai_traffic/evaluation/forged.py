"""What a change of network costs a run: its scores on a split, and on the same sessions forged.

Intervals are paired: both scores of a draw are of the same sessions, see `score_intervals.py`. They
say how far other sessions would move a drop, not how far another network would: see `seed`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from xai_traffic.capture.forging import Forged, forge, forgery_name, parse_forgery
from xai_traffic.capture.forging.endpoints import Endpoints, endpoints_of
from xai_traffic.capture.images import spread
from xai_traffic.capture.layouts import TILE_LAYOUTS, make_images
from xai_traffic.data.store import Dataset
from xai_traffic.errors import ConfigError, RunError
from xai_traffic.evaluation.classify import BATCH
from xai_traffic.evaluation.evaluate import asked, predict_split
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.evaluation.scores import score
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.terminal import progress
from xai_traffic.training.run import Run


def evaluate_forged(
    run: Run,
    dataset: Dataset,
    forgeries: Sequence[str],
    split: str = "test",
    *,
    checksums: str = "repaired",
    seed: int = 0,
) -> dict:
    """Return the scores of a run on one split, and how far they drop when it is forged.

    Args:
        run: a trained run.
        dataset: read by the run's rules; its classes must be among the run's.
        forgeries: names, see `capture/forging`.
        split: `train`, `validation` or `test`.
        checksums: of the forged packets, see `capture/forging`.
        seed: of the other network.

    Returns:
        `run`, `step`, `dataset`, `split`, `mask`, `leaky`, `checksums`, `seed`, `sessions`,
        `units` and `unit` (what is drawn); `unforged` with `accuracy` and `macro_f1`, each with
        `value`, `low` and `high` (95 %); and `forgeries`: dicts with `forgery`, the same scores,
        `drop` (of both: unforged less forged), `changed_packets` and `changed_verdicts` (shares),
        and `f1` by class before and after.

    Raises:
        ConfigError: an unknown forgery or no forgery, or its tiles are not packets as captured.
        RunError: as `evaluate_split`; or the sessions have no addresses in their table.
    """
    names = list(dict.fromkeys(forgery_name(name) for name in forgeries))
    if not names:
        raise ConfigError("no forgery is named: give at least one")
    check_forgeable(dataset, names, checksums)
    labels, before = predict_split(run, split, dataset)
    rows = dataset.rows(split)
    # All sessions have their part in the new network, so that it is the same for every split.
    endpoints = endpoints_of(dataset.table, seed)
    if any(map(parse_forgery, names)) and not (endpoints.family[rows] > 0).any():
        raise RunError(f"{dataset.path}: the sessions have no addresses, so no host can be forged")
    draws = Draws(labels, units_of(dataset, rows), len(run.classes), seed)
    unforged, found = score(labels, before, run.classes), []
    for name in names:
        after, changed = _judge_forged(run, dataset, rows, endpoints, name, checksums)
        told = score(labels, after, run.classes)
        verdicts = before.argmax(-1), after.argmax(-1)
        f1 = {
            own: [result["per_class"][own]["f1"] for result in (unforged, told)]
            for own in run.classes
            if told["per_class"][own]["support"]
        }
        found.append(
            {
                "forgery": name,
                **draws.interval(verdicts[1]),
                "drop": draws.difference(*verdicts),
                "changed_packets": changed,
                "changed_verdicts": float((verdicts[0] != verdicts[1]).mean()),
                "f1": {own: {"unforged": a, "forged": b} for own, (a, b) in f1.items()},
            }
        )
    return {
        **asked(run, split, dataset),
        "checksums": checksums,
        "seed": seed,
        "sessions": len(rows),
        "units": draws.count,
        "unit": unit_name(dataset),
        "unforged": draws.interval(before.argmax(-1)),
        "forgeries": found,
    }


def check_forgeable(dataset: Dataset, forgeries: Sequence[str], checksums: str) -> None:
    """Refuse a dataset whose packets cannot be forged.

    Raises:
        ConfigError: its tiles are not packets; or their IP headers, which offloading needs, are
            not in them.
    """
    rules = dataset.rules
    if rules.layout not in TILE_LAYOUTS:
        raise ConfigError(
            f"--forge {','.join(forgeries)}: {dataset.path} has layout {rules.layout!r}, whose "
            "bytes cannot be told apart any more: forge runs of a dataset that was converted with "
            "--layout tiles"
        )
    if checksums == "offloaded" and rules.layers not in ("all", "network"):
        raise ConfigError(
            f"--checksums offloaded: tiles of {dataset.path} begin behind the IP header (layers "
            f"{rules.layers!r}), which says what such a checksum is: leave checksums 'repaired'"
        )


def forge_rows(
    dataset: Dataset,
    rows: np.ndarray,
    endpoints: Endpoints,
    forgery: str,
    checksums: str = "repaired",
) -> Forged:
    """Return the tiles of some sessions forged, those of a session one behind the other.

    Args:
        rows: int [n], of the dataset's table.
        endpoints: of all rows of the table.
    """
    session, place = spread(dataset.tile_counts[rows])
    tiles = dataset.first_tiles[rows][session] + place
    return forge(
        dataset.tiles[tiles],
        dataset.packets.take(tiles),
        rows[session],
        endpoints,
        forgery,
        checksums=checksums,
        mask=dataset.rules.mask,
    )


def _judge_forged(
    run: Run,
    dataset: Dataset,
    rows: np.ndarray,
    endpoints: Endpoints,
    forgery: str,
    checksums: str,
) -> tuple[np.ndarray, float]:
    """Return probabilities float32 [N, K], and the share of packets that look otherwise."""
    parts, changed, total = [], 0, 0
    for start in progress(range(0, len(rows), BATCH), f"forge {forgery}"):
        part = rows[start : start + BATCH]
        counts = dataset.tile_counts[part]
        session, place = spread(counts)
        held = dataset.first_tiles[part][session] + place
        tiles = forge_rows(dataset, part, endpoints, forgery, checksums).tiles
        changed += int((tiles != dataset.tiles[held]).any(1).sum())
        total += len(held)
        first = np.cumsum(counts, dtype=np.int64) - counts
        lengths = dataset.tile_lengths[held]
        images = make_images(dataset.rules.layout, tiles, first, counts, lengths)
        parts.append(run.predict(images))
    return np.concatenate(parts), changed / max(total, 1)
