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
import pathlib
import re
import shutil
import subprocess
import tempfile

from capture_cases import HERE, PYTHON, QUICK, Bench, Sizes
from capture_report import tables
from machine import machine, own_versions
from processes import measure

RESULTS = HERE / "results"
CASES = ("tiles", "small", "single", "workers", "gz", "zst", "pipe", "syns", "batches")
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


def about(seed: int, bench: Bench) -> dict:
    """Return what the figures depend on."""
    versions = own_versions("numpy", "zstandard")
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
        **machine(),
        "versions": versions,
        "seed": seed,
        "sizes": bench.sizes._asdict(),
    }


if __name__ == "__main__":
    main()
