"""Kill a training at random moments, go on, and compare with one that nothing interrupted.

    python benchmarks/soak/kills.py                        30 kills of one process
    python benchmarks/soak/kills.py --processes 4 --kills 3 --by steps
    python benchmarks/soak/kills.py --again 10             one training, killed ten times

Every kill is a SIGKILL, of a random process where there are several, at a moment drawn evenly from
the time that the uninterrupted training takes, its start included; --by steps draws from its steps,
for several processes take most of the time to start. Prints a JSON line a kill, and ends with
status 1 if any training ended with other parameters or other rows of metrics.csv.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from machine import machine, own_versions  # noqa: E402
from soak.trainings import PATIENCE, Training, kill, make_data  # noqa: E402

COMPARED = ("params_sha256", "best_params_sha256", "best", "best_step", "step")


def main() -> int:
    """Run as the flags say; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--kills", type=int, default=30, help="trainings killed once (default 30)")
    parser.add_argument("--again", type=int, default=0, help="kills of one more training")
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--by", choices=("time", "steps"), default="time")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    options = parser.parse_args()
    about = {**machine(), **own_versions("jax", "orbax-checkpoint"), **vars(options)}
    print(json.dumps({"about": about}), flush=True)
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        return soak(pathlib.Path(folder), options)


def soak(folder: pathlib.Path, options: argparse.Namespace) -> int:
    """Kill and go on; return the exit status."""
    dataset = make_data(folder)
    draw = random.Random(options.seed)
    Training(dataset, folder / "warm", options.processes).finish()  # fills the compilation cache
    straight = Training(dataset, folder / "straight", options.processes)
    began = time.monotonic()
    expected = straight.finish()
    length = time.monotonic() - began
    print(json.dumps({"straight": expected, "wall_seconds": round(length, 1)}), flush=True)
    failed = 0
    until = length if options.by == "time" else expected["step"]
    plans = [[draw.uniform(0, until)] for _ in range(options.kills)]
    if options.again:
        plans.append([draw.uniform(0.3, 1) * until for _ in range(options.again)])
    for number, moments in enumerate(plans):
        training = Training(dataset, folder / f"killed-{number}", options.processes)
        steps = [kill_once(training, moment, options.by, draw) for moment in moments]
        found = training.finish()
        differ = [name for name in COMPARED if found[name] != expected[name]]
        if training.rows() != straight.rows():
            differ.append("metrics.csv")
        failed += bool(differ)
        record = {
            f"killed_after_{options.by}": [round(moment, 2) for moment in moments],
            "rank": [step[0] for step in steps],
            "others_ended_after_seconds": [step[1] for step in steps],
            "went_on_behind_step": training.went_on_behind(),
            "params_sha256": found["params_sha256"],
            "differ": differ,
        }
        print(json.dumps(record), flush=True)
    print(json.dumps({"trainings": len(plans), "with_other_bits": failed}))
    return bool(failed)


def kill_once(training: Training, moment: float, by: str, draw: random.Random) -> tuple[int, float]:
    """Start a training and kill one of its processes; return which, and how long others lived."""
    processes = training.start()
    rank = draw.randrange(len(processes))
    if by == "time":
        time.sleep(moment)
    else:
        training.wait_for_rows(int(moment), processes)
    killed = time.monotonic()
    kill(processes[rank])
    for process in processes:
        try:
            process.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            kill(process)
            process.wait()
    return rank, round(time.monotonic() - killed, 1)


if __name__ == "__main__":
    sys.exit(main())
