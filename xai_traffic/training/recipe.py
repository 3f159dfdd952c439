"""What a training config holds, and the words that choose between its variants.

A config file in `configs/` starts from `base`, sets what its model family needs and returns
`locked`; its `sweep()`, where it has one, returns points for `training.sweep`. DESIGN's words: a
task, a mask, a recipe and a size, in any order, each at most once.
"""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterable, Mapping
from typing import Any

import ml_collections
from ml_collections.config_dict import placeholder

from xai_traffic.capture.masking import parse_mask
from xai_traffic.errors import ConfigError

TASKS = ("binary", "multiclass")
RECIPES = ("seed", "best")


@dataclasses.dataclass(frozen=True)
class Words:
    """What the argument of a config file asks for; see `read_words`."""

    task: str
    mask: str | None
    recipe: str
    size: str


def read_words(argument: str | None, sizes: Mapping[str, str], size: str) -> Words:
    """Read the words behind the colon of `--config FILE.py:WORDS`.

    Args:
        argument: comma-separated words, empty for the defaults (multiclass, best).
        sizes: the family's sizes, word to model variant.
        size: the size taken where none is named; with the recipe `seed` it is `full`.

    Raises:
        ConfigError: a word is unknown, or two words of a kind contradict each other.
    """
    found: dict[str, str] = {}
    for word in filter(None, (part.strip() for part in (argument or "").split(","))):
        kind = _kind(word, sizes)
        if kind in found and found[kind] != word:
            raise ConfigError(
                f"the config words {found[kind]!r} and {word!r} contradict each other: "
                f"name one {kind}"
            )
        found[kind] = word
    recipe = found.get("recipe", "best")
    return Words(
        task=found.get("task", "multiclass"),
        mask=found.get("mask"),
        recipe=recipe,
        size=found.get("size", "full" if recipe == "seed" else size),
    )


def _kind(word: str, sizes: Mapping[str, str]) -> str:
    for kind, known in (("task", TASKS), ("recipe", RECIPES), ("size", sizes)):
        if word in known:
            return kind
    try:
        parse_mask(word)
    except ConfigError as error:
        raise ConfigError(
            f"the config word {word!r} is unknown: choose a task ({', '.join(TASKS)}), a recipe "
            f"({', '.join(RECIPES)}), a size ({', '.join(sizes)}) or a mask ({error})"
        ) from None
    return "mask"


