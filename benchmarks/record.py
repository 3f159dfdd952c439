"""The record: every model, baseline and control on a fixed list of cells, seed by seed.

    python benchmarks/record.py --captures CAPTURES --work DIR            hours on two cores
    python benchmarks/record.py --captures CAPTURES --work DIR --cells trio/none --seeds 1
    python benchmarks/record.py --markdown                                the tables of the records

Each seed draws the split anew and starts the networks anew. What stands in the records is not
measured again, so a run that was stopped goes on; all cells are measured with one seed before the
next. Prints a line of JSON a classifier and the tables last; --out DIR takes them as record.jsonl
and record.txt. Jobs of a cluster can have a cell each, with a --work and an --out of its own: the
lines of their record.jsonl, one file behind the other, are one record. On a GPU, `--size s` takes
larger networks.
"""

from __future__ import annotations

import argparse
import json
import pathlib
import shutil

import jax
from machine import machine, own_versions
from record_cells import cells
from record_report import tables
from record_scores import score_cell

from xai_traffic.huge_pages import restart_with_huge_pages
from xai_traffic.terminal import configure_logging, log

HERE = pathlib.Path(__file__).parent
SEEDS = 5
DIGITS = 6


def parse() -> argparse.Namespace:
    """Read the command line."""
    known = [cell.name for cell in cells()]
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, help="folder of the captures' sets")
    parser.add_argument("--work", type=pathlib.Path, help="folder of datasets and runs")
    parser.add_argument("--cells", default=",".join(known), help=f"of {', '.join(known)}")
    parser.add_argument("--seeds", type=int, default=SEEDS, help="0 up to so many")
    parser.add_argument("--size", default="cpu", help="of the networks, a word of their configs")
    parser.add_argument("--keep", action="store_true", help="runs and datasets that are done with")
    parser.add_argument("--out", type=pathlib.Path, default=HERE / "results")
    parser.add_argument("--markdown", action="store_true", help="print the tables of --out")
    options = parser.parse_args()
    options.cells = options.cells.split(",")
    if wrong := [name for name in options.cells if name not in known]:
        parser.error(f"--cells {wrong[0]}: choose of {', '.join(known)}")
    if not options.markdown and not (options.work and options.captures):
        parser.error("--captures and --work are needed to measure")
    return options


def shortened(value):
    """Return JSON values with numbers of DIGITS digits: further ones say nothing here."""
    if isinstance(value, dict):
        return {name: shortened(each) for name, each in value.items()}
    if isinstance(value, list):
        return [shortened(each) for each in value]
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value


def main() -> None:
    """Measure what is missing, or print what was measured."""
    options = parse()
    lines = options.out / "record.jsonl"
    records = []
    if lines.exists():
        records = [json.loads(line) for line in lines.read_text("utf-8").splitlines()]
    if options.markdown:
        print(tables(records))
        return
    restart_with_huge_pages()
    configure_logging()
    options.out.mkdir(parents=True, exist_ok=True)
    done = {(record["cell"], record["seed"], record["size"]) for record in records}
    about = {"size": options.size, **machine(), "device": jax.devices()[0].device_kind}
    about["versions"] = own_versions("jax", "scikit-learn", "lightgbm", "numpy")
    for seed in range(options.seeds):
        for cell in (cell for cell in cells() if cell.name in options.cells):
            if (cell.name, seed, options.size) in done:
                continue
            log.info("%s, seed %d", cell.name, seed)
            dataset = cell.make(options.captures, options.work, seed)
            made = []
            for record in score_cell(
                cell, dataset, options.captures, options.work, seed, options.size
            ):
                made.append({**record, **about})
                print(json.dumps(shortened(record)), flush=True)
            records += made
            lines.write_text("".join(json.dumps(one) + "\n" for one in map(shortened, records)))
            jax.clear_caches()  # a process that holds thousands of programs runs out of maps
            if not options.keep:
                shutil.rmtree(options.work / "runs" / cell.name.replace("/", "-") / str(seed))
    (options.out / "record.txt").write_text(tables(records) + "\n", "utf-8")
    print(tables(records))


if __name__ == "__main__":
    main()
