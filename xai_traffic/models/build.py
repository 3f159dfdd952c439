"""Build a model by the names of its family and variant."""

from __future__ import annotations

import dataclasses
import importlib
from typing import Any

from xai_traffic.errors import ConfigError
from xai_traffic.models.layers import extent_of
from xai_traffic.models.model import Model

FAMILIES = {"xception": "Xception", "vgg19": "VGG19", "vit": "ViT", "cnn": "CNN"}
"""Module of `models/` and name of its class."""

DTYPES = ("float32", "bfloat16", "float16")
RESERVED = ("parent", "name", "num_classes", "channels", "dtype")


def _family(name: str) -> tuple[type, dict[str, dict[str, Any]]]:
    if name not in FAMILIES:
        raise ConfigError(f"model.name {name!r} is unknown: choose one of {', '.join(FAMILIES)}")
    module = importlib.import_module(f"xai_traffic.models.{name}")
    return getattr(module, FAMILIES[name]), module.VARIANTS


def variants(name: str) -> dict[str, dict[str, Any]]:
    """Return the variants of a family: name to the fields in which it differs from the seed.

    Raises:
        ConfigError: the family is unknown.
    """
    return {variant: dict(fields) for variant, fields in _family(name)[1].items()}


def build(
    name: str,
    num_classes: int,
    *,
    variant: str = "seed",
    channels: int = 1,
    dtype: str = "float32",
    **overrides: Any,
) -> Model:
    """Build a model; no array is made before its `init`.

    Args:
        name: "xception", "vgg19", "vit" or "cnn".
        num_classes: K, at least 2 (binary models have two logits as well).
        variant: one of `variants(name)`; "seed", where there is one, is that of the study.
        channels: 1, or 3 to repeat the grey channel.
        dtype: compute dtype.
        **overrides: fields of the family's module that replace those of the variant.

    Raises:
        ConfigError: a name, field or value that the family does not know.
    """
    family, known = _family(name)
    if variant not in known:
        raise ConfigError(
            f"model.variant {variant!r} of {name} is unknown: choose one of {', '.join(known)}"
        )
    if num_classes < 2:
        raise ConfigError(f"a model needs at least two classes, not {num_classes}")
    if channels not in (1, 3):
        raise ConfigError(f"model.channels must be 1 or 3, not {channels}")
    if dtype not in DTYPES:
        raise ConfigError(f"dtype {dtype!r} is unknown: choose one of {', '.join(DTYPES)}")
    fields = [field.name for field in dataclasses.fields(family) if field.name not in RESERVED]
    unknown = sorted(set(overrides) - set(fields))
    if unknown:
        raise ConfigError(
            f"{name} has no option {', '.join(unknown)}: its options are {', '.join(fields)}"
        )
    options = {**known[variant], **overrides}
    options = {key: tuple(v) if isinstance(v, list) else v for key, v in options.items()}
    try:
        module = family(num_classes=num_classes, channels=channels, dtype=dtype, **options)
        module.check()
        extent = extent_of(module.packets)
    except ValueError as error:
        raise ConfigError(f"model {name}:{variant}: {error}") from error
    return Model(name, variant, num_classes, channels, dtype, extent, module)
