"""Train and score everything on one cell of the record with one seed."""

from __future__ import annotations

import contextlib
import dataclasses
import pathlib
import time
from collections.abc import Iterator

import jax
import numpy as np
from record_cells import Cell, Part
from record_datasets import payload_of

from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.base_rates import base_rates
from xai_traffic.evaluation.baseline_problem import Judged
from xai_traffic.evaluation.baselines import judge_baselines
from xai_traffic.evaluation.evaluate import predict_split
from xai_traffic.evaluation.score_intervals import Draws
from xai_traffic.evaluation.scores import score
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.training.config import load_config
from xai_traffic.training.loop import train
from xai_traffic.training.run import load_run

NETWORKS = ("vit", "xception", "vgg19")
PAYLOAD = "vit of the payload"
TOGETHER = "networks, mean"
SMALL_CNNS = {"cnn 28x28": "28x28", "cnn 1d": "1d"}
PERMUTED, UNTRAINED = "vit, labels permuted", "vit, untrained"
QUIET = {"log.images": 0, "log.heat_maps_every": 0, "checkpoint.keep": 1}
POWER = pathlib.Path("/sys/class/powercap")


def score_cell(
    cell: Cell,
    dataset: Dataset,
    captures: pathlib.Path,
    work: pathlib.Path,
    seed: int,
    size: str,
) -> Iterator[dict]:
    """Yield one record for each classifier; those of networks hold differences to baselines.

    Args:
        cell: what is asked.
        dataset: of the cell and seed.
        captures: folder of the captures' sets.
        work: runs go into a folder of it, and are not trained again where they stand.
        seed: of networks, baselines and bootstrap.
        size: word of the configs: cpu, or one for a GPU.
    """
    folder = work / "runs" / cell.name.replace("/", "-") / str(seed)
    stream = dataset.rules.layout == "ustc28"
    judged: list[tuple[str, Judged]] = []
    words = f"{cell.task},{size}"
    for name in NETWORKS:
        judged.append(("network", judge_by_network(cell, name, words, dataset, folder, seed)))
    if cell.payload is not None:
        reader, changes = cell.payload
        path = work / "data" / f"{dataset.path.name}-payload"
        own = payload_of(dataset, reader(captures, work), path)
        alone = dataclasses.replace(cell, changes={**cell.changes, **changes})
        made = judge_by_network(alone, "vit", words, own, folder, seed, name=PAYLOAD)
        judged.append(("network", _filled_up(made, own, judged[0][1], dataset, cell.task)))
    members = [one for _, one in judged]
    judged.append(("network", _mean(members)))
    # Bytes lost on top of their dropout cost them points: they have none lost in any cell.
    kept = {key: value for key, value in cell.changes.items() if not key.startswith("augment.")}
    whole = dataclasses.replace(cell, changes=kept)
    for name, variant in SMALL_CNNS.items():
        options = {"model.options": {"strung": not stream}}
        sized = f"{cell.task},{variant}"
        made = judge_by_network(whole, "cnn", sized, dataset, folder, seed, name=name, **options)
        judged.append(("baseline", made))
    for made in judge_baselines(dataset, cell.task, seed=seed):
        judged.append(("baseline", made))
    if not seed:
        control = judge_by_network(
            cell,
            "vit",
            words,
            dataset,
            folder,
            seed,
            name=PERMUTED,
            **{"data.permute_labels": True},
        )
        judged.append(("control", control))
        judged.append(("control", _untrained(folder / "vit", dataset)))
    yield from _records(cell, dataset, seed, judged)
    if cell.part is not None:
        yield from _records(cell, dataset, seed, judged, cell.part)


def judge_by_network(
    cell: Cell,
    family: str,
    words: str,
    dataset: Dataset,
    folder: pathlib.Path,
    seed: int,
    name: str = "",
    **changes,
) -> Judged:
    """Train a network of a cell, and return what it makes of the test sessions.

    Args:
        cell: whose changes of the config are taken.
        family, words: of the config.
        dataset: of the cell and seed.
        folder: run folders go into it; what is trained there is not trained again.
        seed: of the network.
        name: in tables, and of the run's folder; the family by default.
        **changes: of the config, by dotted key, after the cell's.
    """
    name = name or family
    path = folder / name.replace(" ", "-").replace(",", "")
    wanted = {**QUIET, **cell.changes, **changes, "data.path": dataset.path, "seed": seed}
    trained = train(load_config(f"configs/{family}.py:{words}", **wanted), path)
    run = load_run(path)
    predict_split(run, "test", dataset)  # compiles
    began, before = time.perf_counter(), joules()
    labels, probabilities = predict_split(run, "test", dataset)
    seconds, after = time.perf_counter() - began, joules()
    spent = "" if before is None or after is None else f"{after - before:.1f} J"
    return Judged(
        name, labels, probabilities, trained["seconds"], seconds, run.parameter_count, spent
    )


def joules() -> float | None:
    """Return what the processors have spent so far by their own count, None where none can be read.

    It starts again at zero now and then: a difference below zero means nothing.
    """
    spent = []
    for path in POWER.glob("intel-rapl:[0-9]*"):
        if path.name.count(":") == 1:  # a package; those inside it count the same again
            with contextlib.suppress(OSError, ValueError):
                spent.append(int((path / "energy_uj").read_text()) / 1e6)
    return sum(spent) if spent else None


def _untrained(path: pathlib.Path, dataset: Dataset) -> Judged:
    """Judge by the run's network as it was before the first step."""
    run = load_run(path)
    fresh = dataclasses.replace(run, variables=run.model.init(jax.random.key(run.config.seed)))
    began = time.perf_counter()
    labels, probabilities = predict_split(fresh, "test", dataset)
    seconds = time.perf_counter() - began
    return Judged(UNTRAINED, labels, probabilities, 0.0, seconds, run.parameter_count)


