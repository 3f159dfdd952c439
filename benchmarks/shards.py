"""Time the shards of a conversion and their merge, and weigh what they leave on disk.

    python benchmarks/shards.py [--captures REAL]    20 minutes, idle machine
    python benchmarks/shards.py --markdown           the tables of the records

Makes its captures itself (captures_made.py); REAL is a folder of captures of which only the size
of their datasets is told. Every run is a process of its own, and in each round all of a case's
runs take turns. Times leave start and imports out. CPU seconds are the process's own, threads and
system calls included: where others use the machine too, they say what a core can do.

Prints a line of JSON a run and a table a case; --out DIR takes them as shards.jsonl, shards.txt,
beside what they hold of other cases from the same machine and versions.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import pathlib
import statistics
import subprocess
import sys
import tempfile
from typing import NamedTuple

from machine import machine, own_versions
from processes import Run, measure

from xai_traffic.report.markdown import table

HERE = pathlib.Path(__file__).parent
RESULTS = HERE / "results"
FILES = 4
"""Captures, and shards, of a case."""

DISTINCT = 16
"""Captures of a folder that differ; more are copies of these."""


class Sizes(NamedTuple):
    """How much work the cases are: packets of each capture."""

    mix: int = 1_000_000
    many: int = 250_000
    files: tuple[int, ...] = (4, 16)  # captures of so many
    short: int = 10
    shorts: int = 1000  # captures


QUICK = Sizes(2000, 500, (4, 8), 5, 20)


class Bench:
    """The cases: each method makes what it needs and returns its runs."""

    def __init__(self, folder: pathlib.Path, real: pathlib.Path | None, seed: int, sizes: Sizes):
        self.folder, self.real, self.seed, self.sizes = folder, real, seed, sizes

    def shard(self) -> list[Run]:
        """Captures to a shard, held to one core; a task that finds its shard made."""
        mix = self._captures("mix", self.sizes.mix)
        small = self._captures("small", self.sizes.mix)
        short = self._captures("mix", self.sizes.short, self.sizes.shorts)
        # Asked for elsewhere than in "made", which each run clears, the shard is there.
        done = self._shards(mix, "random:70/10/20") / "0"
        again = self._task("shard", mix, done, f"0/{FILES}", name="the same, made already")
        return [
            self._made("shard", mix, "0/4", name="mix"),
            self._made("shard", mix, "0/4", "min_packets=3", name="mix, sessions of 3 packets up"),
            self._made("shard", small, "0/4", name="packets of 64 bytes"),
            self._made("shard", short, "0/1", name=f"captures of {self.sizes.short} packets"),
            again._replace(unit="captures"),
        ]

    def merge(self) -> list[Run]:
        """Four shards to a dataset, on two cores and on one."""
        shards = self._shards(self._captures("mix", self.sizes.mix), "random:70/10/20")
        one = self._made("merge", shards, name="mix, one core", unit="sessions")
        copied = Run(
            "limit: cp of the shards", ["cp", "-r", str(shards), str(self.folder / "made")]
        )._replace(amount=_size(shards), unit="octets", free=True)
        return [one._replace(name="mix", free=True), one, copied]

    def memory(self) -> list[Run]:
        """Captures of sessions of one packet: memory by their number and by the split."""
        runs = []
        for split in ("random:70/10/20", "hash:70/10/20", "capture:50/25/25"):
            for files in self.sizes.files:
                captures = self._captures("single", self.sizes.many, files)
                shards = self._shards(captures, split)
                told = f"{files * self.sizes.many:,} sessions, {split}"
                runs.append(self._made("merge", shards, name=f"merge, {told}", unit="sessions"))
                if split.startswith("random"):
                    whole = self._made("shard", captures, "0/1", name=f"one shard, {told}")
                    opened = self._task("opened", shards / "0", name=f"opened, {told} by {FILES}")
                    runs += [run._replace(unit="sessions") for run in (whole, opened)]
        return [run._replace(rounds=2, free=True) for run in runs]

    def size(self) -> list[Run]:
        """The bytes of a dataset by those of its captures, under some reading rules."""
        kinds = {"mix": self._captures("mix", self.sizes.mix)}
        if self.real is not None:
            kinds |= {path.name: path for path in sorted(self.real.iterdir()) if _is_real(path)}
        masks = "addresses+ports+ids+window+options"
        wishes = {"": (), ", sessions of 3 packets up": ("min_packets=3",)}
        wishes |= {f", {masks}": (f"mask={masks}",), ", ustc28": ("layout=ustc28",)}
        return [
            self._made("shard", path, "0/1", *choices, name=kind + wish)._replace(rounds=1)
            for kind, path in kinds.items()
            for wish, choices in wishes.items()
        ]

    def _captures(self, kind: str, packets: int, files: int = FILES) -> pathlib.Path:
        """Return a folder of captures, made where it does not stand yet."""
        folder = self.folder / f"{kind}-{packets}-{files}" / "Benign"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(files):
            path = folder / f"{number:04}.pcap"
            if path.exists():
                continue
            if number >= DISTINCT:
                path.hardlink_to(folder / f"{number % DISTINCT:04}.pcap")
                continue
            arguments = [kind, str(path), str(packets), str(self.seed + number)]
            subprocess.run([sys.executable, HERE / "captures_made.py", *arguments], check=True)
            path.with_suffix(".npz").unlink()
        return folder.parent

    def _shards(self, captures: pathlib.Path, split: str) -> pathlib.Path:
        """Return a folder of shards, made where they do not stand yet."""
        folder = self.folder / f"shards-{captures.name}-{split.partition(':')[0]}"
        for index in range(FILES):
            which = f"{index}/{FILES}"
            run = self._task("shard", captures, folder / str(index), which, f"split={split}")
            subprocess.run(run.command, check=True, stdout=subprocess.DEVNULL)
        return folder

    def _made(self, task: str, source: pathlib.Path, *arguments: str, **rest) -> Run:
        return self._task(task, source, self.folder / "made", *arguments, **rest)

    def _task(self, task: str, *arguments: str | pathlib.Path, **rest) -> Run:
        command = [sys.executable, HERE / "capture_tasks.py", task, *arguments]
        return Run(**{"name": task, "command": list(map(str, command)), **rest})


CASES = ("shard", "merge", "memory", "size")


def _is_real(path: pathlib.Path) -> bool:
    """Tell whether a folder holds whole packets, not broken or cut ones."""
    return path.name in ("protocols", "malware")


def _size(folder: pathlib.Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def tables(records: list[dict]) -> str:
    """Return a table for each case, as Markdown, and what the figures depend on."""
    lines = []
    for case in CASES:
        of_case = [record for record in records if record["case"] == case]
        names = list(dict.fromkeys(record["name"] for record in of_case))
        if of_case:
            rows = [[record for record in of_case if record["name"] == name] for name in names]
            lines += [f"**{case}**: {getattr(Bench, case).__doc__}", ""]
            lines += table(HEADS[case], map(ROWS[case], rows))
    facts = next(record for record in records if record["case"] == "about")
    versions = ", ".join(f"{name} {version}" for name, version in facts["versions"].items())
    lines.append(
        f"{facts['date']}: {facts['cores']} cores of {facts['processor']}, "
        f"{facts['memory'] / 2**30:.0f} GiB, {facts['system']}; {versions}; seed {facts['seed']}"
    )
    return "\n".join(lines)


HEADS = {
    "shard": (
        *("what", "packets", "seconds", "CPU seconds", "packets/s", "packets/CPU s", "MB/CPU s"),
        *("ms a capture", "peak memory"),
    ),
    "merge": (
        *("what", "sessions", "seconds", "CPU seconds", "sessions/s", "GB/s", "GB/CPU s"),
        "peak memory",
    ),
    "memory": ("what", "seconds", "CPU seconds", "sessions/CPU s", "peak memory"),
    "size": (
        *("captures", "bytes", "sessions", "tiles", "packets a session", "dataset, bytes"),
        *("of it tables", "dataset by captures"),
    ),
}


def _median(runs: list[dict], key: str) -> float:
    return statistics.median(run.get(key) or run["seconds"] for run in runs)


def _peak(runs: list[dict]) -> str:
    return f"{max(run['peak'] or 0 for run in runs) / 1e6:.0f} MB"


def _shard_row(runs: list[dict]) -> list[str]:
    one, seconds, cpu = runs[0], _median(runs, "seconds"), _median(runs, "cpu")
    read = one["unit"] == "packets"  # not where nothing was left to do
    return [
        one["name"],
        f"{one['packets']:,}",
        f"{seconds:.3g}",
        f"{cpu:.3g}",
        f"{one['packets'] / seconds:,.0f}" * read,
        f"{one['packets'] / cpu:,.0f}" * read,
        f"{one['captured'] / cpu / 1e6:,.0f}" * read,
        f"{1e3 * cpu / one['captures']:,.1f}",
        _peak(runs),
    ]


def _merge_row(runs: list[dict]) -> list[str]:
    one, seconds, cpu = runs[0], _median(runs, "seconds"), _median(runs, "cpu")
    octets = one.get("bytes") or one["amount"]
    sessions = one.get("sessions")
    return [
        one["name"],
        f"{sessions:,}" if sessions else "",
        f"{seconds:.3g}",
        f"{cpu:.3g}" if "cpu" in one else "",
        f"{sessions / seconds:,.0f}" if sessions else "",
        f"{octets / seconds / 1e9:.2f}",
        f"{octets / cpu / 1e9:.2f}" if "cpu" in one else "",
        _peak(runs),
    ]


def _memory_row(runs: list[dict]) -> list[str]:
    seconds, cpu = _median(runs, "seconds"), _median(runs, "cpu")
    rate = f"{runs[0]['sessions'] / cpu:,.0f}"
    return [runs[0]["name"], f"{seconds:.3g}", f"{cpu:.3g}", rate, _peak(runs)]


def _size_row(runs: list[dict]) -> list[str]:
    one = runs[0]
    sessions = max(one["sessions"], 1)
    return [
        one["name"],
        f"{one['captured']:,}",
        f"{one['sessions']:,}",
        f"{one['tiles']:,}",
        f"{one['packet_rows'] / sessions:.1f}",
        f"{one['bytes']:,}",
        f"{one['tables'] / one['bytes']:.0%}",
        f"{one['bytes'] / one['captured']:.2f}",
    ]


ROWS = {"shard": _shard_row, "merge": _merge_row, "memory": _memory_row, "size": _size_row}


def _others(file: pathlib.Path, about: dict, cases: list[str]) -> list[dict]:
    """Return the records of other cases, if they depend on the same."""
    lines = file.read_text("utf-8").splitlines() if file.exists() else []
    records = [json.loads(line) for line in lines]
    same = bool(records) and {**records[0], "date": about["date"]} == about
    return [record for record in records[1:] if same and record["case"] not in cases]


def main() -> None:
    """Do what the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=pathlib.Path, help="for captures; default temporary")
    parser.add_argument("--captures", type=pathlib.Path, help="folder of real captures")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="tiny captures, to test the script")
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out")
    options = parser.parse_args()
    if options.markdown:
        lines = (options.out / "shards.jsonl").read_text("utf-8").splitlines()
        print(tables([json.loads(line) for line in lines]))
        return
    with contextlib.ExitStack() as stack:
        folder = options.folder or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(folder, options.captures, options.seed, QUICK if options.quick else Sizes())
        facts = {**machine(), "versions": own_versions("numpy", "pyarrow"), "seed": options.seed}
        sizes = {name: str(size) for name, size in bench.sizes._asdict().items()}
        records = [{"case": "about", **facts, "sizes": sizes}]
        print(json.dumps(records[0]), flush=True)
        options.out.mkdir(parents=True, exist_ok=True)
        cases = options.cases.split(",")
        records += _others(options.out / "shards.jsonl", records[0], cases)
        for case in cases:
            records += measure(case, getattr(bench, case)(), options.rounds)
            lines = "".join(json.dumps(record) + "\n" for record in records)
            (options.out / "shards.jsonl").write_text(lines, "utf-8")
            (options.out / "shards.txt").write_text(tables(records) + "\n", "utf-8")
    print(tables(records))


if __name__ == "__main__":
    main()
