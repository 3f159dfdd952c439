"""Score the three models and a random forest on USTC-TFC2016, mask by mask, on one split.

    python benchmarks/ustc.py --captures USTC --out DIR

USTC holds Benign/<class>.pcap and Malware/<class>.pcap. One dataset is read with nothing hidden and
split; the masked ones are derived from it, so every column has the same split (less the sessions
that become duplicates under its mask). Prints a JSON line a cell, then the table of the README;
cells that stand in DIR are not trained again.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import pathlib
import platform
import time

import numpy as np

from xai_traffic import __version__
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.build import convert
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.evaluation.evaluate import evaluate
from xai_traffic.evaluation.scores import score
from xai_traffic.terminal import configure_logging
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

MASKS = {
    "none": "none",
    "addresses+ports": "addresses+ports",
    "addresses+ports+ids+window+options": "addresses+ports+ids+window+options",
}
MODELS = ("vit", "xception", "vgg19")
FOREST_TREES, FOREST_TILES, FORESTS = 100, 8, 5


def main() -> None:
    """Make the datasets, train and score every cell, print lines and table."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--captures", type=pathlib.Path, required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--models", default=",".join(MODELS))
    parser.add_argument("--words", default="multiclass,cpu", help="of the configurations")
    parser.add_argument("--seed", type=int, default=0, help="of split and training")
    options = parser.parse_args()
    configure_logging()
    datasets = make_datasets(options.captures, options.out, options.seed)
    cells = []
    for mask, dataset in datasets.items():
        rows = [forest_cell(dataset, options.seed)]
        for model in options.models.split(","):
            run = options.out / "runs" / f"{model}-{mask}"
            rows.append(model_cell(model, options.words, dataset, run, options.seed))
        for row in rows:
            cells.append({"mask": mask, **row})
            print(json.dumps(cells[-1]), flush=True)
    print_table(cells, datasets, options.seed)


def make_datasets(captures: pathlib.Path, out: pathlib.Path, seed: int) -> dict[str, Dataset]:
    """Return one dataset a mask, made where they do not stand yet."""
    datasets = {}
    for mask in MASKS:
        path = out / "datasets" / mask
        if not path.exists():
            if mask == "none":
                rules = ReadingRules(rule="five_tuple")
                convert([captures], path, rules=rules, split="random:70/10/20", seed=seed)
            else:
                rules = ReadingRules(rule="five_tuple", mask=mask)
                convert([out / "datasets" / "none"], path, rules=rules)
        datasets[mask] = open_dataset(path)
    return datasets


def forest_cell(dataset: Dataset, seed: int) -> dict:
    """Train plain random forests on the bytes of the first tiles and score the test split.

    A forest trains in seconds, so that the mean and the standard deviation over several are shown.
    """
    from sklearn.ensemble import RandomForestClassifier

    began = time.monotonic()

    def features(split: str) -> np.ndarray:
        rows = dataset.rows(split)
        tiles = np.zeros((len(rows), FOREST_TILES, 256), np.uint8)
        for k, row in enumerate(rows):
            first, count = dataset.first_tiles[row], min(dataset.tile_counts[row], FOREST_TILES)
            tiles[k, :count] = dataset.tiles[first : first + count]
        return tiles.reshape(len(rows), -1)

    train, test = features("train"), features("test")
    labels = {split: dataset.labels[dataset.rows(split)] for split in ("train", "test")}
    results = []
    for number in range(FORESTS):
        forest = RandomForestClassifier(FOREST_TREES, random_state=seed + number, n_jobs=-1)
        forest.fit(train, labels["train"])
        probabilities = np.zeros((len(test), len(dataset.classes)))
        probabilities[:, forest.classes_] = forest.predict_proba(test)
        results.append(score(labels["test"], probabilities, dataset.classes))
    seconds = (time.monotonic() - began) / FORESTS
    return _cell(f"random forest, mean of {FORESTS}", results, seconds, None)


def model_cell(model: str, words: str, dataset: Dataset, run: pathlib.Path, seed: int) -> dict:
    """Train a model, unless its run stands, and score the test split."""
    config = load_config(f"configs/{model}.py:{words}", path=dataset.path, seed=seed)
    trained = train(config, run)
    result = evaluate(load_run(run), "test", dataset)
    return _cell(model, [result], trained["seconds"], result["parameters"])


def _cell(model: str, results: list[dict], seconds: float, parameters: int | None) -> dict:
    """Return the line of a cell: means over the results, and how far they spread."""
    values = {name: [result[name] for result in results] for name in ("accuracy", "macro_f1")}
    return {
        "model": model,
        **{name: float(np.mean(value)) for name, value in values.items()},
        **{f"{name}_std": float(np.std(value)) for name, value in values.items()},
        "runs": len(results),
        "sessions": results[0]["sessions"],
        "parameters": parameters,
        "seconds": round(seconds, 1),
    }


def print_table(cells: list[dict], datasets: dict[str, Dataset], seed: int) -> None:
    """Print the cells as Markdown: accuracy / macro-F1 in per cent, test sessions in the head."""
    import jax
    import sklearn

    masks = list(datasets)
    head = [f"{mask} ({len(datasets[mask].rows('test'))})" for mask in masks]
    print(f"\n| model | parameters | {' | '.join(head)} |")
    print("|---" * (len(masks) + 2) + "|")
    for model in dict.fromkeys(cell["model"] for cell in cells):
        row = {cell["mask"]: cell for cell in cells if cell["model"] == model}
        parameters = next(iter(row.values()))["parameters"]
        scores = [f"{_show(row[mask])} ({row[mask]['seconds'] / 60:.1f} min)" for mask in masks]
        size = f"{parameters / 1e6:.2f} M" if parameters else ""
        print(f"| {model} | {size} | {' | '.join(scores)} |")
    print(
        f"\n{os.cpu_count()} cores of {_processor()}, Python {platform.python_version()}, "
        f"jax {jax.__version__} on {jax.devices()[0].device_kind}, "
        f"scikit-learn {sklearn.__version__}, xai_traffic {__version__}, seed {seed}"
    )


def _show(cell: dict) -> str:
    parts = []
    for name in ("accuracy", "macro_f1"):
        spread = f" ± {100 * cell[f'{name}_std']:.2f}" if cell["runs"] > 1 else ""
        parts.append(f"{100 * cell[name]:.2f}{spread}")
    return " / ".join(parts)


def _processor() -> str:
    """Return the processor's name; `platform` knows none on Linux."""
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8") as stream:
        for line in stream:
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


if __name__ == "__main__":
    main()
