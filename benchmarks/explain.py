"""Time explanations beside captum, pytorch-grad-cam and Quantus, on shared weights and sessions.

    python benchmarks/explain.py --peers DIR --install-peers       once: the other libraries
    python benchmarks/explain.py --peers DIR --data DATASET        everything, idle machine
    python benchmarks/explain.py --rounds 1 --size cpu --quick     under 3 minutes: does it run
    python benchmarks/explain.py --markdown                        the tables of the records

For each network: Integrated Gradients with 50 steps and to a completeness error; Grad-CAM; masked
images a second of the methods that perturb, as part of what the network judges at its best; the
memory that methods take under a budget. Then deletion curves beside Quantus (explain_quantus.py).
DATASET is one of `xai-traffic convert`, and RUNS a folder of trained runs xception, vgg19 and vit;
without them sessions and weights are random, and the last layer is scaled so that logits rise by
10. Both sides get the same weights, sessions, targets and baselines; that logits agree is part of
the records. Captum takes Gauss-Legendre nodes, the fastest of a few numbers of examples in a call,
and to the error the fewest steps of a ladder whose median error is no more than ours; both are
found beforehand. Every run is a process of its own, in each round all of a case's runs take turns,
and the first call is not timed. "CPU s" is what the cores worked: on a machine that others use too
it is the figure to compare by.

Prints a line of JSON a run and the tables last; --out DIR takes them as explain.jsonl, .txt.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
from collections.abc import Iterator

import explain_quantus
from explain_report import OURS, PEER, tables
from machine import machine, own_versions
from processes import Run, measure

HERE = pathlib.Path(__file__).parent
MODELS = ("xception", "vgg19", "vit")
CASES = ("fixed", "tolerance", "grad_cam", "rates", "memory", "deletion")
SESSIONS = {"paper": 4, "cpu": 32, "debug": 4}
"""That are explained together, by size: at the paper's a single one costs seconds."""

REPEATS = {"paper": 1, "cpu": 3, "debug": 1}
BUDGETS = (256, 1024)
"""MiB that methods are asked to keep to."""

METHODS = ("integrated_gradients", "grad_cam", "smooth_grad", "occlusion", "rise", "faithfulness")
"""Whose memory is measured."""

PACKAGES = ["torch", "captum==0.9.0", "grad-cam==1.5.7"]


def cases(options: argparse.Namespace, folder: pathlib.Path) -> Iterator[dict]:
    """Run every case and yield its records.

    Args:
        options: of `parse`.
        folder: for what both sides share.
    """
    python = (options.peers or pathlib.Path("none")).absolute() / "captum" / "bin" / "python"
    absent = "" if python.exists() else "no --peers DIR with captum was given"
    for model in options.models:
        about = _prepare(options, folder, model)
        facts = {"model": model, "size": options.size, **about}
        for case in (case for case in CASES[:4] if case in options.cases):
            repeats = str(REPEATS[options.size])
            common = {"unit": "sessions", "free": True, "facts": {**facts, "what": case}}
            runs = [_ours(case, folder, model, repeats, **common)]
            if case != "rates":
                theirs = [case, folder, model, options.threads, repeats]
                command = [str(python), str(HERE / "explain_peer.py"), *map(str, theirs)]
                runs.append(Run(PEER[case], command, absent=absent, **common))
            yield from measure(f"{case}, {model}", runs, options.rounds)
        if "memory" in options.cases:
            for budget in options.budgets:
                for method in METHODS:
                    more = {**facts, "what": "memory", "method": method, "mebibytes": budget}
                    run = _ours("memory", folder, model, method, str(budget << 20), facts=more)
                    title = f"memory, {model}, {method}, {budget} MiB"
                    yield from measure(title, [run._replace(amount=1, unit="calls", free=True)], 1)
    if "deletion" in options.cases:
        quantus = (options.peers or pathlib.Path("none")).absolute() / "quantus/bin/python"
        small = {"sizes": ("tiny",), "batch": 2} if options.quick else {}
        made = explain_quantus.cases(
            quantus,
            threads=options.threads,
            rounds=options.rounds,
            seed=options.seed,
            metrics=("deletion",),
            **small,
        )
        yield from ({"what": "deletion", **record} for record in made)


