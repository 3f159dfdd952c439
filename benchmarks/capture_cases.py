"""The cases of benchmarks/capture.py: what is run, on which captures."""

from __future__ import annotations

import contextlib
import pathlib
import shutil
import subprocess
import sys
from typing import NamedTuple

from processes import Run

HERE = pathlib.Path(__file__).parent
PYTHON = sys.executable
OURS = "xai-traffic (C)"
TO_DISK = f"{OURS}, to disk"
PEER_ENVIRONMENTS = {"heiFIP": "heifip"}
FILTER = "ip and (tcp or udp) and not (port 67 or port 68 or port 546 or port 547)"
FILES = 8
"""Captures in the folder that workers share."""


class Sizes(NamedTuple):
    """How much work the cases are."""

    big: int = 2_000_000
    slow: int = 200_000
    small: int = 2_000_000
    single: int = 1_000_000
    folder: int = 250_000  # each of FILES captures
    pipe: float = 20e9
    syns: int = 10_000_000
    sessions: int = 60_000


QUICK = Sizes(4000, 2000, 2000, 1000, 500, 2e6, 3000, 600)


class Bench:
    """The cases: each method makes what it needs and returns its runs, ours first."""

    def __init__(self, folder: pathlib.Path, peers: pathlib.Path | None, seed: int, sizes: Sizes):
        self.folder, self.peers, self.seed, self.sizes = folder, peers, seed, sizes
        self._limits = self._compile()

    def tiles(self) -> list[Run]:
        """A mix to tiles in memory, and to a dataset on disk; slow tools read a smaller one."""
        big = self._capture("mix", self.sizes.big)
        sessions = self.folder / "sessions"
        slow = self._capture("mix", self.sizes.slow, sessions)
        runs = [
            self._read(big),
            self._convert(big, 1, self.sizes.big),
            *self._walks(big),
            *self._programs(big),
            self._peer("py-pcapplusplus", big, note="iterates only"),
            self._read(slow, name=f"{OURS}, {_short(self.sizes.slow)}"),
            self._read(slow, core="numpy", name="xai-traffic (NumPy)", rounds=3),
            self._peer("NFStream", slow, note="statistics only, no bytes"),
            self._peer("dpkt", slow, rounds=3, note="loop: sessions and images"),
            self._program("tshark", ["-r", str(slow), "-q", "-z", "conv,tcp"], self.sizes.slow, 3),
            self._peer("scapy", slow, rounds=3, note="parses only"),
            self._splitter(slow),
            self._peer("heiFIP", sessions, rounds=2, amount=self.sizes.slow, out="png"),
        ]
        marked = {str(slow), str(sessions)}
        return [
            run._replace(note="; ".join(filter(None, [run.note, f"of {_short(self.sizes.slow)}"])))
            if marked & set(run.command)
            else run
            for run in runs
        ]

    def small(self) -> list[Run]:
        """The worst case: packets of 64 bytes."""
        capture = self._capture("small", self.sizes.small)
        return [self._read(capture), *self._walks(capture), *self._programs(capture)]

    def single(self) -> list[Run]:
        """A million sessions of one packet each, of 64 bytes."""
        capture = self._capture("single", self.sizes.single)
        return [
            self._read(capture, note="max_open 500,000, the default"),
            self._read(capture, "max_open=0", name=f"{OURS}, any number open"),
            *self._walks(capture),
            *self._programs(capture),
        ]

    def workers(self) -> list[Run]:
        """A folder of captures to a dataset, by two processes, by one, and by one on one core."""
        captures = self.folder / "captures"
        captures.mkdir(exist_ok=True)
        for number in range(FILES):
            made = self._capture("mix", self.sizes.folder, seed=self.seed + 1 + number)
            with contextlib.suppress(FileExistsError):
                (captures / f"{number}.pcap").hardlink_to(made)
        total = FILES * self.sizes.folder
        one = self._convert(captures, 1, total)
        alone = one._replace(name=f"{TO_DISK}, held to one core", free=False)
        return [self._convert(captures, 2, total), one, alone]

    def gz(self) -> list[Run]:
        """A .gz capture to tiles beside the decompressor alone."""
        return self._compressed("gz", "gzip")

    def zst(self) -> list[Run]:
        """A .zst capture to tiles beside the decompressor alone."""
        return self._compressed("zst", "zstd")

    def pipe(self) -> list[Run]:
        """20 GB through a pipe, one capture again and again at other times with other clients."""
        capture = self._capture("mix", self.sizes.slow)
        source = self._make("repeat", str(capture), str(self.sizes.pipe))
        run = self._read("-")._replace(source=source, free=True, rounds=1)
        drain = Run("cat > /dev/null", ["cat"], self.sizes.pipe, "bytes", 1, source=source)
        return [run, drain._replace(free=True, note="limit: the pipe")]

    def syns(self) -> list[Run]:
        """Ten million half-open sessions through a pipe."""
        source = self._make("syns", str(self.sizes.syns))
        runs = [self._read("-"), self._read("-", "max_open=50000", name=f"{OURS}, max_open 50,000")]
        runs[0] = runs[0]._replace(note="max_open 500,000, the default")
        return [run._replace(source=source, free=True, rounds=2) for run in runs]

    def batches(self) -> list[Run]:
        """Shuffled sessions of 20 tiles on average put together, 256 a batch."""
        ways = [
            ("images", "c", "images, C, reused memory"),
            ("images", "fresh", "images, C, new memory"),
            ("images", "numpy", "images, NumPy, reused memory"),
            ("tiles", "c", "dense tiles, C, reused memory"),
            ("tiles", "fresh", "dense tiles, C, new memory"),
            ("tiles", "memcpy", "limit: memcpy of the tiles, in order"),
            ("images", "device", "images, on the accelerator"),
        ]
        return [
            self._task("batches", form, way, str(self.sizes.sessions), name=name, unit="images")
            for form, way, name in ways
        ]

    def _capture(
        self, kind: str, packets: int, sessions: pathlib.Path | None = None, seed: int | None = None
    ) -> pathlib.Path:
        """Return a capture, made where it does not stand yet, and in the page cache."""
        seed = self.seed if seed is None else seed
        path = self.folder / f"{kind}-{packets}-{seed}.pcap"
        if not path.exists() or (sessions and not sessions.exists()):
            if sessions:
                shutil.rmtree(sessions, ignore_errors=True)
            extra = [str(sessions)] if sessions else []
            made = self._make(kind, str(path), str(packets), str(seed), *extra)
            subprocess.run(made, check=True, stdout=subprocess.DEVNULL)
        with open(path, "rb", buffering=0) as file:
            while file.read(1 << 20):
                pass
        return path

    def _make(self, *arguments: str) -> list[str]:
        return [PYTHON, str(HERE / "captures_made.py"), *arguments]

    def _task(self, *arguments: str, name: str = OURS, **rest) -> Run:
        return Run(name, [PYTHON, str(HERE / "capture_tasks.py"), *arguments], **rest)

    def _read(
        self, capture: pathlib.Path | str, *choices: str, core: str = "c", name: str = OURS, **rest
    ) -> Run:
        return self._task("read", str(capture), *choices, name=name, core=core, **rest)

    def _convert(self, inputs: pathlib.Path, workers: int, packets: int) -> Run:
        out = str(self.folder / "made")
        name = TO_DISK + (f", {workers} workers" if workers > 1 else "")
        run = self._task("convert", str(inputs), out, str(workers), name=name, amount=packets)
        return run._replace(core="c", rounds=5 if inputs.is_file() else 3, free=inputs.is_dir())

    def _walks(self, capture: pathlib.Path) -> list[Run]:
        ways = {
            "read": "limit: bare read()",
            "walk": "limit: record walk",
            "copy": "limit: walk, 256 bytes copied",
        }
        absent = "" if self._limits else "no C compiler"
        bytes_of = capture.stat().st_size
        return [
            Run(name, [str(self._limits), way, str(capture)], absent=absent, note="512 KiB reads")
            if way != "read"
            else Run(name, [str(self._limits), way, str(capture)], bytes_of, "bytes", absent=absent)
            for way, name in ways.items()
        ]

    def _programs(self, capture: pathlib.Path) -> list[Run]:
        packets = int(capture.stem.split("-")[1])
        return [self._program("tcpdump", ["-r", str(capture), "-w", "/dev/null"], packets)]

    def _program(self, name: str, arguments: list[str], amount: float, rounds: int = 99) -> Run:
        found = shutil.which(name)
        absent = "" if found else "not installed"
        shown = "tcpdump -w /dev/null" if name == "tcpdump" else "tshark -z conv,tcp"
        return Run(shown, [found or name, *arguments], amount, rounds=rounds, absent=absent)

    def _peer(
        self,
        name: str,
        capture: pathlib.Path,
        *,
        rounds: int = 99,
        amount: float = 0,
        note: str = "",
        out: str = "",
    ) -> Run:
        python, absent = self.peer_python(name), ""
        if python is None:
            absent = "no --peers DIR was given" if self.peers is None else "not installed there"
        command = [str(python), str(HERE / "capture_peers.py"), name, str(capture)]
        command += [str(self.folder / out)] if out else []
        if name == "heiFIP":
            note = "the seed's images, of sessions split before (not timed)"
        return Run(name, command, amount, rounds=rounds, note=note, absent=absent)

    def peer_python(self, name: str) -> pathlib.Path | None:
        """Return the Python that has a peer, None if there is none."""
        if self.peers is None:
            return None
        python = self.peers.absolute() / PEER_ENVIRONMENTS.get(name, "python") / "bin" / "python"
        command = [python, HERE / "capture_peers.py", name, "version"]
        if not python.exists() or subprocess.run(command, capture_output=True).returncode:
            return None
        return python

    def _splitter(self, capture: pathlib.Path) -> Run:
        at = shutil.which("PcapSplitter")
        absent = "" if at else "PcapPlusPlus is in no package index: put it on the PATH"
        out = self.folder / "split"
        out.mkdir(exist_ok=True)
        command = [str(at), "-f", str(capture), "-o", str(out), "-m", "connection", "-i", FILTER]
        return Run("PcapSplitter", command, self.sizes.slow, rounds=3, absent=absent)

    def _compressed(self, suffix: str, program: str) -> list[Run]:
        capture = self._capture("mix", self.sizes.slow)
        packed = capture.with_name(f"{capture.name}.{suffix}")
        if not shutil.which(program):
            return [Run(program, [program], absent="not installed")]
        if not packed.exists():
            with open(packed, "wb") as file:
                subprocess.run([program, "-c", "-q", capture], stdout=file, check=True)
        size = capture.stat().st_size
        library = "zlib" if suffix == "gz" else "zstandard"
        runs = [
            self._read(packed, amount=size, unit="bytes"),
            self._task("chunks", str(packed), name="our reader alone", unit="bytes"),
            self._task("decompressor", str(packed), name=f"Python's {library}", unit="bytes"),
            Run(f"{program} -dc", [program, "-dc", "-q", str(packed)], size, "bytes"),
            self._read(capture, amount=size, unit="bytes", name=f"{OURS}, not compressed"),
        ]
        return [run._replace(free=True, note="bytes of the capture") for run in runs]

    def _compile(self) -> pathlib.Path | None:
        """Build the limits' program; None where there is no compiler."""
        built = self.folder / "limits"
        compiler = next(filter(None, map(shutil.which, ("cc", "gcc", "clang"))), None)
        if compiler is None:
            return None
        command = [compiler, "-O3", "-std=c11", "-o", built, HERE / "limits.c"]
        return built if subprocess.run(command).returncode == 0 else None


def _short(number: float) -> str:
    return f"{number / 1e6:g} M" if number >= 1e6 else f"{number / 1e3:g} k"
