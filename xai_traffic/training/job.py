"""Everything a training needs, made from its config and checked before anything compiles."""

from __future__ import annotations

import dataclasses
import json
import pathlib
from collections.abc import Callable, Iterable
from typing import Any

import jax
import ml_collections
import numpy as np
from jax.experimental import multihost_utils
from jax.sharding import Mesh

from xai_traffic.capture.layouts import model_layout
from xai_traffic.capture.masking import parse_mask
from xai_traffic.data.folder import manifest_sha256
from xai_traffic.data.loader import Loader
from xai_traffic.data.store import Dataset, open_dataset
from xai_traffic.errors import ConfigError, RunError
from xai_traffic.models import Model
from xai_traffic.parallel.mesh import DATA, check_batch, make_mesh, share_of_batch
from xai_traffic.parallel.placement import check_placement, held
from xai_traffic.parallel.sharding import fits, put, replicated, shapes_at
from xai_traffic.terminal import log, printable
from xai_traffic.training.checkpoint import Checkpoints
from xai_traffic.training.config import flatten
from xai_traffic.training.losses import balanced_weights
from xai_traffic.training.optim import make_optimizer, make_schedule
from xai_traffic.training.overlap import trained_on, trainings_before
from xai_traffic.training.run import CONFIG, READING, build_model, load_run, read_config
from xai_traffic.training.state import TrainState, make_state
from xai_traffic.training.steps import compile_steps
from xai_traffic.whole import write_json

MOST_PREAMBLE = 32
"""Bytes at the begin of a payload that may count as a header of it."""

MAY_DIFFER = (
    *("log.", "mesh.", "checkpoint.", "compilation_cache"),
    *("data.pack", "data.device_budget", "remat"),
    *("loss.not_finite", "loss.skips_in_a_row"),
)
"""Fields that may change when a run goes on; `mesh.`, `remat` and `data.pack` change parameters, by
rounding (and by the draws of dropout), the others not at all."""


@dataclasses.dataclass(frozen=True)
class Job:
    """What `train` works with.

    Args:
        dataset: of the training.
        before: what the parameters that it starts from were trained on, see `overlap.py`.
        leaky: why it is LEAKY for this task, see `data/leaks.py`, and what of its validation and
            test sessions was trained on before; empty where neither is.
        classes: names of the K classes.
        model: not yet initialised.
        mesh: of devices.
        loader: of the training split.
        validation: loader of the validation split.
        tiles: of the two splits, uint8 [T, 256] on every device; None where batches bring theirs.
        validation_rows: the dataset's rows in it, int64.
        train_step, eval_step: see `steps.compile_steps`.
        like: shapes, dtypes and shardings of the state.
        start: makes the state before the first step, on the mesh.
    """

    dataset: Dataset
    before: list[dict[str, Any]]
    leaky: list[str]
    classes: list[str]
    model: Model
    mesh: Mesh
    loader: Loader
    validation: Loader
    tiles: dict[str, jax.Array | None]
    validation_rows: np.ndarray
    train_step: Callable
    eval_step: Callable
    like: TrainState
    start: Callable[[], TrainState]

    def restore(self, checkpoints: Checkpoints) -> tuple[TrainState, dict[str, Any] | None]:
        """Return the newest whole checkpoint's state and position, or the start and None."""
        found = checkpoints.restore_newest(self.like)
        return (self.start(), None) if found is None else found


