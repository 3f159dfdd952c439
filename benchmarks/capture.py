"""Time the reading of captures beside other tools and beside what no reader can beat.

    python benchmarks/capture.py --peers DIR --install-peers     once: other tools from the index
    python benchmarks/capture.py --peers DIR                     15 to 20 minutes, idle machine
    python benchmarks/capture.py --markdown                      the README's table of the records

Makes its captures itself (captures_made.py). Every run is a process of its own, and in each round
all of a case's runs take turns. Python programs report the time inside, without start and imports,
and their peak memory (VmHWM); other programs are timed from start to end and their VmHWM is read
while they run. "x" is how many times more packets (bytes, images) a second we handle than the
other in the same round, then the median over rounds. All but the cases of workers, pipes and
compression are held to one core.

Prints a line of JSON a run and a table a case; --out DIR takes them as capture.jsonl, capture.txt.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import re
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from importlib import metadata

from capture_cases import HERE, PYTHON, QUICK, Bench, Run, Sizes
from capture_report import tables

from xai_traffic import __version__

RESULTS = HERE / "results"
CASES = ("tiles", "small", "single", "workers", "gz", "zst", "pipe", "syns", "batches")
PATIENCE = 600
"""Seconds until a run is given up: heiFIP hangs where it cannot read a file."""

PACKAGES = {
    "python": ["scapy", "dpkt", "nfstream", "py-pcapplusplus"],
    "heifip": [
        *("heifip==1.1.1", "scapy==2.5.0", "cryptography==41.0.1"),
        *("click", "numpy<2", "pillow", "tqdm"),
    ],
}
"""Peers by virtual environment; heiFIP declares nothing of what it needs, nor in which version."""


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, help="for captures; default temporary")
    parser.add_argument("--peers", type=pathlib.Path, help="folder of virtual environments")
    parser.add_argument("--install-peers", action="store_true", help="make them, then stop")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="tiny captures, to test the script")
    parser.add_argument("--markdown", action="store_true", help="print the table of --out")
    options = parser.parse_args()
    if options.markdown:
        lines = (options.out / "capture.jsonl").read_text("utf-8").splitlines()
        print(tables([json.loads(line) for line in lines]))
        return
    if options.install_peers:
        install_peers(options.peers)
        return
    with contextlib.ExitStack() as stack:
        folder = options.folder or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        bench = Bench(folder, options.peers, options.seed, QUICK if options.quick else Sizes())
        records = [{"case": "about", **about(options.seed, bench)}]
        print(json.dumps(records[0]), flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        for case in options.cases.split(","):
            records += measure(case, getattr(bench, case)(), options.rounds)
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (options.out / "capture.jsonl").write_text(lines, "utf-8")
            (options.out / "capture.txt").write_text(tables(records) + "\n", "utf-8")
    print(tables(records))


def install_peers(folder: pathlib.Path) -> None:
    """Make the peers' virtual environments; one that cannot be installed is left out."""
    for name, packages in PACKAGES.items():
        subprocess.run([PYTHON, "-m", "venv", folder / name], check=True)
        together = [packages] if name == "heifip" else [[package] for package in packages]
        for some in together:
            subprocess.run([folder / name / "bin/pip", "install", "-q", *some], check=False)


def measure(case: str, runs: list[Run], rounds: int) -> list[dict]:
    """Run a case's runs in turn, round by round; print and return a record of each."""
    records = []
    for number in range(rounds):
        for run in runs:
            if number >= run.rounds or (run.absent and number):
                continue
            record = {"case": case, "name": run.name, "round": number, "unit": run.unit}
            record |= {"note": run.note} if run.note else {}
            record |= {"absent": run.absent} if run.absent else execute(run)
            amount = record.get(run.unit) or run.amount
            if "seconds" in record:
                record["amount"], record["per_second"] = amount, amount / record["seconds"]
            records.append(record)
            print(json.dumps(record), flush=True)
            if "absent" in record:
                runs = [other for other in runs if other is not run]
    return records


