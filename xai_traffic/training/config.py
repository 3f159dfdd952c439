"""Training configs: found, overridden, and checked before anything compiles."""

from __future__ import annotations

import difflib
import importlib.util
import pathlib
import re
import sys
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from xai_traffic.capture.records import TILE
from xai_traffic.errors import ConfigError
from xai_traffic.parallel.placement import PLACEMENTS
from xai_traffic.training.default_run import run_folder
from xai_traffic.training.mirrors import check_mirrors
from xai_traffic.training.recipe import TASKS
from xai_traffic.training.remat import REMAT

FOLDERS = (
    pathlib.Path(__file__).parents[2] / "configs",
    pathlib.Path(sys.prefix) / "share" / "xai_traffic" / "configs",
)
"""Where configs are looked for when the path given is none: the checkout, the installation."""

CHOICES = {
    "task": TASKS,
    "dtype": ("auto", "float32", "bfloat16"),
    "remat": REMAT,
    "data.class_weights": ("none", "balanced"),
    "loss.not_finite": ("stop", "skip"),
    "mesh.placement": tuple(PLACEMENTS),
    "optimizer.name": ("sgd", "adamw"),
    "optimizer.schedule": ("constant", "cosine"),
    "early_stopping.metric": ("accuracy", "macro_f1", "loss"),
}
AT_LEAST = {
    "seed": 0,
    "batch_size": 1,
    "epochs": 1,
    "data.limit": 0,
    "data.device_budget": 0.0,
    "optimizer.weight_decay": 0.0,
    "optimizer.warmup_epochs": 0.0,
    "optimizer.clip": 0.0,
    "augment.mixup": 0.0,
    "augment.header_bytes": 1,
    "early_stopping.patience": 0,
    "checkpoint.every_steps": 0,
    "checkpoint.keep": 1,
    "log.every_steps": 1,
    "loss.skips_in_a_row": 0,
    "log.images": 0,
    "log.heat_maps_every": 0,
    "mesh.data": 0,
    "mesh.model": 1,
}
SHARES = (
    "optimizer.momentum",
    "optimizer.ema",
    "loss.label_smoothing",
    "augment.packet_dropout",
    "augment.tail_dropout",
    "augment.byte_dropout",
    "augment.byte_swap",
    "augment.header_dropout",
    "augment.payload_dropout",
)
USAGE = "train --config configs/vit.py:multiclass --config.data.path=DATASET --workdir RUN"


def find_config(path: str) -> pathlib.Path:
    """Return the file of a config: as given, else of that name among the package's configs.

    Raises:
        ConfigError: there is none; the message lists those that are at hand.
    """
    given = pathlib.Path(path)
    names = {given.name, f"{given.name}.py"}
    for candidate in (given, *(folder / name for folder in FOLDERS for name in sorted(names))):
        if candidate.is_file():
            return candidate
    known = sorted({file.stem for folder in FOLDERS for file in folder.glob("*.py")})
    raise ConfigError(f"no config file {path}: give a path, or one of {', '.join(known)}")


def load_config(spec: str, **overrides: Any) -> ml_collections.ConfigDict:
    """Return the config of `FILE.py:WORDS`, locked, with some fields set otherwise.

    Args:
        spec: path or name of a config file, and the words behind a colon.
        **overrides: value by dotted key (`**{"data.path": "D"}`), or by the last part of the key
            where only one field is called so (`path="D"`).

    Raises:
        ConfigError: no such file, word or field, or a value of the wrong type.
    """
    config = load_module(spec).get_config(str(spec).partition(":")[2])
    override(config, overrides)
    return config


def load_module(spec: str) -> types.ModuleType:
    """Return the module that a config file is, run anew: its get_config, and sweep if it has one.

    Raises:
        ConfigError: no such file.
    """
    file = find_config(str(spec).partition(":")[0])
    module_spec = importlib.util.spec_from_file_location(f"xai_traffic_config_{file.stem}", file)
    module = importlib.util.module_from_spec(module_spec)
    module_spec.loader.exec_module(module)
    return module


def override(config: ml_collections.ConfigDict, values: Mapping[str, Any]) -> None:
    """Set fields of a config, named as `load_config` takes them.

    Raises:
        ConfigError: no such field, or a value of the wrong type.
    """
    for key, value in values.items():
        _set(config, full_key(config, key), value)


