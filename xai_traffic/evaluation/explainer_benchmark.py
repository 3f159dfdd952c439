"""Which explainer may be trusted: where the evidence is known, and the model provably uses it.

A run that was trained on a lab of `xai-traffic lab` meets sessions of the same recipe and another
seed. First an intervention: the same sessions, byte for byte, without the plants. A model whose
accuracy does not fall to chance rests on something else, and no explainer could be blamed for
pointing there. Then every method explains sessions whose verdict turns with the plant, and is
scored by how much of it falls upon the plant.
"""

from __future__ import annotations

import dataclasses
import os
import pathlib
import tempfile
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from xai_traffic.capture.fields import dissect
from xai_traffic.capture.sessions import packet_rows_of, read_capture_by
from xai_traffic.errors import RunError
from xai_traffic.evaluation.bootstrap import interval
from xai_traffic.evaluation.evidence_scores import CONTROL, UNITS, Judged, marked, score_methods
from xai_traffic.evaluation.explanations import player_groups, suitable_methods
from xai_traffic.lab.evidence import read_evidence
from xai_traffic.lab.recipe import Recipe
from xai_traffic.lab.write import write_lab
from xai_traffic.training.run import Run

SESSIONS = 48
"""Sessions explained unless another number is asked for."""

PER_FAMILY = 24
"""Sessions of each family that the model judges before and after the intervention."""

REFERENCES = 64
"""Benign sessions that baselines are drawn from."""

FRESH = 7919
"""Added to the seed of the run's lab: no session of the benchmark was seen in training."""


def benchmark_explainers(
    run: Run,
    *,
    control: Run | None = None,
    methods: Sequence[str] | None = None,
    sessions: int = SESSIONS,
    seed: int = 0,
) -> dict[str, Any]:
    """Score every method on fresh sessions of the lab that a run was trained on.

    Args:
        run: a binary run, trained on a dataset of one lab, layers `all`, layout `tiles`.
        control: the same, trained with `config.data.permute_labels`: what its explanations score is
            no merit of the model.
        methods: names of `explain.METHODS`; None for all that can explain the model.
        sessions: how many are explained.
        seed: of the sessions and of all chance.

    Returns:
        The run and its lab, and
            reliance   accuracy with the plants and without them, with 95 % intervals; `relies`
            explained  sessions explained, and how many have a verdict that turns with the plant
            chance     by unit, part of the players that is evidence
            methods    by name, unit (packets, fields, bytes) and score (pointing, mass, rank): mean
                       and interval over sessions
            control    the same of the other run, where there is one
            answers    by method, the units that it may be trusted with: at least half of the
                       evidence ranks first, and more than by the control (else by CONTROL), by
                       intervals
            claim      how much more a planted packet has than another one: see `claim`

    Raises:
        RunError: the run cannot be asked so, no session's verdict turns with the plant, or a method
            cannot explain the model.
    """
    recipe = recipe_of(run)
    if control is not None:
        _check_control(run, control)
    methods = tuple(methods or suitable_methods(run))
    fresh = dataclasses.replace(
        recipe, seed=recipe.seed + FRESH + seed, sessions_per_family=PER_FAMILY, remove=False
    )
    with tempfile.TemporaryDirectory() as folder:
        labs = [pathlib.Path(folder) / name for name in ("planted", "removed")]
        for lab, remove in zip(labs, (False, True), strict=True):
            write_lab(lab, **{**dataclasses.asdict(fresh), "remove": remove})
        evidence = read_evidence(labs[0])
        planted, removed = (judge_lab(run, lab) for lab in labs)
    found = reliance(planted, removed, fresh.best_accuracy)
    turned, visible = _turned(run, planted, removed, evidence)
    chosen = _even(planted.keys, np.flatnonzero(turned), sessions, seed)
    if not len(chosen):
        raise RunError(
            f"{run.path}: no verdict turns when the plant is taken out, so there is nothing to "
            f"explain (accuracy {found['accuracy']['mean']:.2f} with it, "
            f"{found['without']['mean']:.2f} without): train longer, or hide less"
        )
    benign = planted.images[~planted.malware]
    references = benign[np.random.Generator(np.random.Philox(seed)).permutation(len(benign))]
    own = [evidence[planted.keys[row]] for row in chosen]
    of_run = score_methods(run, planted, chosen, own, methods, references[:REFERENCES], seed)
    result = {
        "run": str(run.path),
        "step": run.step,
        "model": run.model.name,
        "mask": run.rules.mask,
        "lab": dataclasses.asdict(recipe),
        "seed": seed,
        "reliance": found,
        "explained": {
            "sessions": len(chosen),
            "turned": int(turned.sum()),
            "planted": int(visible.sum()),
        },
        **of_run,
    }
    if control is not None:
        other = score_methods(control, planted, chosen, own, methods, references[:REFERENCES], seed)
        result["control"] = {"run": str(control.path), "methods": other["methods"]}
    result["answers"] = _answers(of_run["methods"], result.get("control", {}).get("methods"))
    return result