def prepare(config: ml_collections.ConfigDict) -> Job:
    """Open the dataset, build the model, and compile nothing yet.

    Raises:
        ConfigError: the config does not fit the dataset or the devices.
        DatasetError: the dataset cannot be read.
    """
    dataset = open_dataset(config.data.path)
    check_dataset(config, dataset)
    classes, labels = dataset.task_classes(config.task), dataset.task_labels(config.task)
    mesh = make_mesh(config.mesh.data, config.mesh.model)
    check_batch(config.batch_size, mesh)
    part, parts = share_of_batch(mesh)
    rows = {
        split: _limited(dataset.rows(split), config.data.limit, config.seed)
        for split in ("train", "validation")
    }
    if config.data.permute_labels:
        labels = permuted_labels(labels, rows.values(), config.seed)
    before = trainings_before(config.init_from)
    leaky = dataset.leaky(config.task)
    for split in ("validation", "test"):
        leaky += trained_on(before, split, dataset, dataset.rows(split))
    for reason in leaky:
        log.warning("%s is LEAKY: %s", *map(printable, (str(dataset.path), reason)))
    model = build_model(config, len(classes))
    # What mixup makes of two sessions has as many packets as the longer one: it stays on the grid.
    packed = config.data.pack and model.packs and not config.augment.mixup
    budget = int(config.data.device_budget * 2**30)
    loaders, tiles = {}, {}
    for split in rows:
        size = int(dataset.tile_counts[rows[split]].sum()) * dataset.tiles.shape[1]
        stays = fits(size, budget, mesh)
        loaders[split] = Loader(
            dataset,
            rows[split],
            config.batch_size,
            config.seed,
            shuffle=split == "train",
            drop_last=split == "train",
            part=part,
            parts=parts,
            labels=labels,
            by_place=stays,
            packets=model.packets if packed else 0,
            row_multiple=mesh.shape[DATA],
        )
        tiles[split] = put(loaders[split].take_tiles(), replicated(mesh)) if stays else None
        budget -= size if stays else 0
    schedule = make_schedule(config.optimizer, config.epochs, len(loaders["train"]))
    optimizer = make_optimizer(config.optimizer, schedule)
    weights = np.ones(len(classes), np.float32)
    if config.data.class_weights == "balanced":
        weights = balanced_weights(labels[rows["train"]], len(classes))

    def make(variables: dict[str, Any]) -> TrainState:
        return make_state(variables, optimizer, average=bool(config.optimizer.ema))

    def make_fresh() -> TrainState:
        return make(model.init(jax.random.key(config.seed)))

    like = jax.eval_shape(make_fresh)
    check_placement(config.mesh.placement, like.variables, mesh)
    shardings = held(config.mesh.placement, like, mesh)
    steps = compile_steps(model, optimizer, schedule, weights, config, mesh, like)

    def start() -> TrainState:
        # No device ever holds more than its part.
        if not config.init_from:
            return jax.jit(make_fresh, out_shardings=shardings)()
        variables = parameters_of(config.init_from, like.variables)
        return jax.jit(make, out_shardings=shardings)(put(variables, shardings.variables))

    return Job(
        dataset=dataset,
        before=before,
        leaky=leaky,
        classes=classes,
        model=model,
        mesh=mesh,
        loader=loaders["train"],
        validation=loaders["validation"],
        tiles=tiles,
        validation_rows=rows["validation"],
        train_step=steps[0],
        eval_step=steps[1],
        like=shapes_at(like, shardings),
        start=start,
    )


def check_dataset(config: ml_collections.ConfigDict, dataset: Dataset) -> None:
    """Refuse a dataset that was read otherwise than the config says.

    Raises:
        ConfigError: the message names the key and the remedy.
    """
    rules, wanted = dataset.rules, config.data.mask
    try:
        model_layout(rules.layout)
    except ConfigError as error:
        raise ConfigError(
            f"data.path {dataset.path}: {error}; convert the captures with --layout tiles"
        ) from None
    augment = config.augment
    headless = rules.layers == "payload" and augment.header_bytes > MOST_PREAMBLE
    if headless and (augment.payload_dropout or augment.header_dropout):
        raise ConfigError(
            f"augment.header_bytes is {augment.header_bytes} and the dataset {dataset.path} holds "
            "nothing but payload: set --config.augment.header_bytes=4, the bytes that a protocol "
            f"is known by ({MOST_PREAMBLE} at most), or --config.augment.payload_dropout=0 "
            "--config.augment.header_dropout=0"
        )
    if wanted is not None and parse_mask(wanted) != parse_mask(rules.mask):
        raise ConfigError(
            f"data.mask is {wanted!r} and the dataset {dataset.path} was made with mask "
            f"{rules.mask!r}: derive one with `xai-traffic convert {dataset.path} --mask {wanted} "
            "--out ...`, or leave the mask out of --config"
        )
    for split in ("train", "validation"):
        if not len(dataset.rows(split)):
            raise ConfigError(
                f"data.path {dataset.path} has no {split} sessions: convert with another --split"
            )
    present = np.unique(dataset.task_labels(config.task)[dataset.rows("train")])
    if len(present) < 2:
        name = dataset.task_classes(config.task)[present[0]]
        raise ConfigError(
            f"data.path {dataset.path}: all training sessions are of class {name}, and whoever "
            "always says so is right: add captures of another one, or convert with another --split"
        )
    train = len(_limited(dataset.rows("train"), config.data.limit, config.seed))
    if train < config.batch_size:
        raise ConfigError(
            f"batch_size is {config.batch_size} and there are {train} training sessions: set "
            f"--config.batch_size={1 << (train.bit_length() - 1)} or less"
        )


