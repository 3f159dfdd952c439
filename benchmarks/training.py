"""Time training steps beside other frameworks and beside what the device can do at most.

    python benchmarks/training.py --peers DIR --install-peers    once: other frameworks
    python benchmarks/training.py --peers DIR                    everything, idle machine
    python benchmarks/training.py --quick                        under 5 minutes: does it run
    python benchmarks/training.py --peers DIR --rounds 1 --dtypes bfloat16 --batches 256
                                                                 what matters on a GPU
    python benchmarks/training.py --markdown                     the tables of the records

In this order: checks that the device computes what it should (on an accelerator against the CPU),
the ceilings (matrix products, memory), each model at each dtype and batch, formulations, Vision
Transformers with packed tokens, the input pipeline alone and with the step. Every run is a process
of its own, and in each round all of a case's runs take turns. "x" is how many times more images a
second we do than the other in the same round, then the median over rounds. The first step, which
compiles, is not in the rates; how long it took where nothing was compiled before is told beside
them. "Of the products' rate": operations counted by hand (model_flops.py), three times the way
forward, over the measured rate of that dtype.

Prints a line of JSON a run and the tables last; --out DIR takes them as training.jsonl, .txt.
"""

from __future__ import annotations

import subprocess

import model_bench
from model_cases import PLAIN
from processes import Run


def pipeline(bench: model_bench.Bench) -> list[Run]:
    """The loader alone, and with the step, by turns with a batch that stays."""
    accelerated = bench.accelerated and not bench.options.quick
    sessions = 600 if bench.options.quick else 60_000 if accelerated else 20_000
    path = bench.folder / f"sessions-{sessions}"
    seed = bench.options.seed
    if not path.exists():
        made = bench.task("pipeline.py", "make", path, sessions, seed)
        subprocess.run(made.command, check=True, stdout=subprocess.DEVNULL)
    chosen = (bench.options.models or PLAIN).split(",")
    model = PLAIN if PLAIN in chosen else chosen[0]
    dtype, batch = ("bfloat16", 256) if accelerated else ("float32", 16)
    facts = {"model": model, "dtype": dtype, "batch": batch}
    names = {"loader": "loader alone", "both": "together"}
    return [
        bench.task(
            *("pipeline.py", way, path, model, dtype, batch, bench.seconds, seed),
            name=name,
            unit="batches",
            facts=facts,
        )
        for way, name in names.items()
    ]


if __name__ == "__main__":
    extras = {
        "formulations": model_bench.Bench.formulations,
        "packed": model_bench.Bench.packed,
        "pipeline": pipeline,
    }
    model_bench.main("training", __doc__, extras)
