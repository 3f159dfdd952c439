"""Sweeps: the points that a config file's `sweep()` names, each a run of its own.

`sweep()` stands beside `get_config` and returns or yields one dict a point, value by dotted key.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
import pathlib
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import jax
import ml_collections

from xai_traffic.errors import ConfigError, PeerError, XaiTrafficError
from xai_traffic.parallel.startup import start_processes
from xai_traffic.terminal import log, printable
from xai_traffic.training.config import (
    check_config,
    find_config,
    flag_key,
    full_key,
    load_module,
    override,
    parse_flags,
)
from xai_traffic.training.interruption import GRACE, Interruption
from xai_traffic.training.loop import train

LONGEST = 120
"""Characters of a point's name before it is cut; file systems take 255 bytes."""


@dataclasses.dataclass(frozen=True, eq=False)
class Point:
    """One point of a sweep.

    Args:
        number: 0-based, in the order of `sweep()`.
        name: of its run's folder, told by what it sets: `learning_rate=0.001,seed=0`.
        values: what it sets, by dotted key.
        config: with these values, locked.
    """

    number: int
    name: str
    values: dict[str, Any]
    config: ml_collections.ConfigDict


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of one point.

    Args:
        point: its number.
        run: its folder.
        result: what `result.json` holds, None where it failed.
        fault: why it failed, None where it did not.
    """

    point: int
    run: str
    result: dict[str, Any] | None
    fault: str | None


def load_sweep(spec: str, overrides: Sequence[str] = ()) -> list[Point]:
    """Return the points of the sweep of `FILE.py:WORDS`, each with its config.

    Args:
        spec: as `parse_flags` takes.
        overrides: flags `--config.KEY=VALUE` for all points.

    Raises:
        ConfigError: the file has no sweep, a point is no dict of fields that the config has, a
            flag sets what the sweep sets, or two points are the same.
    """
    module = load_module(spec)
    file = find_config(spec.partition(":")[0])
    if not hasattr(module, "sweep"):
        raise ConfigError(
            f"{file} has no sweep(): add one that returns a dict of values by dotted key for each "
            "point, as configs/vit.py does"
        )
    found = module.sweep()
    if not isinstance(found, Iterable) or not (found := list(found)):
        raise ConfigError(f"sweep() of {file} names no point: return a list of dicts")
    flagged = {flag_key(argument) for argument in overrides}
    points: list[Point] = []
    for number, values in enumerate(found):
        where = f"sweep() of {file}, point {number}"
        if not isinstance(values, Mapping):
            raise ConfigError(f"{where} is no dict of values by dotted key: {values!r}")
        config = parse_flags(spec, overrides)
        try:
            values = {full_key(config, str(key)): value for key, value in values.items()}
            override(config, values)
        except ConfigError as error:
            raise ConfigError(f"{where}: {error}") from error
        if both := sorted(flagged & values.keys()):
            raise ConfigError(f"--config.{both[0]} is set by the sweep of {file}: leave it out")
        points.append(Point(number, _name(config, values), values, config))
    names: dict[str, int] = {}
    for point in points:
        first = names.setdefault(point.name.lower(), point.number)  # file systems may fold case
        if first != point.number:
            raise ConfigError(
                f"sweep() of {file}: points {first} and {point.number} are both {point.name}: "
                "leave one out"
            )
    return points


def point_of(points: Sequence[Point], number: int) -> Point:
    """Return one point of a sweep.

    Raises:
        ConfigError: there is none of that number.
    """
    if not 0 <= number < len(points):
        raise ConfigError(
            f"the sweep has no point {number}: its {len(points)} points are 0 to {len(points) - 1}"
        )
    return points[number]


def train_sweep(points: Sequence[Point], workdir: str | os.PathLike) -> list[Outcome]:
    """Train points one after the other, each in its folder below `workdir`.

    Finished ones are left as they are and unfinished ones go on, so the same call goes on with an
    interrupted sweep. A point that fails costs none of the others.

    Raises:
        ConfigError: the config of a point contradicts itself; nothing has been trained then.
        PeerError: another process of the same sweep is gone.
        KeyboardInterrupt: SIGINT or SIGTERM came; the point in work is saved.
    """
    for point in points:
        try:
            check_config(point.config)
        except ConfigError as error:
            raise ConfigError(f"point {point.number}, {point.name}: {error}") from error
    start_processes()  # before anything asks how many there are: a finished point starts none
    outcomes = []
    with Interruption("behind this point", GRACE) as interruption:
        for place, point in enumerate(points, 1):
            run = pathlib.Path(workdir) / point.name
            log.info("point %d (%d of %d): %s", point.number, place, len(points), printable(run))
            result = fault = None
            try:
                result = train(point.config, run)
            except PeerError:
                raise  # nobody is left to train the next point with
            except (XaiTrafficError, jax.errors.JaxRuntimeError) as error:
                # The latter where a point does not fit into the device's memory.
                fault = str(error)
                log.error("point %d failed: %s", point.number, printable(fault))
            outcomes.append(Outcome(point.number, str(run), result, fault))
            # Of several processes the next training lets all agree: it begins as this one stands.
            if interruption.asked and jax.process_count() == 1:
                raise KeyboardInterrupt
    return outcomes


def _name(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> str:
    """Return a folder name that tells the values: keys by their last part where that is unique."""
    name = ",".join(f"{_short(config, key)}={_word(value)}" for key, value in values.items())
    if not name:
        return "as-configured"
    if len(name) > LONGEST:
        name = f"{name[:LONGEST]}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"
    return name


def _short(config: ml_collections.ConfigDict, key: str) -> str:
    last = key.rpartition(".")[2]
    try:
        return last if full_key(config, last) == key else key
    except ConfigError:
        return key


def _word(value: Any) -> str:
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", str(value)).strip("-") or "none"
