"""Small trainings as processes of their own, to interrupt and to go on with."""

from __future__ import annotations

import csv
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Sequence

from xai_traffic.training.seal import SEAL

PATIENCE = 900
"""Seconds after which a training is given up."""

_CLOCK = ("train/images_per_second",)


def make_data(folder: pathlib.Path) -> pathlib.Path:
    """Make captures whose evidence is known, and a dataset of them; return it."""
    from xai_traffic.capture.rules import ReadingRules
    from xai_traffic.data.build import convert
    from xai_traffic.demo import FAMILIES
    from xai_traffic.lab.write import write_lab

    write_lab(folder / "captures", seed=0, families=FAMILIES)
    convert([folder / "captures"], folder / "dataset", rules=ReadingRules())
    return folder / "dataset"


class Training:
    """One run, started as often as it takes.

    Args:
        dataset: its data.
        run: its folder.
        processes: that share it, on this machine.
        flags: more of the configuration.
        logs: folder of what the processes print; by default beside the run.
    """

    def __init__(
        self,
        dataset: pathlib.Path,
        run: pathlib.Path,
        processes: int = 1,
        flags: Sequence[str] = (),
        logs: pathlib.Path | None = None,
    ):
        self.run, self.processes, self._logs = run, processes, logs or run.parent
        self._command = [
            *(sys.executable, "-m", "xai_traffic", "train"),
            *("--config", "configs/vit.py:multiclass,debug", "--workdir", str(run)),
            f"--config.data.path={dataset}",
            f"--config.mesh.data={processes}",
            "--config.checkpoint.every_steps=3",
            "--config.epochs=12",
            "--config.log.every_steps=1",
            *flags,
        ]

    def start(self) -> list[subprocess.Popen]:
        """Start the processes; each prints into its `log`."""
        environment = {**os.environ, "XLA_FLAGS": ""}
        if self.processes > 1:
            environment["XAI_TRAFFIC_COORDINATOR"] = f"127.0.0.1:{free_port()}"
            environment["XAI_TRAFFIC_PROCESSES"] = str(self.processes)
        started = []
        for index in range(self.processes):
            environment["XAI_TRAFFIC_PROCESS_ID"] = str(index)
            alone = {**environment}
            if self.processes == 1:
                del alone["XAI_TRAFFIC_PROCESS_ID"]
            with open(self.log(index), "wb") as log:
                started.append(subprocess.Popen(self._command, env=alone, stdout=log, stderr=log))
        return started

    def finish(self) -> dict:
        """Run to the end; return what result.json holds.

        Raises:
            SystemExit: it failed; the message is the log.
        """
        ended = [process.wait(PATIENCE) for process in self.start()]
        if any(ended):
            raise SystemExit(f"status {ended}\n{self.log(0).read_text()}")
        return json.loads((self.run / "result.json").read_text())

    def log(self, index: int = 0) -> pathlib.Path:
        """Return the log file of a process, of its last start."""
        return self._logs / f"{self.run.name}-{index}.log"

    def wait_for_rows(self, count: int, processes: list[subprocess.Popen]) -> None:
        """Wait until metrics.csv has more than so many rows.

        Raises:
            SystemExit: a process ended before; the message is the log.
        """
        table, limit = self.run / "metrics.csv", time.monotonic() + PATIENCE
        while not table.exists() or table.read_text().count("\n") <= count:
            if any(process.poll() is not None for process in processes):
                raise SystemExit(self.log().read_text())
            if time.monotonic() > limit:
                raise SystemExit(f"{self.run} did not get so far in {PATIENCE} s")
            time.sleep(0.05)

    def wait_for_checkpoint(self, processes: list[subprocess.Popen]) -> None:
        """Wait until a checkpoint is whole, which a busy machine writes behind the rows.

        Raises:
            SystemExit: a process ended before; the message is the log.
        """
        limit = time.monotonic() + PATIENCE
        while not any(self.run.glob(f"checkpoints/*/{SEAL}")):
            if any(process.poll() is not None for process in processes):
                raise SystemExit(self.log().read_text())
            if time.monotonic() > limit:
                raise SystemExit(f"{self.run} has no checkpoint after {PATIENCE} s")
            time.sleep(0.05)

    def went_on_behind(self) -> int:
        """Return the step that the last start went on behind, 0 where it began anew."""
        found = re.search(r"going on behind step (\d+)", self.log().read_text())
        return int(found[1]) if found else 0

    def rows(self) -> list[dict]:
        """Return metrics.csv, without what depends on the clock."""
        with open(self.run / "metrics.csv", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        return [{key: row[key] for key in row if key not in _CLOCK} for row in rows]


def kill(process: subprocess.Popen) -> None:
    """End a process at once, as the kernel does when memory is out."""
    process.send_signal(signal.SIGKILL)


def free_port() -> int:
    """Return a port that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