def parse_flags(spec: str, overrides: Sequence[str] = ()) -> ml_collections.ConfigDict:
    """Return the config of `FILE.py:WORDS` with flags `--config.KEY=VALUE` applied.

    Raises:
        ConfigError: no such file, word or flag, or a value of the wrong type.
    """
    config = load_config(spec)
    for argument in overrides:
        if argument.startswith("-"):
            key = flag_key(argument)
            if key is None:
                raise ConfigError(f"unknown flag {argument}: {USAGE}")
            full_key(config, key, exact=True)
    values = flags.FlagValues()
    config_flags.DEFINE_config_dict(
        "config", config, flag_values=values, sys_argv=["train", *overrides]
    )
    try:
        rest = values(["train", *overrides])[1:]
    except (flags.Error, TypeError, ValueError) as error:
        raise ConfigError(f"wrong flags: {error}") from error
    if rest:
        raise ConfigError(f"unknown arguments {' '.join(rest)}: {USAGE}")
    return config


def flag_key(argument: str) -> str | None:
    """Return the key of `--config.KEY=VALUE`, `--config.KEY` or `--noconfig.KEY`, else None."""
    found = re.match(r"--?(?:no)?config\.([^=]+)", argument)
    return found and found[1]


def check_config(config: ml_collections.ConfigDict) -> None:
    """Refuse values that are out of range or contradict each other, naming key and remedy.

    Raises:
        ConfigError: at the first such value.
    """
    for key in ("model.name", "model.variant", "data.path"):
        if not get(config, key):
            raise ConfigError(f"{key} is not set: add --config.{key}=...")
    for key, allowed in CHOICES.items():
        if get(config, key) not in allowed:
            raise ConfigError(f"{key} is {get(config, key)!r}: choose one of {', '.join(allowed)}")
    for key, least in AT_LEAST.items():
        if not get(config, key) >= least:
            raise ConfigError(f"{key} is {get(config, key)}: it must be at least {least}")
    for key in SHARES:
        if not 0 <= get(config, key) < 1:
            raise ConfigError(f"{key} is {get(config, key)}: it must be in [0, 1)")
    if config.augment.header_bytes > TILE:
        raise ConfigError(
            f"augment.header_bytes is {config.augment.header_bytes}: a tile has {TILE} bytes"
        )
    optimizer = config.optimizer
    if not optimizer.learning_rate > 0:
        raise ConfigError(
            f"optimizer.learning_rate is {optimizer.learning_rate}: it must be above 0"
        )
    if optimizer.name == "adamw" and optimizer.momentum:
        raise ConfigError(
            "optimizer.momentum is for sgd, adamw has its own: set --config.optimizer.momentum=0"
        )
    if optimizer.warmup_epochs >= config.epochs:
        raise ConfigError(
            f"optimizer.warmup_epochs is {optimizer.warmup_epochs} of {config.epochs} epochs: "
            "the warm-up must end before the training, set --config.optimizer.warmup_epochs"
        )
    check_mirrors(config.log.mirrors)


def with_absolute_paths(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Return a locked copy whose paths hold wherever the run is used from."""
    config = ml_collections.ConfigDict(config.to_dict())
    config.data.path = str(pathlib.Path(config.data.path).absolute())
    if config.init_from:
        config.init_from = str(run_folder(config.init_from).absolute())
    return config.lock()


def get(config: ml_collections.ConfigDict, key: str) -> Any:
    """Return the value of a dotted key."""
    for part in key.split("."):
        config = config[part]
    return config


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every field, groups left out unless they are empty."""
    for name, value in values.items():
        if isinstance(value, Mapping | ml_collections.ConfigDict) and value:
            yield from flatten(value, f"{prefix}{name}.")
        else:
            empty = isinstance(value, Mapping | ml_collections.ConfigDict)
            yield prefix + name, {} if empty else value


def full_key(config: ml_collections.ConfigDict, key: str, *, exact: bool = False) -> str:
    """Return the dotted key of a field.

    Args:
        key: dotted, or the last part of it where only one field is called so.
        exact: refuse the latter.

    Raises:
        ConfigError: there is no such field; the message names those that are near.
    """
    fields = [name for name, _ in flatten(config)]
    if key in fields or key == "model.options" or key.startswith("model.options."):
        return key
    last = [name for name in fields if name.rpartition(".")[2] == key]
    if len(last) == 1 and not exact:
        return last[0]
    near = last or difflib.get_close_matches(key, fields, n=3, cutoff=0.5)
    near = near or [name for name in fields if key.rpartition(".")[2] in name]
    hint = f"did you mean {' or '.join(near)}?" if near else f"fields are {', '.join(fields)}"
    raise ConfigError(f"the config has no field {key}: {hint}")


def _set(config: ml_collections.ConfigDict, key: str, value: Any) -> None:
    group, _, name = key.rpartition(".")
    if isinstance(value, pathlib.PurePath):
        value = str(value)
    node = get(config, group) if group else config
    try:
        if key.startswith("model.options"):
            with config.model.unlocked():
                node[name] = ml_collections.ConfigDict(value) if name == "options" else value
        else:
            node[name] = value
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key} cannot be {value!r}: {error}") from error
