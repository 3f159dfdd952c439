"""Time the input pipeline, alone and with the step that it feeds.

    python benchmarks/pipeline.py make DATASET SESSIONS SEED
    python benchmarks/pipeline.py loader|both DATASET MODEL DTYPE BATCH SECONDS [SEED]

Started by benchmarks/training.py. "loader" hands batches to the device and drops them. "both" is
what `xai-traffic train` does, by turns with steps on one batch that stays on the device. The
sessions are ragged, 20 of 64 tiles on average, as in benchmark captures.
"""

from __future__ import annotations

import json
import pathlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator

import numpy as np
import pyarrow as pa
from model_cases import CLASSES
from step_timing import peak_of_process

from xai_traffic.capture.masking import MASK_VERSION
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.store import open_dataset
from xai_traffic.data.writer import DatasetWriter

MEAN = 20
"""Tiles of a session on average, of 64 at most."""


def make(path: pathlib.Path, sessions: int, seed: int) -> dict:
    """Write a dataset of ragged sessions of random bytes, all of them in the training split."""
    rng = np.random.default_rng(seed)
    counts = np.clip(rng.geometric(1 / MEAN, sessions), 1, 64).astype(np.int64)
    labels = [f"class {number:02d}" for number in np.arange(sessions) % CLASSES]
    none = np.zeros(sessions, np.int64)
    times = pa.array(none, pa.timestamp("ns", tz="UTC"))
    columns = {
        "session": np.arange(sessions),
        "capture": ["made.pcap"] * sessions,
        "protocol": ["tcp"] * sessions,
        "source": ["10.0.0.1"] * sessions,
        "source_port": none.astype(np.int32),
        "destination": ["10.0.0.2"] * sessions,
        "destination_port": none.astype(np.int32),
        "first_time": times,
        "last_time": times,
        "packets": counts,
        "bytes": counts * 256,
        "community_id": [""] * sessions,
        "end": ["capture end"] * sessions,
        "first_tile": np.cumsum(counts) - counts,
        "tiles": counts.astype(np.int32),
        "packet_rows": none.astype(np.int32),
        "label": labels,
        "binary_label": ["Malware"] * sessions,
        "split": ["train"] * sessions,
        "content_hash": [str(number) for number in range(sessions)],
        **dict.fromkeys(("tunnel", "outer_source", "outer_destination"), [None] * sessions),
        "depth": none.astype(np.uint8),
        **dict.fromkeys(("icmp_type", "icmp_code"), [None] * sessions),
    }
    path.mkdir(parents=True)
    with DatasetWriter(path) as writer:
        for first in range(0, sessions, 1000):
            tiles = int(counts[first : first + 1000].sum())
            writer.append(rng.integers(0, 256, (tiles, 256), np.uint8), pa.table({}))
        manifest = {
            "rules": ReadingRules().to_dict(),
            "mask_version": MASK_VERSION,
            "classes": sorted(set(labels)),
            "seed": seed,
        }
        writer.finish(pa.table(columns), manifest)
    return {"sessions": sessions, "tiles": int(counts.sum())}


def run(
    what: str, path: str, model: str, dtype: str, batch_size: int, seconds: float, seed: int
) -> dict:
    """Time batches of the loader alone, or trained on, by turns with a batch that stays.

    Returns:
        batches; seconds of all of them; inside, of these the seconds that the host spent in the
        loader and in handing batches to the device; of "both" also alone, the seconds of as many
        steps on the batch that stays, in the same process.
    """
    from model_runs import make_training

    from xai_traffic.data.loader import Loader
    from xai_traffic.parallel.mesh import make_mesh

    dataset = open_dataset(path)
    loader = Loader(dataset, dataset.rows("train"), batch_size, seed, drop_last=True)
    inside = [0.0]
    feed = _batches(loader, make_mesh(1), inside)
    if what == "loader":
        timed = _alternate([lambda: next(feed)], seconds, inside)
        return {**timed, "peak": peak_of_process()}
    step, state, still = make_training(model, dtype, batch_size, seed)
    kept = [state]
    del state  # the step gives its memory to the next one

    def train(batch: dict) -> object:
        kept[0], metrics = step(kept[0], batch, None)
        return metrics["loss"]

    timed = _alternate([lambda: train(next(feed)), lambda: train(still)], seconds, inside)
    return {**timed, "peak": peak_of_process()}


def _batches(loader: Iterable[dict], mesh: object, inside: list[float]) -> Iterator[dict]:
    """Yield batches on the device, epoch after epoch; add up the host's seconds for them."""
    from xai_traffic.parallel.sharding import put_batch

    while True:
        epoch = iter(loader)
        while True:
            began = time.perf_counter()
            batch = next(epoch, None)
            if batch is not None:
                batch.pop("rows")
                batch = put_batch(batch, mesh)
            inside[0] += time.perf_counter() - began
            if batch is None:
                break
            yield batch


def _alternate(ways: list[Callable], seconds: float, inside: list[float]) -> dict:
    """Do pieces of a few steps by turns, the first way's and the second's, for so long.

    A piece is long against the wait for the device at its end, as the training's log waits only
    every fifty steps.
    """
    import jax

    for way in [*ways, *ways]:
        began = time.perf_counter()
        jax.block_until_ready(way())
        one = time.perf_counter() - began
    piece = min(50, max(2, round(seconds / 8 / one)))
    inside[0], spent, steps = 0.0, [0.0] * len(ways), 0
    while steps < 2 * piece or sum(spent) < seconds:
        for place, way in enumerate(ways):
            began = time.perf_counter()
            for _ in range(piece):
                last = way()
            jax.block_until_ready(last)
            spent[place] += time.perf_counter() - began
        steps += piece
    timed = {"batches": steps, "seconds": spent[0], "inside": inside[0]}
    return timed | ({"alone": spent[1]} if len(ways) > 1 else {})


def main() -> None:
    """Do what the command line asks for."""
    what, path, *rest = sys.argv[1:]
    if what == "make":
        print(json.dumps(make(pathlib.Path(path), int(rest[0]), int(rest[1]))))
        return
    model, dtype, batch_size, seconds = rest[0], rest[1], int(rest[2]), float(rest[3])
    print(json.dumps(run(what, path, model, dtype, batch_size, seconds, int([*rest, 0][4]))))


if __name__ == "__main__":
    main()
