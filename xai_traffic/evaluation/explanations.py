"""How far the explanations of a run may be believed: metrics of images, and means over a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from xai_traffic import explain
from xai_traffic.capture.fields import Field, dissect
from xai_traffic.capture.sessions import packet_rows_of
from xai_traffic.data.store import Dataset
from xai_traffic.errors import RunError
from xai_traffic.evaluation.bootstrap import interval, widened
from xai_traffic.evaluation.evaluate import check_rules
from xai_traffic.evaluation.split_units import unit_name, units_of
from xai_traffic.terminal import progress
from xai_traffic.training.overlap import leaks_of
from xai_traffic.training.run import Run

AT_ONCE = 32
"""Sessions whose explanations are measured together."""

CONTROLS = ("shuffled", "random", "edges")
"""Maps that must not pass: the first method's values shuffled over the bytes of their session,
values drawn without the model, and the edges of the image."""

AGAIN = 32
"""Sessions, the first ones, that are explained again for stability and randomisation."""

ALIKE = 512
"""Most sessions whose maps are compared with one another."""

REFERENCES = 64
"""Sessions of the training split, else of this one, that baselines are drawn from."""


def explanation_metrics(
    run: Run,
    dataset: Dataset,
    split: str = "test",
    *,
    methods: Sequence[str] | None = None,
    names: Sequence[str] = tuple(explain.METRICS),
    limit: int | None = None,
    seed: int = 0,
) -> dict[str, Any]:
    """Explain the verdicts on a split by every method, and measure how far that may be believed.

    Args:
        run: a trained run whose layout is `tiles`.
        methods: names of `explain.METHODS`; None for all that can explain the model.
        names: of `explain.METRICS`.
        limit: most sessions, drawn at random; None for all. Only AGAIN of them are explained again
            for `explain.AGAIN`, and only ALIKE compared with one another.
        seed: of that draw and of the controls.

    Returns:
        What was measured of what, whether that is LEAKY, what a `unit` of the intervals is, and
        `methods`: by name, controls among them, `metrics` with mean, `low` and `high` (95 % by
        bootstrap) and how many sessions have one, and `cards`, the part with PASS, WARN and FAIL of
        the sessions of at least 3 packets, by all metrics but `explain.AGAIN`, how many they are,
        and `passed`, the first with its interval.

    Raises:
        RunError: the data was read by other rules or not as tiles, the split is empty, the limit is
            less than 1, or a method cannot explain the model.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    rows, references = sessions_to_explain(run, dataset, split, limit, rng)
    methods = tuple(methods or suitable_methods(run))
    measured: dict[str, dict[str, list[np.ndarray]]] = {}
    maps: dict[str, list[np.ndarray]] = {}
    targets, held = [], []
    for start in progress(range(0, len(rows), AT_ONCE), f"explain {split}"):
        part = rows[start : start + AT_ONCE]
        images, fields = images_and_fields(dataset, part)
        verdicts = np.argmax(run.logits(images), axis=-1).astype(np.int32)
        found = explain_images(run, images, verdicts, methods, fields, references)
        own = _held(run, fields)
        found |= _controls(images, found[methods[0]], own, rng)
        wanted = [name for name in names if start < AGAIN or name not in explain.AGAIN]
        measured_here = measure_images(run, images, verdicts, found, fields, wanted, references)
        for method, values in measured_here.items():
            for name, value in values.items():
                measured.setdefault(method, {}).setdefault(name, []).append(value)
        for method, one in found.items():
            if start < ALIKE:
                maps.setdefault(method, []).append(np.asarray(one.attributions, np.float32))
        targets.append(verdicts)
        held.append(own)

    values = {
        method: {name: np.concatenate(parts) for name, parts in own.items()}
        for method, own in measured.items()
    }
    if "input_dependence" in names:
        _compare(
            values, maps, np.concatenate(targets), np.concatenate(held[: -(-ALIKE // AT_ONCE)])
        )
    several, units = dataset.tile_counts[rows] >= 3, units_of(dataset, rows)
    return {
        "run": str(run.path),
        "step": run.step,
        "model": run.model.name,
        "dataset": str(dataset.path),
        "split": split,
        "mask": run.rules.mask,
        "sessions": len(rows),
        "of": len(dataset.rows(split)),
        "unit": unit_name(dataset),
        "leaky": leaks_of(run, split, dataset),
        "seed": seed,
        "methods": {
            method: {
                "metrics": {
                    name: interval(one, units[: len(one)], seed=seed) for name, one in own.items()
                },
                "cards": _cards(own, several, units, seed),
            }
            for method, own in values.items()
        },
    }


def sessions_to_explain(
    run: Run, dataset: Dataset, split: str, limit: int | None, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of `drawn_rows`, and images uint8 [n, 128, 128] to draw baselines from.

    These are of REFERENCES sessions of the training split, else of this one, or of all there are.
    """
    drawn = drawn_rows(run, dataset, split, limit, rng)
    pool = dataset.rows("train")
    pool = pool if len(pool) else dataset.rows(split)
    return drawn, dataset.images(np.sort(rng.permutation(pool)[:REFERENCES]))


def drawn_rows(
    run: Run, dataset: Dataset, split: str, limit: int | None, rng: np.random.Generator
) -> np.ndarray:
    """Draw the sessions of a split that are explained.

    Args:
        limit: most sessions; None for all.

    Returns:
        rows of the dataset's table in the order of the draw, int64 [N].

    Raises:
        RunError: the data was read by other rules or not as tiles, the split is empty, or the limit
            is less than 1.
    """
    check_rules(run, dataset)
    if run.rules.layout != "tiles":
        raise RunError(f"explanations need layout 'tiles', and this run has {run.rules.layout!r}")
    rows = dataset.rows(split)
    if not len(rows):
        raise RunError(f"{dataset.path} has no sessions in split {split!r}")
    if limit is not None and limit < 1:
        raise RunError(f"limit is {limit}: at least one session is needed")
    return rng.permutation(rows)[:limit]


def suitable_methods(run: Run) -> tuple[str, ...]:
    """Return the names of all methods that can explain the run's model."""
    image = np.zeros((1, 128, 128, 1), np.float32)
    attends = bool(explain.attention_layers(run.model.apply, run.variables, image))
    return tuple(name for name in explain.METHODS if attends or name not in explain.ATTENTIVE)


def images_and_fields(
    dataset: Dataset, rows: np.ndarray
) -> tuple[np.ndarray, list[list[list[Field]]]]:
    """Return sessions as `explain_images` takes them: images, and fields of their packets.

    Args:
        rows: of `dataset.table`, int [N].
    """
    fields = []
    for row in rows:
        first, count = int(dataset.first_tiles[row]), int(dataset.tile_counts[row])
        packets = packet_rows_of(dataset.packets.slice(first, count))
        tiles = dataset.tiles[first : first + count]
        fields.append([dissect(tile, own) for tile, own in zip(tiles, packets, strict=True)])
    return dataset.images(rows), fields


def explain_images(
    run: Run,
    images: np.ndarray,
    targets: np.ndarray,
    methods: Sequence[str],
    fields: Sequence[Sequence[Sequence[Field]]],
    references: np.ndarray | None = None,
) -> dict[str, explain.Attribution]:
    """Explain the targets of images by some methods.

    Args:
        images: uint8 [N, 128, 128], as the model sees them.
        targets: classes, int32 [N].
        methods: names of `explain.METHODS`.
        fields: of each packet of each session, see `capture.fields.dissect`.
        references: uint8 [M, 128, 128], sessions that baselines are drawn from.

    Raises:
        RunError: a method cannot explain this model, or lacks references.
    """
    again = _explainer(run, targets, player_groups(run, fields), references)
    found = {}
    for name in methods:
        try:
            found[name] = again(name, run.variables, _batch(images))
        except ValueError as error:
            raise RunError(f"{name} cannot explain {run.model.name}: {error}") from error
    return found


def measure_images(
    run: Run,
    images: np.ndarray,
    targets: np.ndarray,
    found: Mapping[str, explain.Attribution],
    fields: Sequence[Sequence[Sequence[Field]]],
    names: Sequence[str],
    references: np.ndarray | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Measure what `explain_images` found, see `explain.measure`.

    Args:
        fields, references: as for `explain_images`.
        names: of `explain.METRICS`.
    """
    groups = player_groups(run, fields)
    return explain.measure(
        run.model.apply,
        run.variables,
        _batch(images),
        targets,
        found,
        groups,
        again=_explainer(run, targets, groups, references, options=explain.CHEAPER),
        names=names,
    )


def player_groups(run: Run, fields: Sequence[Sequence[Sequence[Field]]]) -> dict[str, np.ndarray]:
    """Return the players of sessions that the model reads, by unit, see `explain.session_groups`.

    Args:
        fields: of each packet of each session, see `capture.fields.dissect`.
    """
    sessions = [explain.session_groups(parts[: run.model.packets]) for parts in fields]
    return {unit: np.stack([own[unit] for own in sessions]) for unit in sessions[0]}


def _batch(images: np.ndarray):
    return jnp.asarray(images[..., None], jnp.float32)


def _explainer(
    run: Run,
    targets: np.ndarray,
    groups: Mapping[str, np.ndarray],
    references: np.ndarray | None,
    options: Mapping[str, Mapping[str, Any]] | None = None,
) -> explain.Explainer:
    others = None if references is None else _batch(references)

    def explain_again(method: str, variables: Any, x) -> explain.Attribution:
        if method == "edges":
            return explain.Attribution(explain.edges(x))
        if method in CONTROLS:
            raise KeyError(method)
        return explain.attribute(
            method,
            run.model.apply,
            variables,
            x,
            targets,
            extent=run.model.extent,
            groups=groups,
            references=others,
            extents=run.model.extents,
            **(options or {}).get(method, {}),
        )

    return explain_again


def _held(run: Run, fields: list[list[list[Field]]]) -> np.ndarray:
    """Tell which pixels are bytes that the model reads, bool [N, 128, 128]."""
    lengths = ([own[-1].end if own else 0 for own in one[: run.model.packets]] for one in fields)
    return np.stack([explain.packet_groups(own)[..., 0] >= 0 for own in lengths])


def _controls(
    images: np.ndarray, first: explain.Attribution, held: np.ndarray, rng: np.random.Generator
) -> dict[str, explain.Attribution]:
    shuffled = np.array(first.attributions)
    for one, own in zip(shuffled, held, strict=True):
        one[own] = rng.permutation(one[own])
    maps = (shuffled, rng.standard_normal(images.shape), explain.edges(_batch(images)))
    return {name: explain.Attribution(one) for name, one in zip(CONTROLS, maps, strict=True)}


def _compare(values: dict, maps: dict, targets: np.ndarray, held: np.ndarray) -> None:
    """Add the input dependence of the first ALIKE sessions; the others have none."""
    for method, parts in maps.items():
        alike = explain.input_dependence(np.concatenate(parts), held, targets[: len(held)])
        values[method]["input_dependence"] = np.pad(
            alike, (0, len(targets) - len(alike)), constant_values=np.nan
        )


def _cards(
    values: dict[str, np.ndarray], several: np.ndarray, units: np.ndarray, seed: int
) -> dict[str, Any]:
    asked = {name: one for name, one in values.items() if name not in explain.AGAIN}
    grades = [
        explain.card({name: float(one[row]) for name, one in asked.items()}).grade
        for row in np.flatnonzero(several)
    ]
    kinds = (explain.PASS, explain.WARN, explain.FAIL)
    parts = {grade: grades.count(grade) / max(len(grades), 1) for grade in kinds}
    own = units[several]
    passed = interval(np.array([grade == explain.PASS for grade in grades], float), own, seed=seed)
    return {
        **parts,
        "sessions": len(grades),
        "passed": widened(passed, len(np.unique(own))) if grades else passed,
    }