def _filled_up(made: Judged, own: Dataset, other: Judged, dataset: Dataset, task: str) -> Judged:
    """Return what a network says of the payloads, and what another says of sessions without one.

    Args:
        made: of the test sessions of `own`, the payloads.
        other: of those of `dataset`, all sessions.
    """
    classes = dataset.task_classes(task)
    place = [classes.index(name) for name in own.task_classes(task)]
    row_of = {key: row for row, key in enumerate(_keys(own))}
    probabilities = other.probabilities.astype(np.float64)
    known = 0
    for number, key in enumerate(_keys(dataset)):
        row = row_of.get(key)
        if row is not None:
            probabilities[number] = 0
            probabilities[number, place] = made.probabilities[row]
            known += 1
    return dataclasses.replace(
        made,
        labels=other.labels,
        probabilities=probabilities,
        seconds=made.seconds + other.seconds,
        detail=f"{known} of {len(probabilities)} sessions by their payload",
    )


def _keys(dataset: Dataset) -> list[tuple[str, int]]:
    """Return capture and number of each test session."""
    table = dataset.table.select(["capture", "session"]).take(dataset.rows("test"))
    return list(zip(*(table[name].to_pylist() for name in table.column_names), strict=True))


def _mean(members: list[Judged]) -> Judged:
    return Judged(
        TOGETHER,
        members[0].labels,
        np.mean([one.probabilities for one in members], axis=0),
        sum(one.training_seconds for one in members),
        sum(one.seconds for one in members),
        sum(one.parameters or 0 for one in members),
    )


def _records(
    cell: Cell,
    dataset: Dataset,
    seed: int,
    judged: list[tuple[str, Judged]],
    part: Part | None = None,
) -> Iterator[dict]:
    rows = dataset.rows("test")
    if part is not None:
        kept = part.kept(dataset)
        rows = rows[kept]
        judged = [(kind, _some(one, kept)) for kind, one in judged]
    units = units_of(dataset, rows)
    classes = dataset.task_classes(cell.task)
    draws = Draws(judged[0][1].labels, units, len(classes), seed)
    binary = _binary(cell, dataset)
    for kind, one in judged:
        predictions = one.probabilities.argmax(-1)
        whole = score(one.labels, one.probabilities, classes)
        record = {
            "cell": part.name if part else cell.name,
            "seed": seed,
            "kind": kind,
            "model": one.name,
            "train": len(dataset.rows("train")),
            "test": len(rows),
            "units": draws.count,
            "unit": unit_name(dataset),
            "leaky": part is None and bool(dataset.leaky(cell.task)),
            **draws.interval(predictions),
            "expected_calibration_error": whole["expected_calibration_error"],
            "training_seconds": round(one.training_seconds, 2),
            "sessions_per_second": round(len(rows) / one.seconds) if one.seconds else None,
            "parameters": one.parameters,
            "detail": one.detail,
        }
        if binary is not None:
            record["binary"] = _detector(one, binary, units, seed)
        if kind == "network":
            record["ahead_of"] = {
                other.name: {
                    **draws.difference(predictions, other.probabilities.argmax(-1)),
                    "mcnemar": draws.mcnemar(predictions, other.probabilities.argmax(-1)),
                }
                for kind_, other in judged
                if kind_ == "baseline"
            }
            record["confused"] = _confused(whole, classes)
        yield record


def _some(one: Judged, kept: np.ndarray) -> Judged:
    """Return what was made of some sessions, at the same speed."""
    return dataclasses.replace(
        one,
        labels=one.labels[kept],
        probabilities=one.probabilities[kept],
        seconds=one.seconds * float(kept.mean()),
    )


def _binary(cell: Cell, dataset: Dataset) -> np.ndarray | None:
    """Return 1 for classes of malware and 0 for benign ones, None where some are neither."""
    if cell.task == "binary":
        return np.array([0, 1])
    pairs = set(
        zip(
            dataset.table["label"].to_pylist(),
            dataset.table["binary_label"].to_pylist(),
            strict=True,
        )
    )
    sides = dict(pairs)
    if len(sides) < len(pairs) or set(sides.values()) != {"Benign", "Malware"}:
        return None
    return np.array([sides.get(name) == "Malware" for name in dataset.classes], int)


def _detector(one: Judged, side: np.ndarray, units: np.ndarray, seed: int) -> dict:
    """Return the scores of the same classifier as a detector of malware.

    The probabilities of a side's classes are added up, and the larger sum is the verdict.
    """
    malware = one.probabilities[:, side == 1].sum(1)
    alerts, labels = malware > one.probabilities[:, side == 0].sum(1), side[one.labels]
    draws = Draws(labels, units, 2, seed)
    rates = base_rates(alerts, labels == 1, units, prevalences=())
    kept = {name: rates[f"{name}_rate"] for name in ("detection", "false_alarm")}
    return {**draws.interval(alerts.astype(int)), **kept}


def _confused(whole: dict, classes: list[str], most: int = 5) -> list[dict]:
    """Return the pairs of classes that are taken for each other most often."""
    matrix = np.array(whole["confusion_matrix"])
    both = np.triu(matrix + matrix.T, 1)
    order = np.argsort(-both, axis=None, kind="stable")[:most]
    pairs = [np.unravel_index(place, both.shape) for place in order if both.flat[place]]
    return [{"classes": [classes[a], classes[b]], "sessions": int(both[a, b])} for a, b in pairs]
