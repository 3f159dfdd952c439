"""Time metrics of explanations beside Quantus, on shared weights, inputs and attributions.

    python benchmarks/explain_quantus.py --peers DIR --install-peers   once: Quantus and PyTorch
    python benchmarks/explain_quantus.py --peers DIR                   everything, idle machine
    python benchmarks/explain_quantus.py --peers DIR --quick           one small case: does it run

For each network and metric: deletion curves (their PixelFlipping) of 16 sessions of 128 x 128 in
256 steps, the faithfulness correlation (our sensitivity-n) with 100 subsets, ROAD at seven shares
(ours also removes the least first, twice the images), and the forward pass alone of the same 16
sessions. Every run is a process of its own, both sides take turns, both use the same cores; the
second call is timed, so no compilation and no start. "seconds" is by the clock, "busy" what the
cores worked. Since 0.6 Quantus judges the examples of a batch together, a step at a time, so on a
CPU both wait for the network most of the time. Where both compute the same, "difference" is by how
much they differ at most, as part of the largest value.

Prints a line of JSON a run and the medians last.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import explain_quantus_model as shared
import numpy as np
from machine import machine, own_versions
from processes import Run, measure

HERE = pathlib.Path(__file__).parent
OURS, THEIRS = "xai_traffic", "Quantus"
BATCH = 16
PACKAGES = ["torch", "torchvision", "quantus==0.6.0"]
EXACT = ("forward", "deletion")
"""Metrics without a random draw, whose values can be compared as they are."""


def cases(
    python: str | pathlib.Path,
    *,
    threads: int = 2,
    rounds: int = 3,
    seed: int = 0,
    sizes: tuple[str, ...] = tuple(shared.SIZES),
    metrics: tuple[str, ...] = shared.METRICS,
    batch: int = BATCH,
) -> Iterator[dict]:
    """Run each case by both and yield its records, then one that compares them.

    Args:
        python: of the environment that has Quantus; where it is not there, the records say so.
        threads: of both; as many of this process's cores are handed to them.
        rounds: in which both take turns.
        seed: of weights, sessions and attributions.
        sizes, metrics: of `explain_quantus_model`.
        batch: sessions.

    Yields:
        the records of `processes.measure`, and behind each case a record with `case`, `name`
        "compared", `faster` (median over rounds of their seconds over ours), `busy_ratio` (the same
        of the cores' work) and `difference`.
    """
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        for size in sizes:
            for metric in metrics:
                yield from _case(python, metric, size, batch, threads, rounds, seed)
    finally:
        os.sched_setaffinity(0, before)


def _case(python, metric, size, batch, threads, rounds, seed) -> Iterator[dict]:
    facts = {"metric": metric, "model": size, "batch": batch, "threads": threads}
    with tempfile.TemporaryDirectory() as folder:
        files = [f"{folder}/{side}.npy" for side in ("ours", "theirs")]
        common = [metric, size, str(batch)]
        ours = [sys.executable, str(HERE / "explain_quantus_ours.py"), *common]
        theirs = [str(python), str(HERE / "explain_quantus_peer.py"), *common, str(threads)]
        made = {"unit": "images", "free": True, "facts": facts}
        absent = "" if pathlib.Path(python).exists() else f"no Python of the peers at {python}"
        runs = [
            Run(OURS, [*ours, str(seed), files[0]], **made),
            Run(THEIRS, [*theirs, str(seed), files[1]], absent=absent, **made),
        ]
        records = measure(f"{metric}, {size}", runs, rounds)
        yield from records
        timed = [{}, {}]
        for record in records:
            if "absent" not in record:
                timed[record["name"] == THEIRS][record["round"]] = record
        both = sorted(timed[0].keys() & timed[1].keys())
        if not both:
            return
        compared = {"case": f"{metric}, {size}", "name": "compared", **facts}
        for key, name in (("seconds", "faster"), ("busy", "busy_ratio")):
            compared[name] = statistics.median(timed[1][n][key] / timed[0][n][key] for n in both)
        if metric in EXACT:
            ours, theirs = (np.load(path) for path in files)
            compared["difference"] = float(np.abs(ours - theirs).max() / np.abs(theirs).max())
        print(json.dumps(compared), flush=True)
        yield compared


def install(folder: pathlib.Path) -> pathlib.Path:
    """Make the environment of Quantus; return its Python."""
    subprocess.run([sys.executable, "-m", "venv", folder / "quantus"], check=True)
    subprocess.run([folder / "quantus/bin/pip", "install", "-q", *PACKAGES], check=True)
    return folder / "quantus/bin/python"


def table(records: list[dict]) -> str:
    """Return the medians over rounds, a line a case."""
    lines = ["case                 side         seconds   busy s  images/s   first s    peak MB"]
    for case in dict.fromkeys(record["case"] for record in records):
        own = [record for record in records if record["case"] == case]
        for side in (OURS, THEIRS):
            rows = [r for r in own if r["name"] == side]
            if absent := [r["absent"] for r in rows if "absent" in r]:
                lines.append(f"{case:<20} {side:<12} {absent[0]}")
                continue
            keys = ("seconds", "busy", "per_second", "first", "peak")
            seconds, busy, rate, first, peak = (
                statistics.median(r[key] for r in rows) for key in keys
            )
            lines.append(
                f"{case:<20} {side:<12} {seconds:7.3f}  {busy:7.3f}  {rate:8.0f}  {first:8.2f}"
                f"  {peak / 1e6:9.0f}"
            )
        for r in (r for r in own if r["name"] == "compared"):
            same = f", {r['difference']:.1e} apart" if "difference" in r else ""
            lines.append(
                f"{'':<20} {r['faster']:.1f} times faster, {r['busy_ratio']:.1f} times less work"
                f"{same}"
            )
    return "\n".join(lines)


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--peers", type=pathlib.Path, required=True, help="folder of environments")
    parser.add_argument("--install-peers", action="store_true", help="make it, then stop")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--metrics", default=",".join(shared.METRICS))
    parser.add_argument("--sizes", default=",".join(shared.SIZES))
    parser.add_argument("--quick", action="store_true", help="one small case")
    parser.add_argument("--out", type=pathlib.Path, help="folder for explain_quantus.jsonl, .txt")
    options = parser.parse_args()
    if options.install_peers:
        install(options.peers)
        return
    about = {"case": "about", **machine(), "load": round(os.getloadavg()[0], 2)}
    about |= {"versions": own_versions("jax", "jaxlib", "numpy"), "seed": options.seed}
    print(json.dumps(about), flush=True)
    chosen = {"metrics": options.metrics.split(","), "sizes": options.sizes.split(",")}
    if options.quick:
        chosen |= {"metrics": ["deletion"], "sizes": ["tiny"], "batch": 2}
    python = (options.peers / "quantus/bin/python").absolute()
    rounds = 1 if options.quick else options.rounds
    made = cases(python, threads=options.threads, rounds=rounds, seed=options.seed, **chosen)
    records = list(made)
    if options.out:
        options.out.mkdir(parents=True, exist_ok=True)
        lines = "".join(json.dumps(record) + "\n" for record in [about, *records])
        (options.out / "explain_quantus.jsonl").write_text(lines, "utf-8")
        (options.out / "explain_quantus.txt").write_text(table(records) + "\n", "utf-8")
    print(table(records))


if __name__ == "__main__":
    main()
