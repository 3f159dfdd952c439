"""Make a dataset: labelled captures, or an unmasked dataset, to a folder of tiles and tables."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import pathlib
from collections.abc import Sequence

from xai_traffic.capture.filters import compile_filter
from xai_traffic.capture.inputs import STANDARD_INPUT, Found, find_inputs
from xai_traffic.capture.masking import mask_name
from xai_traffic.capture.rules import ReadingRules
from xai_traffic.data.account import summarise
from xai_traffic.data.derive import derive
from xai_traffic.data.duplicates import Seen
from xai_traffic.data.folder import is_dataset, new_folder
from xai_traffic.data.groups import Groups
from xai_traffic.data.image_sets import find_image_sets, read_image_parts, rules_of_images
from xai_traffic.data.labels import LabelRule, label_by_folder, read_label_table
from xai_traffic.data.making import Making
from xai_traffic.data.merge import merge
from xai_traffic.data.near_duplicates import NearDuplicates, NearSpec, parse_near
from xai_traffic.data.parts import Job
from xai_traffic.data.shard_notes import ShardNotes
from xai_traffic.data.shards import Shard, find_shards, finished, parse_shard, plan_shard, share_of
from xai_traffic.data.split import DEFAULT_SPLIT, SplitSpec, parse_split
from xai_traffic.data.store import open_dataset
from xai_traffic.data.workers import read_captures
from xai_traffic.data.writer import DatasetWriter
from xai_traffic.errors import ConfigError, DatasetError
from xai_traffic.lab.recipe import RECIPE, lab_recipe
from xai_traffic.terminal import byte_progress, log, printable

__all__ = ["Conversion", "convert", "summarise"]


@dataclasses.dataclass(frozen=True)
class Conversion:
    """What `convert` made.

    Args:
        dataset: its folder.
        manifest: as `manifest.json` has it.
        failures: (capture, reason) of every capture that was not read to its end; what came
            before the fault is in the dataset.
    """

    dataset: pathlib.Path
    manifest: dict
    failures: list[tuple[str, str]]


def convert(
    inputs: Sequence[str | os.PathLike],
    out: str | os.PathLike,
    *,
    rules: ReadingRules,
    split: str | None = None,
    near_duplicates: str | None = None,
    labels: str | os.PathLike | None = None,
    seed: int = 0,
    overwrite: bool = False,
    workers: int = 1,
    lists: Sequence[str | os.PathLike] = (),
    shard: str | None = None,
) -> Conversion:
    """Make a dataset of captures and folders of them, of shards, or a masked one of a dataset.

    Args:
        inputs: captures, folders and patterns, see `find_inputs`; or one dataset that was not
            masked: then `rules.mask` is put on it, and its reading rules, labels and split stay;
            or all shards of one conversion, or folders of them, to be merged as they are; or image
            sets, see `image_sets.py`.
        out: the folder to make; it appears when everything is written, or not at all.
        rules: how captures are read.
        split: see `data/split.py`; None is DEFAULT_SPLIT.
        near_duplicates: what is done with them, see `data/near_duplicates.py`; None looks for none.
        labels: label table, see `data/labels.py`; None labels by folder.
        seed: of the split.
        overwrite: replace `out` if it is a dataset.
        workers: captures read side by side, each by a process; the dataset is the same. A script
            that asks for more than 1 needs `if __name__ == "__main__":`, as `multiprocessing` says.
        lists: files that name more captures, see `find_inputs`, or shards.
        shard: `I/N` makes shard I, from 0, of N, see `data/shards.py`; where it is made already,
            nothing is done.

    Raises:
        ConfigError: rules, split, labels or shard are wrong.
        CaptureError: an input does not exist.
        DatasetError: `out` is in the way, no session is left, or shards do not make a whole.
    """
    out = pathlib.Path(out)
    rules = dataclasses.replace(rules, mask=mask_name(rules.mask))
    compile_filter(rules.filter)
    chosen = None if shard is None else parse_shard(shard)
    shards = find_shards(inputs, lists) if chosen is None else []
    datasets = [path for path in inputs if is_dataset(path)]
    try:
        if shards:
            _check_merged(rules, split, near_duplicates, labels, seed)
            return Conversion(out, *merge(shards, out, overwrite=overwrite))
        if datasets and (len(inputs) > 1 or lists or chosen):
            raise ConfigError(
                f"{datasets[0]} is a dataset: convert it alone, without other inputs or --shard; "
                "what can be merged are the shards of one conversion"
            )
        if datasets:
            source = open_dataset(datasets[0])
            _check_derived(source.manifest, rules, split, near_duplicates, labels)
            return Conversion(out, derive(source, out, rules.mask, overwrite=overwrite), [])
        wishes = split, near_duplicates, labels, seed
        return _convert_captures(inputs, out, rules, *wishes, overwrite, workers, lists, chosen)
    except OSError as error:
        raise DatasetError(f"{out}: the dataset could not be written: {error}") from error


def _convert_captures(
    inputs: Sequence[str | os.PathLike],
    out: pathlib.Path,
    rules: ReadingRules,
    split: str | None,
    near_duplicates: str | None,
    labels: str | os.PathLike | None,
    seed: int,
    overwrite: bool,
    workers: int,
    lists: Sequence[str | os.PathLike],
    shard: Shard | None,
) -> Conversion:
    """Make a dataset, or a shard of one, of captures or image sets."""
    spec = parse_split(split or DEFAULT_SPLIT)
    near = None if near_duplicates is None else NearDuplicates(parse_near(near_duplicates))
    image_sets = find_image_sets(inputs)
    if image_sets:
        rules = rules_of_images(rules, labels)
        if spec.key in ("session", "host", "time"):
            raise ConfigError(
                f"split {spec}: images have no addresses and times: split them by random, capture, "
                "family or hash"
            )
    table = read_label_table(labels) if labels is not None else None
    lines = None if table is None else [rule.line for rule in table]
    found = [Found(name, path, _root(path, inputs)) for name, path in image_sets] or find_inputs(
        inputs, lists=lists
    )
    if table is None and any(os.fspath(each.path) == STANDARD_INPUT for each in found):
        raise ConfigError("standard input lies in no folder that could label it: add --labels")
    sizes = list(map(_size, found))
    if not image_sets:
        _check_left_out(spec, found, table)
    notes = None
    if shard is not None:
        plan = plan_shard(
            shard,
            found,
            sizes,
            rules=rules,
            split=str(spec),
            near=near_duplicates and str(near.spec),
            seed=seed,
            labels=labels,
            lines=lines,
        )
        made = None if overwrite else finished(out, plan)
        if made is not None:
            log.info("%s is done already: shard %s is left as it is", printable(out), shard)
            faults = [(row["capture"], row["fault"]) for row in made["captures"] if row["fault"]]
            return Conversion(out, made, faults)
        notes = ShardNotes(plan["shard"])
        share = share_of(sizes, shard)
        found, sizes = found[share], sizes[share]
    with (
        new_folder(out, overwrite) as folder,
        DatasetWriter(folder) as writer,
        contextlib.closing(
            Groups(spec, seed, folder.parent, tied=near is not None and near.spec.action != "keep")
        ) as groups,
        byte_progress(sum(sizes), "convert") as told,
    ):
        making = Making(
            rules,
            lines,
            writer,
            groups,
            Seen(),
            notes,
            lab=_lab_of(inputs),
            near=near if notes is None else None,  # the merge finds those of all shards
        )
        if image_sets:
            readings = (read_image_parts(*each) for each in found)
        else:
            jobs = [_job(each, rules, table, folder.parent) for each in found]
            readings = read_captures(jobs, workers, told)
        with contextlib.closing(readings):  # it ends the workers, whatever happens here
            for parts in readings:
                with contextlib.closing(parts):
                    making.add(parts)
        return Conversion(out, making.finish(), making.failures)


def _check_left_out(spec: SplitSpec, found: Sequence[Found], table: list[LabelRule] | None) -> None:
    """Refuse to leave out a class that no capture can be of, before any is read."""
    if table is None:
        labels = {label_by_folder(each.path, each.root)[0] for each in found}
    else:
        labels = {rule.label for rule in table}
    spec.check_left_out(sorted(labels))


def _lab_of(inputs: Sequence[str | os.PathLike]) -> dict | None:
    """Return the recipe of the lab that is the only input, as JSON values."""
    if len(inputs) != 1 or not (pathlib.Path(inputs[0]) / RECIPE).is_file():
        return None
    return dataclasses.asdict(lab_recipe(inputs[0]))


def _root(path: pathlib.Path, inputs: Sequence[str | os.PathLike]) -> pathlib.Path:
    """Return the input that an image set came from."""
    given = [pathlib.Path(each) for each in inputs]
    return next(each for each in given if each == path or each in path.parents)


def _job(
    found: Found, rules: ReadingRules, table: list[LabelRule] | None, folder: pathlib.Path
) -> Job:
    label = label_by_folder(found.path, found.root) if table is None else None
    return Job(found.name, found.path, rules, label, table, folder)


def _size(found: Found) -> int:
    try:
        return found.path.stat().st_size
    except OSError:  # reading it says why
        return 0


def _check_derived(
    manifest: dict,
    rules: ReadingRules,
    split: str | None,
    near_duplicates: str | None,
    labels: str | os.PathLike | None,
) -> None:
    """Refuse wishes that a derived dataset cannot meet; what was left at its default is no wish."""
    theirs, default = manifest["rules"], ReadingRules()
    for field in dataclasses.fields(rules):
        wish = getattr(rules, field.name)
        usual = getattr(default, field.name)
        read_with = theirs.get(field.name, usual)
        if field.name != "mask" and wish not in (read_with, usual):
            raise ConfigError(
                f"{field.name} {wish!r}: the dataset was read with {read_with!r}; only "
                "the mask can change, convert the captures for anything else"
            )
    theirs = manifest.get("near_duplicates")
    if near_duplicates and theirs is None:
        raise ConfigError(
            f"near_duplicates {near_duplicates!r}: they are looked for before the split, and a "
            "derived dataset keeps its split: convert the captures"
        )
    if near_duplicates and parse_near(near_duplicates) != NearSpec(
        theirs["action"], theirs["threshold"]
    ):
        raise ConfigError(
            f"near_duplicates {near_duplicates!r}: a derived dataset keeps what was done with them "
            f"({theirs['action']}:{theirs['threshold']:g}): leave it out"
        )
    if split and split != manifest["split"]:
        raise ConfigError(f"split {split!r}: a derived dataset keeps its split: leave it out")
    if labels is not None:
        raise ConfigError("labels: a derived dataset keeps its labels: convert the captures")


def _check_merged(
    rules: ReadingRules,
    split: str | None,
    near_duplicates: str | None,
    labels: str | os.PathLike | None,
    seed: int,
) -> None:
    """Refuse wishes that merged shards cannot meet; what was left at its default is no wish."""
    default = ReadingRules()
    wishes = [
        field.name
        for field in dataclasses.fields(rules)
        if getattr(rules, field.name) != getattr(default, field.name)
    ]
    given = {
        "split": split,
        "near_duplicates": near_duplicates,
        "labels": labels,
        "seed": seed,
    }
    wishes += [name for name, wish in given.items() if wish]
    if wishes:
        raise ConfigError(
            f"{wishes[0]}: shards are merged as they were made: leave it out; a mask can be put on "
            "the dataset that comes of them"
        )
