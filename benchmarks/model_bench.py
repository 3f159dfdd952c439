"""What the benchmarks of training and inference share: options, cases, peers, records."""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable

from machine import machine, own_versions
from model_cases import MODELS, Case, all_models, plan
from model_report import OURS, PEERS, counted_models, tables
from processes import Run, measure

from xai_traffic.huge_pages import with_huge_pages

HERE = pathlib.Path(__file__).parent
PYTHON = sys.executable
RESULTS = HERE / "results"
PACKED = ("vit-ti", "vit-b")
"""Models whose packed tokens are measured."""

MEAN_PACKETS = (20, 3.5)
"""Of a session: in captures of ordinary traffic, in the prefixes of USTC-TFC2016."""

QUICK_PEERS = ("vit-ti",)
"""Models that other frameworks run too under --quick; compiling takes some of them minutes."""

PACKAGES = ["torch", "timm", "keras", "jax"]
"""Of the peers' one virtual environment; TensorFlow beside them, and CUDA where a GPU is."""

Extra = Callable[["Bench"], list[Run]]


class Bench:
    """What the command line asks for, and the cases that come of it.

    Args:
        what: "training" or "inference".
        options: of `parse`.
        folder: for what the cases write.
        device: of `model_runs.py device`.
    """

    def __init__(self, what: str, options: argparse.Namespace, folder: pathlib.Path, device: dict):
        self.what, self.options, self.folder, self.device = what, options, folder, device
        self.seconds = 0.0 if options.quick else options.seconds
        self.accelerated = device["platform"] != "cpu"
        self._peers: dict[str, str] | None = None

    def task(self, script: str, *arguments: object, name: str = OURS, **rest) -> Run:
        """Return a run of one of our scripts."""
        command = [PYTHON, str(HERE / script), *map(str, arguments)]
        return Run(name, command, free=True, **rest)

    def ceilings(self) -> list[Run]:
        """The device's rate of products and of memory, against which the models stand."""
        seconds = self.seconds or 0.2
        return [
            *(
                self.task(
                    *("ceilings.py", "product", dtype, seconds),
                    name=f"product {dtype}",
                    unit="flops",
                )
                for dtype in ("float32", "bfloat16")
            ),
            self.task("ceilings.py", "memory", seconds, name="memory", unit="bytes"),
        ]

    def case(self, case: Case) -> list[Run]:
        """One model, dtype and batch: ours first, then the peers."""
        facts = {"what": self.what, **case._asdict()}
        arguments = [self.what, *case, self.seconds]
        runs = [self.task("model_runs.py", *arguments, self.options.seed, unit="images")]
        if not self.options.quick or case.model in QUICK_PEERS:
            for peer, title in PEERS.items():
                absent = "no such model" if case.model not in MODELS else self.peers().get(peer, "")
                command = [str(self._peer_python()), str(HERE / "model_peers.py"), peer]
                command += [str(argument) for argument in arguments]
                runs.append(Run(title, command, unit="images", free=True, absent=absent))
        return [run._replace(facts=facts) for run in runs]

    def packed(self) -> list[Run]:
        """Vision Transformers that look at no empty tile, on the dense grid and packed."""
        quick, accelerated = self.options.quick, self.accelerated
        chosen = (self.options.models or ",".join(PACKED[:1] if quick else PACKED)).split(",")
        dtype = "bfloat16" if accelerated and not quick else "float32"
        batch = 4 if quick else 256 if accelerated else 16
        runs = []
        for model in (name for name in chosen if name in PACKED):
            for mean in MEAN_PACKETS:
                facts = {"model": model, "dtype": dtype, "batch": batch, "mean": mean}
                for way in ("dense", "packed"):
                    arguments = (self.what, way, model, dtype, batch, mean, self.seconds)
                    name = f"{model}, {mean} packets, {way}"
                    arguments += (self.options.seed,)
                    runs.append(
                        self.task("packed.py", *arguments, name=name, unit="sessions", facts=facts)
                    )
        return runs

    def formulations(self) -> list[Run]:
        """The ways of computing one thing that `xai_traffic/ops` chooses from."""
        dtype, batch = ("bfloat16", 256) if self.accelerated else ("float32", 16)
        batch = 2 if self.options.quick else batch
        facts = {"dtype": dtype, "batch": batch}
        arguments = ("formulations.py", dtype, batch, self.seconds / 4)
        rest = {"name": "formulations", "unit": "runs", "amount": 1, "facts": facts}
        return [self.task(*arguments, **rest)]

    def peers(self) -> dict[str, str]:
        """Return by peer why it cannot run, "" where it can."""
        if self._peers is None:
            self._peers, self.versions = {}, {}
            for peer in PEERS:
                if self.options.peers is None:
                    self._peers[peer] = "no --peers DIR was given"
                    continue
                command = [self._peer_python(), HERE / "model_peers.py", peer, "version"]
                try:
                    printed = subprocess.run(command, capture_output=True, text=True, check=True)
                    version = json.loads(printed.stdout.splitlines()[-1])["version"]
                    self._peers[peer] = ""
                    self.versions |= dict(part.split(" ", 1) for part in version.split(", "))
                except OSError:
                    self._peers[peer] = f"not installed in {self.options.peers.name}"
                except subprocess.CalledProcessError as error:
                    self._peers[peer] = f"not installed: {error.stderr.strip().splitlines()[-1]}"
        return self._peers

    def largest(self, dtype: str, model: str) -> int:
        """Return the largest batch of our own that fits into the accelerator, 0 for none."""
        command = [PYTHON, HERE / "model_runs.py", f"{self.what}-largest", model, dtype, "512"]
        done = subprocess.run(command, capture_output=True, text=True)
        return json.loads(done.stdout.splitlines()[-1])["largest"] if not done.returncode else 0

    def _peer_python(self) -> pathlib.Path:
        return (self.options.peers or pathlib.Path("none")).absolute() / "models" / "bin" / "python"


