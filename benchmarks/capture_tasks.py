"""Do one of the benchmark's tasks with xai_traffic and print what it took as a line of JSON.

    python benchmarks/capture_tasks.py TASK ARGUMENT...

benchmarks/capture.py runs each in a process of its own. The time leaves imports out.
"""

from __future__ import annotations

import json
import pathlib
import resource
import sys
import time
import zlib
from collections.abc import Callable

import numpy as np
import zstandard

from xai_traffic.capture import assembly
from xai_traffic.capture.core import core_name
from xai_traffic.capture.reader import CHUNK, open_chunks
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.capture.sessions import read_batches

SESSIONS, MEAN_TILES, BATCH = 60_000, 20, 256
"""Of the data that batches are put together of: 300 MB, more than the caches hold."""


def read(capture: str, *choices: str) -> dict:
    """Read a capture to tiles and rows in memory, piece by piece; `max_open=N` and the like."""
    rules = ReadingRules(**{name: int(value) for name, value in (c.split("=") for c in choices)})
    reader = read_batches(capture, rules)
    tiles = sessions = octets = 0
    for batch in reader:
        tiles += len(batch.tiles)
        sessions += len(batch.sessions)
        octets += batch.tiles.nbytes
    return {
        "packets": reader.packets,
        "tiles": tiles,
        "sessions": sessions,
        "dropped": reader.dropped,
        "fault": reader.fault,
        "core": core_name(),
    }


def convert(captures: str, out: str, workers: str) -> dict:
    """Make a dataset on disk."""
    from xai_traffic.data.build import convert as make

    rules, split = ReadingRules(), "random:70/10/20"
    made = make([captures], out, rules=rules, split=split, workers=int(workers))
    holds = made.manifest["holds"]
    return {"tiles": holds["tiles"], "sessions": holds["sessions"]}


def shard(captures: str, out: str, which: str, *choices: str) -> dict:
    """Make a shard on disk; `split=SPEC` and reading rules such as `min_packets=N`."""
    from xai_traffic.data.build import convert as make

    given = dict(choice.split("=", 1) for choice in choices)
    split = given.pop("split", None)
    kinds = {name: type(value) for name, value in vars(ReadingRules()).items()}
    rules = ReadingRules(**{name: kinds[name](value) for name, value in given.items()})
    return _held(make([captures], out, rules=rules, split=split, shard=which).manifest, out)


def merge(shards: str, out: str) -> dict:
    """Merge shards to a dataset on disk."""
    from xai_traffic.data.build import convert as make

    return _held(make([shards], out, rules=ReadingRules()).manifest, out)


def opened(dataset: str) -> dict:
    """Open a dataset as training does."""
    from xai_traffic.data.store import open_dataset

    held = open_dataset(dataset)
    return {"sessions": len(held), "labels": len(held.labels)}


def _held(manifest: dict, out: str) -> dict:
    """Return what went into a dataset and what came of it."""
    captures = manifest["captures"]
    return {
        "packets": sum(row["packets"] for row in captures),
        "captured": sum(row["bytes"] or 0 for row in captures),
        "captures": len(captures),
        **manifest["holds"],
        "bytes": sum(file.stat().st_size for file in pathlib.Path(out).iterdir()),
        "tables": sum(file.stat().st_size for file in pathlib.Path(out).glob("*.parquet")),
    }


def chunks(path: str) -> dict:
    """Decompress a capture as the reader does, and do nothing with it."""
    return {"bytes": sum(map(len, open_chunks(path)))}


def decompressor(path: str) -> dict:
    """Decompress with Python's zlib or zstandard alone, pieces of CHUNK compressed bytes."""
    if path.endswith(".gz"):
        decompress = zlib.decompressobj(wbits=31).decompress
    else:
        decompress = zstandard.ZstdDecompressor().decompressobj().decompress
    made = 0
    with open(path, "rb", buffering=0) as file:
        while piece := file.read(CHUNK):
            made += len(decompress(piece))
    return {"bytes": made}


def batches(form: str, way: str, sessions: str) -> Callable[[], dict]:
    """Put shuffled batches together: `form` is images or tiles, `way` what does it.

    Ways: "c" and "numpy" into reused memory, "fresh" into new memory, "device" from tiles that
    stay on an accelerator, "memcpy" copies as many bytes as the tiles have, in order.
    """
    rng = np.random.default_rng(0)
    number = int(sessions)
    count = np.clip(rng.geometric(1 / (MEAN_TILES + 1), number), 1, 64)
    first = np.cumsum(count) - count
    tiles = rng.integers(0, 256, (count.sum(), 256), np.uint8)
    order = rng.permutation(number)[: number // BATCH * BATCH].reshape(-1, BATCH)
    images = form == "images"
    if way == "device":
        return _on_device(tiles, first, count, order)
    if way == "numpy":
        assembly._images = None
    elif way == "c" and assembly._images is None:
        return lambda: {"absent": "the C part was not built"}
    memory = assembly.BatchMemory(BATCH, images=images)
    scratch = np.empty((int(count.max()) * BATCH, 256), np.uint8)

    def run() -> dict:
        for chosen in order:
            if way == "memcpy":
                span = slice(first[chosen[0]] % 4096, None)
                part = tiles[span][: int(count[chosen].sum())]
                scratch[: len(part)] = part
            else:
                made = memory if way != "fresh" else assembly.BatchMemory(BATCH, images=images)
                made.fill(tiles, first[chosen], count[chosen])
        return {"images": order.size}

    run()  # touches the memory for the first time
    return run


def _on_device(
    tiles: np.ndarray, first: np.ndarray, count: np.ndarray, order: np.ndarray
) -> Callable[[], dict]:
    import jax

    from xai_traffic.ops.tiles import gather_tiles, images_from_tiles

    device = jax.devices()[0]
    if device.platform == "cpu":
        return lambda: {"absent": "no accelerator"}
    images = jax.jit(lambda *rows: images_from_tiles(gather_tiles(*rows)))
    there = jax.device_put(tiles)
    first, count = first.astype(np.int32), count.astype(np.int32)

    def run() -> dict:
        for chosen in order:
            made = images(there, first[chosen], count[chosen])
        made.block_until_ready()
        return {"images": order.size, "device": device.device_kind}

    run()
    return run


TASKS = {
    "read": read,
    "convert": convert,
    "shard": shard,
    "merge": merge,
    "opened": opened,
    "chunks": chunks,
    "decompressor": decompressor,
    "batches": batches,
}


def main() -> None:
    """Do one task."""
    name, *arguments = sys.argv[1:]
    if name in ("convert", "shard", "merge", "opened"):
        import xai_traffic.data.build  # noqa: F401 - outside of the time
    run: Callable[[], dict]
    if name == "batches":
        run = batches(*arguments)
    else:
        task = TASKS[name]

        def run() -> dict:
            return task(*arguments)

    began, used = time.perf_counter(), time.process_time()
    made = run()
    seconds, used = time.perf_counter() - began, time.process_time() - used
    status = pathlib.Path("/proc/self/status").read_text()
    peak = int(status.split("VmHWM:")[1].split()[0]) * 1024
    children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    print(json.dumps({"seconds": seconds, "cpu": used, **made, "peak": max(peak, children)}))


if __name__ == "__main__":
    main()
