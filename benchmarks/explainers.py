"""Which explainer may be trusted for which question: methods x models x plants, with controls.

    python benchmarks/explainers.py --work DIR                     the table, an hour on two cores
    python benchmarks/explainers.py --work DIR --plants ttl --models vit --sessions 8
    python benchmarks/explainers.py --markdown                     the tables of the records

For each kind of plant one lab of a thousand sessions on either side; for each model a run that is
trained on it and one that is trained on permuted labels; then `benchmark-explainers` with all
methods. DIR keeps labs, datasets, runs and compiled programs, and what is there is not made again.
Prints a line of JSON a cell and the tables last; --out DIR takes them as explainers.jsonl, .txt.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import pathlib
import time

import jax
from explainers_report import tables
from machine import machine, own_versions

from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.errors import RunError
from xai_traffic.evaluation.explainer_benchmark import benchmark_explainers
from xai_traffic.lab.plants import KINDS
from xai_traffic.lab.recipe import Recipe
from xai_traffic.lab.write import write_lab
from xai_traffic.models import Model
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

HERE = pathlib.Path(__file__).parent
MODELS = ("xception", "vgg19", "vit")
WORDS = "binary,cpu"
SIDE = 960
"""Sessions of a side of a lab, over all its families."""

FAMILIES = {"payload": ("web", "https", "dns", "database", "ssh", "peers")}
"""Of a plant, where not all: those whose place for it is among the packets that models read."""

PACKETS = {"ttl": 0, "time_stamp": 0, "window": 0}
"""Of plants that would sit in every packet of the client: a model needs one of them, and could not
be blamed for the others."""

CHANGES = {
    "batch_size": 32,
    "epochs": 12,
    "optimizer.ema": 0.9,
    # Some hundred sessions, and evidence that the usual augmentation would hide.
    "augment.byte_swap": 0.0,
    "augment.header_dropout": 0.0,
    "augment.payload_dropout": 0.0,
    "log.images": 0,
}

GENTLE = {"optimizer.learning_rate": 1e-3, "optimizer.weight_decay": 0.05}
"""For convolutions: their own decay takes a VGG-19 that has seen little back to nothing."""


def cell(
    folder: pathlib.Path,
    plant: str,
    model: str,
    sessions: int,
    seed: int,
    networks: dict[str, Model],
) -> dict:
    """Make what is missing of one cell of the table, measure it and return the record.

    Args:
        networks: by family, one for all plants: what is compiled for it serves again.
    """
    families = FAMILIES.get(plant) or Recipe(plant=plant).choices()
    lab, data = folder / f"lab-{plant}-{seed}", folder / f"data-{plant}-{seed}"
    if not lab.exists():
        write_lab(
            lab,
            seed=seed,
            plant=plant,
            packet=PACKETS.get(plant),
            families=families,
            sessions_per_family=-(-SIDE // len(families)),
        )
    if not data.exists():
        convert([lab], data, rules=ReadingRules(), split="random:80/20/0", seed=seed)
    began = time.perf_counter()
    runs = {}
    for name, permuted in (("run", False), ("control", True)):
        path = folder / f"{name}-{plant}-{model}-{seed}"
        if not (path / "result.json").exists():
            changes = {**CHANGES, "data.path": data, "data.permute_labels": permuted, "seed": seed}
            changes |= {"compilation_cache": folder / "compiled"} | (
                GENTLE if model != "vit" else {}
            )
            train(load_config(f"configs/{model}.py:{WORDS}", **changes), path)
        run = load_run(path)
        runs[name] = dataclasses.replace(run, model=networks.setdefault(model, run.model))
    trained = time.perf_counter()
    about = {"plant": plant, "model": model, "variant": runs["run"].model.variant}
    try:
        found = benchmark_explainers(
            runs["run"], control=runs["control"], sessions=sessions, seed=seed
        )
    except RunError as error:  # a model that has not learned costs its own cell alone
        return {**about, "failed": str(error).partition(": ")[2]}
    return {
        **about,
        "seconds": {
            "training": round(trained - began, 1),
            "explaining": round(time.perf_counter() - trained, 1),
        },
        **found,
        "run": f"run-{plant}-{model}-{seed}",
        "control": {**found["control"], "run": f"control-{plant}-{model}-{seed}"},
    }


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--work", type=pathlib.Path, help="folder of what is made on the way")
    parser.add_argument("--plants", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--models", default=",".join(MODELS), help=f"of {', '.join(MODELS)}")
    parser.add_argument("--sessions", type=int, default=16, help="explained in a cell")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out")
    options = parser.parse_args()
    for name, known in (("plants", tuple(KINDS)), ("models", MODELS)):
        chosen = getattr(options, name).split(",")
        setattr(options, name, chosen)
        if wrong := [one for one in chosen if one not in known]:
            parser.error(f"--{name} {wrong[0]}: choose of {', '.join(known)}")
    if not options.work and not options.markdown:
        parser.error("--work DIR is needed for labs and runs")
    return options


def main() -> None:
    """Measure every cell, or print what was measured."""
    options = parse()
    lines, text = options.out / "explainers.jsonl", options.out / "explainers.txt"
    if options.markdown:
        print(tables([json.loads(line) for line in lines.read_text("utf-8").splitlines()]))
        return
    options.out.mkdir(parents=True, exist_ok=True)
    options.work.mkdir(parents=True, exist_ok=True)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.0)
    versions = own_versions("jax", "jaxlib", "numpy")
    records = [{**machine(), "versions": versions, "seed": options.seed}]
    networks: dict[str, Model] = {}
    for model in options.models:
        for plant in options.plants:
            record = cell(options.work, plant, model, options.sessions, options.seed, networks)
            records.append(record)
            print(json.dumps(record), flush=True)
            lines.write_text("".join(json.dumps(one) + "\n" for one in records), "utf-8")
        networks.clear()
        jax.clear_caches()  # a process that holds thousands of programs runs out of maps
    text.write_text(tables(records) + "\n", "utf-8")
    print(tables(records))


if __name__ == "__main__":
    main()