def main(what: str, description: str, extras: dict[str, Extra]) -> None:
    """Do what the command line asks for.

    Args:
        what: "training" or "inference"; names the results too.
        description: of the script.
        extras: further cases by name, each makes its runs.
    """
    options = parse(description, ["ceilings", "check", "models", *extras])
    if options.markdown:
        lines = (options.out / f"{what}.jsonl").read_text("utf-8").splitlines()
        print(tables([json.loads(line) for line in lines]))
        return
    if options.install_peers:
        install_peers(options.peers)
        return
    if options.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.cores])
    chosen = options.cases.split(",")
    device = _lines("model_runs.py", "device")[-1]
    with contextlib.ExitStack() as stack:
        folder = options.folder or pathlib.Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        options.out.mkdir(parents=True, exist_ok=True)
        os.environ |= with_huge_pages(os.environ) or {}  # for all alike
        os.environ |= caches(stack.enter_context(tempfile.TemporaryDirectory()))
        bench = Bench(what, options, folder, device)
        records = [about(bench)]
        print(json.dumps(records[0]), flush=True)
        if "check" in chosen:
            _check(records)
        if "ceilings" in chosen:
            _add(records, measure("ceilings", bench.ceilings(), options.rounds), bench)
        if "models" in chosen:
            _measure_models(records, bench)
        for name, make in extras.items():
            if name in chosen:
                _add(records, measure(name, make(bench), options.rounds), bench)
    print(tables(records))


def caches(folder: str) -> dict[str, str]:
    """Return the environment in which later rounds find the programs that the first compiled.

    So the first round's first step tells how long compiling takes, and no other waits for it.
    """
    return {
        "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "TORCHINDUCTOR_CACHE_DIR": f"{folder}/torch",
    }


def _check(records: list[dict]) -> None:
    """Run the checks; nothing is timed on a device that computes something else."""
    for record in _lines("model_checks.py"):
        records.append({"case": "check", **record})
        print(json.dumps(records[-1]), flush=True)
    if not all(record["ok"] for record in records if record["case"] == "check"):
        raise SystemExit("the checks failed: nothing is measured")


def _measure_models(records: list[dict], bench: Bench) -> None:
    options = bench.options
    cases = plan(
        bench.what,
        bench.device["platform"],
        quick=options.quick,
        models=_words(options.models),
        dtypes=_words(options.dtypes),
        batches=[int(word) for word in _words(options.batches) or []] or None,
    )
    for counted in _lines("model_flops.py", *dict.fromkeys(case.model for case in cases), cpu=True):
        records.append({"case": "flops", **counted})
        print(json.dumps(records[-1]), flush=True)
    for place, case in enumerate(cases):
        _add(records, measure(str(case), bench.case(case), options.rounds), bench)
        following = cases[place + 1] if place + 1 < len(cases) else None
        last = following is None or following[:2] != case[:2]
        if last and bench.accelerated and not options.quick and not options.batches:
            batch = bench.largest(case.dtype, case.model)
            if batch:
                most = case._replace(batch=batch)
                _add(records, measure(str(most), bench.case(most), options.rounds), bench)
    _compare_parameters(records)