def recipe_of(run: Run) -> Recipe:
    """Return the recipe of the lab that a run was trained on.

    Raises:
        RunError: it was not trained on a lab, or cannot tell what is asked here.
    """
    if "lab" not in run.dataset:
        raise RunError(
            f"{run.path} was not trained on a lab, whose evidence is known: make one (`xai-traffic "
            "lab --plant payload --out LAB`), convert the folder LAB alone, and train on that"
        )
    if run.task != "binary":
        raise RunError(
            f"{run.path} tells {len(run.classes)} classes apart: train with task binary, so that "
            "nothing but the plant tells Malware from Benign"
        )
    if run.rules.layout != "tiles" or run.rules.layers != "all":
        raise RunError(
            f"{run.path} reads layout {run.rules.layout!r} and layers {run.rules.layers!r}: "
            "evidence is found by layout tiles and layers all"
        )
    return Recipe(**run.dataset["lab"])


def _check_control(run: Run, control: Run) -> None:
    if control.config is not None and not control.config.data.permute_labels:
        raise RunError(
            f"{control.path} was trained on true labels: a control needs "
            "--config.data.permute_labels=True"
        )
    if recipe_of(control) != recipe_of(run) or control.model.name != run.model.name:
        raise RunError(
            f"{control.path} is no control of {run.path}: train it with the same config and dataset"
        )


def judge_lab(run: Run, lab: str | os.PathLike) -> Judged:
    """Read all captures of a lab by the run's own rules and judge their sessions."""
    lab = pathlib.Path(lab)
    keys, images, fields = [], [], []
    for path in sorted(lab.glob("*/*.pcap")):
        name = path.relative_to(lab).as_posix()
        read = read_capture_by(path, run.rules, name)
        keys += [(name, number) for number in read.table["session"].to_pylist()]
        images.append(read.images())
        packets = packet_rows_of(read.packets)
        dissected = [dissect(tile, row) for tile, row in zip(read.tiles, packets, strict=True)]
        for row in range(len(read)):
            first, count = (read.table[column][row].as_py() for column in ("first_tile", "tiles"))
            fields.append(dissected[first : first + count])
    together = np.concatenate(images)
    return Judged(
        keys=keys,
        malware=np.array([name.startswith("Malware/") for name, _ in keys]),
        images=together,
        fields=fields,
        logits=run.logits(together),
    )


def reliance(planted: Judged, removed: Judged, best: float) -> dict[str, Any]:
    """Tell whether a model's accuracy falls to chance when the plants are taken out.

    Args:
        best: accuracy of a judge who misses nothing.

    Returns:
        `accuracy` with the plants and `without` them, balanced over both classes, each with its
        95 % interval by bootstrap over sessions; `best`; and `relies`: the model has at least
        three quarters of what the best judge has above chance, and without the plants the interval
        reaches down to one half.
    """
    right = (planted.verdicts == planted.malware).astype(float)
    after = (removed.verdicts == removed.malware).astype(float)
    accuracy, without = interval(right), interval(after)
    enough = accuracy["mean"] - 0.5 >= 0.75 * (best - 0.5)
    return {
        "accuracy": accuracy,
        "without": without,
        "best": best,
        "relies": bool(enough and without["low"] is not None and without["low"] <= 0.5),
    }


def _answers(methods: Mapping[str, Any], control: Mapping[str, Any] | None) -> dict[str, list[str]]:
    found = {}
    for name, own in methods.items():
        found[name] = []
        for unit in UNITS:
            rank = own[unit]["rank"]
            other = (control[name] if control else methods[CONTROL])[unit]["rank"]
            if rank["low"] is None or rank["low"] < 0.5:
                continue
            nothing = other["mean"] is None  # a control that attributes nothing at all
            if nothing or (other["high"] is not None and rank["low"] > other["high"]):
                found[name].append(unit)
    return found


def _turned(
    run: Run, planted: Judged, removed: Judged, evidence: Mapping[tuple[str, int], list]
) -> tuple[np.ndarray, np.ndarray]:
    """Tell which sessions are Malware with the plant and Benign without it; which show a plant."""
    if planted.keys != removed.keys:
        raise RunError(f"{run.path} reads other sessions without the plants than with them")
    groups = player_groups(run, planted.fields)["bytes"][..., 0] >= 0
    visible = np.array(
        [
            key in evidence and bool((marked(evidence[key]) & own).any())
            for key, own in zip(planted.keys, groups, strict=True)
        ]
    )
    return visible & planted.verdicts & ~removed.verdicts, visible


def _even(keys: Sequence[tuple[str, int]], rows: np.ndarray, most: int, seed: int) -> np.ndarray:
    """Draw rows, as many of each capture as there are, captures in turn."""
    rows = np.random.Generator(np.random.Philox(seed)).permutation(rows)
    turn: dict[str, int] = {}
    order = []
    for row in rows:
        name = keys[row][0]
        turn[name] = turn.get(name, 0) + 1
        order.append((turn[name], name, row))
    return np.sort([row for *_, row in sorted(order)[:most]]).astype(np.int64)
