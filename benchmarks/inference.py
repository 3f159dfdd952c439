"""Time judging beside other frameworks and beside what the device can do at most.

    python benchmarks/inference.py --peers DIR --install-peers   once: other frameworks
    python benchmarks/inference.py --peers DIR                   everything, idle machine
    python benchmarks/inference.py --quick                       under 5 minutes: does it run
    python benchmarks/inference.py --peers DIR --rounds 1 --dtypes bfloat16 --batches 256
                                                                 what matters on a GPU
    python benchmarks/inference.py --markdown                    the tables of the records

In this order: checks that the device computes what it should (on an accelerator against the CPU),
the ceilings (matrix products, memory), each model at each dtype and batch, Vision Transformers with
packed tokens, and `xai-traffic classify` from a capture to JSON lines with the share of each stage.
Every run is a process of its own, and in each round all of a case's runs take turns. "x" is how
many times more images a second we do than the other in the same round, then the median over rounds.
The first batch, for which the model compiles, is not in the rates; images lie on the device before.
"Of the products' rate": operations counted by hand (model_flops.py) over the measured rate of that
dtype.

Prints a line of JSON a run and the tables last; --out DIR takes them as inference.jsonl, .txt.
"""

from __future__ import annotations

import subprocess

import model_bench
from processes import Run


def classify(bench: model_bench.Bench) -> list[Run]:
    """A capture to JSON lines, by the stages inside and by the whole command."""
    packets = 20_000 if bench.options.quick else 200_000
    folder = bench.folder / f"classify-{packets}"
    if not (folder / "run" / "result.json").exists():
        folder.mkdir(parents=True, exist_ok=True)
        made = bench.task("classify_stages.py", "make", folder, packets, bench.options.seed)
        subprocess.run(made.command, check=True, stdout=subprocess.DEVNULL)
    run, capture = folder / "run", folder / "capture.pcap"
    return [
        bench.task("classify_stages.py", way, run, capture, name=name)
        for way, name in (("stages", "inside"), ("command", "whole command"))
    ]


if __name__ == "__main__":
    extras = {"packed": model_bench.Bench.packed, "classify": classify}
    model_bench.main("inference", __doc__, extras)