def _compare_parameters(records: list[dict]) -> None:
    """Add a record for each peer's model: whether it is as large as ours."""
    counts = {model: counted["parameters"] for model, counted in counted_models(records).items()}
    seen = {}
    for record in records:
        if record.get("parameters") and record.get("name") in PEERS.values():
            seen[record["name"], record["model"]] = record["parameters"]
    for (name, model), parameters in seen.items():
        difference = abs(parameters / counts[model] - 1)
        title = f"{name}, {all_models()[model].title}: {parameters:,} parameters"
        record = {"case": "check", "name": title, "ok": difference < 0.01}
        records.append(record | {"difference": difference})
        print(json.dumps(records[-1]), flush=True)


def _add(records: list[dict], new: list[dict], bench: Bench) -> None:
    """Keep new records, and write all of them with their tables."""
    records += new
    out = bench.options.out
    lines = "".join(json.dumps(record) + "\n" for record in records)
    (out / f"{bench.what}.jsonl").write_text(lines, "utf-8")
    (out / f"{bench.what}.txt").write_text(tables(records) + "\n", "utf-8")


def _lines(script: str, *arguments: str, cpu: bool = False) -> list[dict]:
    """Return what one of our scripts prints; what it says on stderr is shown."""
    environment = os.environ | ({"JAX_PLATFORMS": "cpu"} if cpu else {})
    command = [PYTHON, HERE / script, *arguments]
    printed = subprocess.run(
        command, env=environment, stdout=subprocess.PIPE, text=True, check=True
    )
    return [json.loads(line) for line in printed.stdout.splitlines() if line.startswith("{")]


def about(bench: Bench) -> dict:
    """Return what the figures depend on."""
    bench.peers()
    versions = own_versions("jax", "jaxlib", "flax", "numpy")
    versions |= {f"{name} of the peers": version for name, version in bench.versions.items()}
    return {
        "case": "about",
        "what": bench.what,
        **machine(),
        **bench.device,
        "load": round(os.getloadavg()[0], 2),
        "versions": versions,
        "seed": bench.options.seed,
        "quick": bench.options.quick,
    }


def install_peers(folder: pathlib.Path) -> None:
    """Make the peers' virtual environment; what cannot be installed is left out."""
    gpu = shutil.which("nvidia-smi") is not None
    packages = [f"jax[cuda{_cuda()}]" if gpu and name == "jax" else name for name in PACKAGES]
    subprocess.run([PYTHON, "-m", "venv", folder / "models"], check=True)
    for package in [*packages, "tensorflow[and-cuda]" if gpu else "tensorflow-cpu"]:
        subprocess.run([folder / "models/bin/pip", "install", "-q", package], check=False)


def _cuda() -> str:
    """Return the major version of CUDA that the driver can run, 12 or 13."""
    shown = subprocess.run(["nvidia-smi"], capture_output=True, text=True).stdout
    found = re.search(r"CUDA Version: (\d+)", shown)
    return "13" if found and int(found[1]) >= 13 else "12"


def _words(text: str | None) -> list[str] | None:
    return text.split(",") if text else None


def parse(description: str, cases: list[str]) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=description.split("\n")[0])
    known = ", ".join(all_models())
    parser.add_argument("--cases", default=",".join(cases), help=f"of {', '.join(cases)}")
    parser.add_argument("--models", help=f"of {known}; default all but the small ones")
    parser.add_argument("--dtypes", help="of float32, bfloat16; default by platform")
    parser.add_argument("--batches", help="such as 1,16; default by platform")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="that a run measures, at least")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cores", type=int, help="of the CPU that all may use; default every one")
    parser.add_argument("--folder", type=pathlib.Path, help="for data; default temporary")
    parser.add_argument("--peers", type=pathlib.Path, help="folder of virtual environments")
    parser.add_argument("--install-peers", action="store_true", help="make them, then stop")
    parser.add_argument("--out", type=pathlib.Path, default=RESULTS)
    parser.add_argument("--quick", action="store_true", help="one step each, to test the script")
    parser.add_argument("--markdown", action="store_true", help="print the table of --out")
    options = parser.parse_args()
    if options.quick:
        options.rounds = min(options.rounds, 1)
    if options.install_peers and options.peers is None:
        parser.error("--install-peers needs --peers DIR")
    for name in _words(options.models) or []:
        if name not in all_models():
            parser.error(f"--models {name}: choose of {known}")
    for name in options.cases.split(","):
        if name not in cases:
            parser.error(f"--cases {name}: choose of {', '.join(cases)}")
    return options