def base(words: Words) -> ml_collections.ConfigDict:
    """Return every field of a training config, with the values of the recipe that is named.

    `seed` is the recipe of the study this project re-does, without its defects: plain SGD, class
    weights, no augmentation, and early stopping on the whole validation split.
    """
    seed = words.recipe == "seed"
    config = ml_collections.ConfigDict()
    config.task = words.task  # binary (Benign, Malware) or multiclass (the dataset's classes)
    config.seed = 1337 if seed else 0  # of parameters, data order and augmentation
    config.batch_size = 256 if seed else 64  # sessions a step, over all devices and processes
    config.epochs = 40  # passes over the training split, at most
    config.deterministic = False  # same bits on a GPU too, at some cost; on CPU always
    config.dtype = "float32" if seed else "auto"  # of activations; auto: bfloat16 off the CPU
    config.remat = "none"  # computed again to save memory: none, products (cheap parts), blocks
    config.init_from = placeholder(str)  # run folder whose best parameters to start from
    config.compilation_cache = "auto"  # folder of compiled programs; auto: the user's; off: none

    config.model = model = ml_collections.ConfigDict()
    model.name = placeholder(str)  # family: xception, vgg19, vit or cnn
    model.variant = placeholder(str)  # size in the family, see xai_traffic.models.variants
    model.channels = 1  # input channels; 3 repeats the grey one, as the study did
    model.options = ml_collections.ConfigDict()  # fields that replace the variant's, by name

    config.data = data = ml_collections.ConfigDict()
    data.path = placeholder(str)  # dataset folder made by `xai-traffic convert`
    data.mask = placeholder(str)  # mask the dataset must have; None takes what it has
    if words.mask is not None:
        data.mask = words.mask
    data.class_weights = "balanced" if seed else "none"  # loss weights: balanced or none
    data.device_budget = 4.0  # GiB of tiles that stay on each device; larger splits are streamed
    data.pack = True  # networks that look at no empty tile get none
    data.limit = 0  # sessions taken of each split, drawn by seed; 0 takes all
    data.permute_labels = False  # a control that can learn nothing: labels change places, by seed

    config.optimizer = optimizer = ml_collections.ConfigDict()
    optimizer.name = "sgd" if seed else "adamw"  # sgd or adamw
    optimizer.learning_rate = 1e-3  # peak, a step
    optimizer.weight_decay = 0.0 if seed else 0.05  # times the learning rate; kernels only
    optimizer.momentum = 0.0  # of sgd, Nesterov; 0 for none
    optimizer.schedule = "constant" if seed else "cosine"  # constant, or cosine down to zero
    optimizer.warmup_epochs = 0.0 if seed else 1.0  # epochs of linear rise from zero
    optimizer.clip = 0.0 if seed else 1.0  # largest global gradient norm; 0 for any
    optimizer.ema = 0.0 if seed else 0.998  # decay a step of averaged parameters; 0: none

    config.loss = loss = ml_collections.ConfigDict()
    loss.label_smoothing = 0.0  # probability spread over all classes
    loss.not_finite = "stop"  # where loss or gradient is no number: stop, or skip the update
    loss.skips_in_a_row = 10  # most updates that skip leaves out one behind the other

    config.augment = augment = ml_collections.ConfigDict()
    augment.packet_dropout = 0.0  # probability that a packet's tile is zeroed
    augment.tail_dropout = 0.0  # probability that a session is cut to a random prefix
    augment.byte_dropout = 0.0  # probability that a byte is zeroed
    augment.byte_swap = 0.0 if seed else 0.1  # probability, in half of the sessions
    augment.header_bytes = 70  # of a packet; 4 or so where datasets begin at the payload
    augment.header_dropout = 0.0 if seed else 0.05  # probability that one of these is zeroed
    augment.payload_dropout = 0.0 if seed else 0.99  # most a session loses of the rest
    augment.mixup = 0.0  # alpha of the Beta distribution that mixes two sessions; 0 for none

    config.early_stopping = stopping = ml_collections.ConfigDict()
    stopping.metric = "accuracy" if seed else "loss"  # on validation: accuracy, macro_f1, loss
    stopping.patience = 3 if seed else 0  # epochs without a new best before the end; 0 for any

    config.checkpoint = checkpoint = ml_collections.ConfigDict()
    checkpoint.every_steps = 0  # steps between checkpoints inside an epoch; 0: at its end only
    checkpoint.keep = 2  # newest ones kept beside the best; the last but one is for a damaged last

    config.log = log = ml_collections.ConfigDict()
    log.every_steps = 50  # steps between rows of metrics.csv and TensorBoard
    log.images = 4  # validation sessions shown with heat maps at the end; 0 for none
    log.heat_maps_every = 1  # epochs between grids of as many sessions' heat maps; 0 for none
    log.mirrors = ""  # services that are sent the log too: wandb; what they get, see mirrors.py

    config.mesh = mesh = ml_collections.ConfigDict()
    mesh.data = 0  # parts of a batch, each on its devices; 0: as many as there are devices for
    mesh.model = 1  # devices that share a layer, by mesh.placement
    mesh.placement = "replicated"  # of parameters: replicated, fsdp, tensor, fsdp+tensor (the ViT)
    return config


def product(values: Mapping[str, Iterable[Any]]) -> list[dict[str, Any]]:
    """Return the points of a sweep over every combination, the last field changing fastest.

    Args:
        values: by dotted key of the config.
    """
    return [dict(zip(values, point, strict=True)) for point in itertools.product(*values.values())]


def suit_the_demo(config: ml_collections.ConfigDict) -> None:
    """Fit a config to some hundred sessions whose evidence lies in the payload."""
    config.batch_size = 32
    config.optimizer.ema = 0.9
    config.augment.byte_swap = 0.0
    config.augment.payload_dropout = 0.0


def shrink_to_debug(config: ml_collections.ConfigDict) -> None:
    """Make a config a quick check of the whole way: little data, two epochs, one device."""
    config.batch_size = 16
    config.epochs = 2
    config.data.limit = 128
    config.optimizer.warmup_epochs = 0.0
    config.log.every_steps = 2
    config.log.images = 0  # explaining compiles two programs more
    config.log.heat_maps_every = 0  # and this one
    config.mesh.data = 1


def locked(config: ml_collections.ConfigDict) -> ml_collections.ConfigDict:
    """Return the config so that a misspelt field is an error from here on."""
    return config.lock()