def claim(config: ml_collections.ConfigDict, job: Job, workdir: pathlib.Path) -> None:
    """Make the run's folder, or refuse one that holds something else.

    Raises:
        RunError: the folder is no run, or a run with another config or dataset.
    """
    reading = {
        "rules": job.dataset.rules.to_dict(),
        "classes": job.classes,
        "task": config.task,
        "dataset": {
            "path": str(job.dataset.path.absolute()),
            "manifest_sha256": manifest_sha256(job.dataset.manifest),
            "leaky": job.leaky,
            "before": job.before,
        },
    }
    if "lab" in job.dataset.manifest:  # the run can then be asked whether it found the evidence
        reading["dataset"]["lab"] = job.dataset.manifest["lab"]
    check_same(config, workdir)
    if (workdir / READING).exists():
        stands = json.loads((workdir / READING).read_text("utf-8"))
        compared = {key: value for key, value in reading.items() if key != "dataset"}
        same = stands["dataset"]["manifest_sha256"] == reading["dataset"]["manifest_sha256"]
        if not same or any(stands[key] != value for key, value in compared.items()):
            raise RunError(
                f"{workdir} was trained on another dataset than {job.dataset.path} is now: choose "
                "another --workdir"
            )
        # What it began with holds, also where the run that it started from is gone by now.
        reading["dataset"] |= stands["dataset"]
    if jax.process_count() > 1:  # nobody may write before everybody has looked
        multihost_utils.sync_global_devices("claim")
    if jax.process_index() == 0:
        workdir.mkdir(parents=True, exist_ok=True)
        write_json(workdir / READING, reading)
        write_json(workdir / CONFIG, config.to_dict())


def check_same(config: ml_collections.ConfigDict, workdir: pathlib.Path) -> None:
    """Refuse a folder that holds a run with another config, or something that is no run.

    Raises:
        RunError: the message lists the fields that differ.
    """
    if not workdir.exists() or (workdir.is_dir() and not any(workdir.iterdir())):
        return
    if not (workdir / CONFIG).is_file():
        raise RunError(f"--workdir {workdir} exists and is no run: choose another one")
    stands, wanted = dict(flatten(read_config(workdir))), dict(flatten(config))
    differ = [
        f"{key} is {stands.get(key)!r} there and {wanted.get(key)!r} here"
        for key in sorted(stands.keys() | wanted.keys())
        if stands.get(key) != wanted.get(key) and not key.startswith(MAY_DIFFER)
    ]
    if differ:
        raise RunError(
            f"--workdir {workdir} holds a run with another config ({'; '.join(differ)}): choose "
            "another --workdir, or the same config to go on with it"
        )


def parameters_of(path: str, like: dict[str, Any]) -> dict[str, Any]:
    """Return the variables of another run for a new one to start from.

    Args:
        path: the other run's folder.
        like: shapes of the new model's variables.

    Raises:
        RunError: the other run cannot be loaded.
        ConfigError: its parameters do not fit; the message names them.
    """
    run = load_run(path, calibrated=False)
    ours, theirs = (
        {
            jax.tree_util.keystr(place, simple=True, separator="/"): tuple(leaf.shape)
            for place, leaf in jax.tree_util.tree_leaves_with_path(tree)
        }
        for tree in (like, run.variables)
    )
    differ = [
        f"{name} {theirs.get(name, 'missing')} there and {ours.get(name, 'missing')} here"
        for name in sorted(ours.keys() | theirs.keys())
        if ours.get(name) != theirs.get(name)
    ]
    if differ:
        shown = "; ".join(differ[:6]) + ("; ..." if len(differ) > 6 else "")
        raise ConfigError(
            f"init_from {path} does not fit in {len(differ)} parameters ({shown}): use its "
            f"model.name, variant and options, and a dataset with as many classes "
            f"(it has {len(run.classes)})"
        )
    log.info("parameters start from %s, step %d", path, run.step)
    return run.variables


def permuted_labels(labels: np.ndarray, splits: Iterable[np.ndarray], seed: int) -> np.ndarray:
    """Return labels that have changed places within each split: as many of each, of no session.

    What a model learns of them, and explains, is chance. Source: Adebayo et al., Sanity Checks for
    Saliency Maps, 2018 (data randomisation).

    Args:
        labels: int [N].
        splits: rows of each split, int64.
    """
    generator = np.random.Generator(np.random.Philox(key=seed))
    permuted = labels.copy()
    for rows in splits:
        permuted[rows] = labels[generator.permutation(rows)]
    return permuted


def _limited(rows: np.ndarray, limit: int, seed: int) -> np.ndarray:
    if not limit or len(rows) <= limit:
        return rows
    generator = np.random.Generator(np.random.Philox(key=seed))
    return np.sort(generator.choice(rows, limit, replace=False))