def _ours(case: str, *arguments: object, **rest) -> Run:
    command = [sys.executable, str(HERE / "explain_ours.py"), case, *map(str, arguments)]
    return Run(OURS, command, **rest)


def _prepare(options: argparse.Namespace, folder: pathlib.Path, model: str) -> dict:
    """Write what both sides share; return what is to be known of it."""
    run = options.runs / model if options.runs else None
    more = [options.data or "", *([run] if run else [])]
    shared = ["prepare", folder, model, options.size, options.sessions, options.seed, *more]
    command = [sys.executable, HERE / "explain_ours.py", *map(str, shared)]
    made = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return json.loads(made.stdout.splitlines()[-1])


def _about(options: argparse.Namespace) -> dict:
    versions = own_versions("jax", "jaxlib", "numpy")
    for name, script in (("captum", "explain_peer.py"), ("quantus", "explain_quantus_peer.py")):
        python = (options.peers or pathlib.Path("none")).absolute() / name / "bin" / "python"
        if python.exists():
            command = [python, HERE / script, "version"]
            shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            found = json.loads(shown.splitlines()[-1])["version"]
            versions |= dict(part.split(" ", 1) for part in found.split(", "))
    return {
        "case": "about",
        **machine(),
        "load": round(os.getloadavg()[0], 2),
        "versions": versions,
        "seed": options.seed,
        "threads": options.threads,
        "size": options.size,
        "data": bool(options.data),
    }


def install(folder: pathlib.Path) -> None:
    """Make the environments of captum and of Quantus."""
    subprocess.run([sys.executable, "-m", "venv", folder / "captum"], check=True)
    subprocess.run([folder / "captum/bin/pip", "install", "-q", *PACKAGES], check=True)
    explain_quantus.install(folder)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--size", default="paper", choices=SESSIONS)
    parser.add_argument("--cases", default=",".join(CASES), help=f"of {', '.join(CASES)}")
    parser.add_argument("--sessions", type=int, help="explained together; default by size")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--budgets", default=",".join(map(str, BUDGETS)), help="of memory, MiB")
    parser.add_argument("--data", type=pathlib.Path, help="dataset; default random sessions")
    parser.add_argument("--runs", type=pathlib.Path, help="folder of runs; default random weights")
    parser.add_argument("--peers", type=pathlib.Path, help="folder of environments")
    parser.add_argument("--install-peers", action="store_true", help="make them, then stop")
    parser.add_argument("--quick", action="store_true", help="few cases, to test the script")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out")
    options = parser.parse_args(arguments)
    for name, known in (("models", MODELS), ("cases", CASES)):
        chosen = getattr(options, name).split(",")
        setattr(options, name, chosen)
        if wrong := [one for one in chosen if one not in known]:
            parser.error(f"--{name} {wrong[0]}: choose of {', '.join(known)}")
    options.budgets = [int(word) for word in options.budgets.split(",")]
    options.sessions = options.sessions or SESSIONS[options.size]
    if options.install_peers and options.peers is None:
        parser.error("--install-peers needs --peers DIR")
    return options


def main() -> None:
    """Do what the command line asks for."""
    options = parse()
    if options.markdown:
        lines = (options.out / "explain.jsonl").read_text("utf-8").splitlines()
        print(tables([json.loads(line) for line in lines]))
        return
    if options.install_peers:
        install(options.peers)
        return
    options.out.mkdir(parents=True, exist_ok=True)
    os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: options.threads])
    records = [_about(options)]
    print(json.dumps(records[0]), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {
            "JAX_COMPILATION_CACHE_DIR": f"{folder}/jax",
            "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        }
        for record in cases(options, pathlib.Path(folder)):
            records.append(record)
            lines = "".join(json.dumps(one) + "\n" for one in records)
            (options.out / "explain.jsonl").write_text(lines, "utf-8")
    (options.out / "explain.txt").write_text(tables(records) + "\n", "utf-8")
    print(tables(records))


if __name__ == "__main__":
    main()
