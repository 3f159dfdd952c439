"""Time `xai-traffic classify` from a capture to JSON lines, and the share of each stage.

    python benchmarks/classify_stages.py make FOLDER PACKETS SEED
    python benchmarks/classify_stages.py stages RUN CAPTURE
    python benchmarks/classify_stages.py command RUN CAPTURE

Started by benchmarks/inference.py. "make" writes FOLDER/capture.pcap, a mix of seven kinds of
sessions, and FOLDER/run, a small ViT trained for a moment on the lab's captures: its verdicts mean
nothing, its work is that of the size `cpu`. "stages" times inside, when the run is loaded and
compiled; "command" from start to end, as a shell sees it.
"""

from __future__ import annotations

import json
import os
import pathlib
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from step_timing import peak_of_process

HERE = pathlib.Path(__file__).parent
STAGES = ("reading", "images", "model", "verdicts", "writing")


def make(folder: pathlib.Path, packets: int, seed: int) -> None:
    """Write the capture and train the run."""
    from xai_traffic.capture.rules import ReadingRules
    from xai_traffic.data.build import convert
    from xai_traffic.demo import FAMILIES
    from xai_traffic.lab.write import write_lab
    from xai_traffic.training.config import load_config
    from xai_traffic.training.loop import train

    made = [sys.executable, HERE / "captures_made.py", "mix", folder / "capture.pcap"]
    subprocess.run([*made, str(packets), str(seed)], check=True)
    write_lab(folder / "lab", seed=seed, families=FAMILIES)
    lab, dataset, split = folder / "lab", folder / "dataset", "random:60/20/20"
    convert([lab], dataset, rules=ReadingRules(), split=split, seed=seed)
    fields = {"path": dataset, "epochs": 1, "data.limit": 64, "batch_size": 32}
    fields |= {"log.images": 0, "optimizer.warmup_epochs": 0.0, "seed": seed}
    train(load_config("configs/vit.py:multiclass,cpu", **fields), folder / "run")


def stages(run_folder: str, capture: str) -> dict:
    """Time each stage of judging a capture, in the thread that asks for the verdicts.

    Reading is what the stream takes until it hands sessions over; "rest" is what lies between.
    """
    from xai_traffic.capture.sessions import Sessions
    from xai_traffic.evaluation import classify as judging
    from xai_traffic.training.run import Run, load_run

    began = time.perf_counter()
    run = load_run(run_folder)
    start_up = time.perf_counter() - began
    began = time.perf_counter()
    run.warm_up()
    compilation = time.perf_counter() - began

    spent = dict.fromkeys(STAGES, 0.0)
    streams = []

    class Stream(judging.SessionStream):
        """A stream whose reading is timed."""

        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            streams.append(self)

        def __next__(self):
            return _timed(spent, "reading", super().__next__)

    def verdicts(*arguments) -> Iterator[dict]:
        return _each(spent, "verdicts", given_verdicts(*arguments))

    given_verdicts, images, predict = judging.verdicts, Sessions.images, Run.predict
    judging.SessionStream, judging.verdicts = Stream, verdicts
    Sessions.images = lambda self, *rest: _timed(spent, "images", images, self, *rest)
    Run.predict = lambda self, *rest: _timed(spent, "model", predict, self, *rest)

    sessions = 0
    with tempfile.TemporaryFile("w") as out:
        began = time.perf_counter()
        for verdict in judging.classify(run, capture):
            start = time.perf_counter()
            out.write(json.dumps(verdict) + "\n")
            out.flush()
            spent["writing"] += time.perf_counter() - start
            sessions += 1
        seconds = time.perf_counter() - began
    spent["rest"] = seconds - sum(spent.values())
    return {
        "seconds": seconds,
        "packets": streams[0].packets,
        "sessions": sessions,
        "stages": spent,
        "start_up": start_up,
        "compilation": compilation,
        "peak": peak_of_process(),
    }


def _timed(spent: dict[str, float], stage: str, function, *arguments):
    began = time.perf_counter()
    try:
        return function(*arguments)
    finally:
        spent[stage] += time.perf_counter() - began


def _each(spent: dict[str, float], stage: str, values: Iterator[dict]) -> Iterator[dict]:
    while True:
        began = time.perf_counter()
        value = next(values, None)
        spent[stage] += time.perf_counter() - began
        if value is None:
            return
        yield value


def command(run_folder: str, capture: str) -> dict:
    """Time the command from its start to its end."""
    from xai_traffic.capture.sessions import read_capture_by
    from xai_traffic.training.run import load_run

    shown = [sys.executable, "-m", "xai_traffic", "classify", run_folder, capture]
    with tempfile.TemporaryFile() as out:
        began = time.perf_counter()
        subprocess.run(shown, stdout=out, check=True)
        seconds = time.perf_counter() - began
        out.seek(0)
        sessions = sum(1 for _ in out)
    read = read_capture_by(capture, load_run(run_folder).rules)
    packets = int(read.table["packets"].to_numpy().sum()) + sum(read.dropped.values())
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    return {"seconds": seconds, "packets": packets, "sessions": sessions, "peak": peak}


def main() -> None:
    """Do what the command line asks for."""
    what, *rest = sys.argv[1:]
    if what == "make":
        make(pathlib.Path(rest[0]), int(rest[1]), int(rest[2]))
        return
    print(json.dumps({"stages": stages, "command": command}[what](*rest)), flush=True)
    os._exit(0)  # the command's own work is done; nothing of it is timed any more


if __name__ == "__main__":
    main()