def execute(run: Run) -> dict:
    """Run a process; return what it printed, or its time by the clock, and its peak memory."""
    environment = os.environ | ({"XAI_TRAFFIC_CORE": run.core} if run.core else {})
    cores = sorted(os.sched_getaffinity(0))
    with contextlib.ExitStack() as stack:
        stdin = subprocess.DEVNULL
        if run.source:
            source = subprocess.Popen(run.source, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
            stack.enter_context(source)
            stack.callback(source.kill)
            stdin = source.stdout
        for made in ("made", "png", "split"):
            _clear(run.command, made)
        os.sync()  # what other runs wrote is not this one's to write to disk
        output = stack.enter_context(tempfile.TemporaryFile())
        errors = stack.enter_context(tempfile.TemporaryFile())
        prints = pathlib.PurePath(run.command[0]).name not in ("gzip", "zstd", "cat")
        began = time.perf_counter()
        process = subprocess.Popen(
            run.command,
            stdin=stdin,
            stdout=output if prints else subprocess.DEVNULL,
            stderr=errors,
            env=environment,
            preexec_fn=None if run.free else lambda: os.sched_setaffinity(0, cores[-1:]),
        )
        if run.source:
            source.stdout.close()
        with _watched(process) as seen:
            process.wait()
            seconds = time.perf_counter() - began
        output.seek(0)
        errors.seek(0)
        printed = output.read().decode(errors="replace").strip().splitlines()
        wrong = errors.read().decode(errors="replace").strip().splitlines()
    outside = {"seconds": seconds, "peak": max(seen, default=None), "whole_process": True}
    if printed and printed[-1].startswith("{"):
        inside = json.loads(printed[-1])
        outside["whole_process"] = False
        return {"absent": inside["absent"]} if "absent" in inside else outside | inside
    if process.returncode:
        wrong = [f"stopped after {PATIENCE} s"] if seconds > PATIENCE else wrong
        return {"absent": f"failed: {wrong[-1] if wrong else process.returncode}"}
    return outside


def _clear(command: list[str], made: str) -> None:
    """Remove what an earlier run of this command wrote."""
    for argument in command:
        if pathlib.PurePath(argument).name == made:
            shutil.rmtree(argument, ignore_errors=True)
            if made != "made":
                os.mkdir(argument)


@contextlib.contextmanager
def _watched(process: subprocess.Popen) -> Iterator[list[int]]:
    """Note the VmHWM of a process in bytes while it runs, and end it after PATIENCE."""
    seen: list[int] = []
    ended = threading.Event()

    def look() -> None:
        began, pause = time.perf_counter(), 0.001
        while not ended.wait(pause):
            with contextlib.suppress(OSError, IndexError, ValueError):
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                seen.append(int(status.split("VmHWM:")[1].split()[0]) * 1024)
            if time.perf_counter() - began > PATIENCE:
                process.kill()
            pause = min(2 * pause, 0.05)

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield seen
    finally:
        ended.set()
        looking.join()


def about(seed: int, bench: Bench) -> dict:
    """Return what the figures depend on."""
    processor = "unknown processor"
    with contextlib.suppress(OSError):
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    versions = {"python": platform.python_version()}
    versions["xai-traffic"] = __version__
    versions |= {name: metadata.version(name) for name in ("numpy", "zstandard")}
    for name in ("heiFIP", "scapy", "dpkt", "NFStream", "py-pcapplusplus"):
        if python := bench.peer_python(name):
            command = [python, HERE / "capture_peers.py", name, "version"]
            printed = subprocess.check_output(command).splitlines()
            versions[name] = json.loads(printed[-1])["version"]
    for name in ("tcpdump", "tshark", "gzip", "zstd", "cc"):
        if shutil.which(name):
            shown = subprocess.run([name, "--version"], capture_output=True, text=True)
            found = re.search(r"\d+\.\d+(\.\d+)?", shown.stdout + shown.stderr)
            versions[name] = found[0] if found else "?"
    if shutil.which("PcapSplitter"):
        shown = subprocess.run(["PcapSplitter", "-v"], capture_output=True, text=True)
        versions["PcapSplitter"] = shown.stdout.split()[1].removeprefix("v")
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor,
        "cores": len(os.sched_getaffinity(0)),
        "memory": memory,
        "system": f"{platform.system()} {platform.release()}",
        "versions": versions,
        "seed": seed,
        "sizes": bench.sizes._asdict(),
    }


if __name__ == "__main__":
    main()
