"""Which models the benchmarks of training and inference run, in which dtypes and batches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple

CLASSES = 19
"""Of the last layer, as in the study."""


class Sizes(NamedTuple):
    """What a Vision Transformer is made of; its tokens are 64 tiles of 256 bytes."""

    dim: int
    depth: int
    heads: int
    head_dim: int
    mlp_dim: int


class BenchModel(NamedTuple):
    """A model under the name that the benchmarks call it by."""

    title: str
    family: str
    variant: str
    words: str  # of its configuration
    sizes: Sizes | None = None  # of a Vision Transformer
    options: Mapping[str, Any] = MappingProxyType({})  # that replace the variant's


MODELS = {
    "xception": BenchModel("Xception", "xception", "seed", "multiclass,seed"),
    "vgg19": BenchModel("VGG-19", "vgg19", "seed", "multiclass,seed"),
    "vit-seed": BenchModel(
        "seed ViT", "vit", "seed", "multiclass,seed", Sizes(768, 12, 12, 768, 3072)
    ),
    "vit-ti": BenchModel("ViT-Ti", "vit", "ti", "multiclass,seed,ti", Sizes(192, 12, 3, 64, 768)),
    "vit-s": BenchModel("ViT-S", "vit", "s", "multiclass,seed,s", Sizes(384, 12, 6, 64, 1536)),
    "vit-b": BenchModel("ViT-B", "vit", "b", "multiclass,seed,b", Sizes(768, 12, 12, 64, 3072)),
}
"""All of them read 128 x 128 raw bytes of one channel."""

FUSED = {
    "vit-b-fused": MODELS["vit-b"]._replace(
        title="ViT-B, cuDNN's attention", options=MappingProxyType({"fused": True})
    )
}
"""Formulations that only an accelerator has."""

DEBUG = {
    f"{family}-debug": BenchModel(f"{family} debug", family, "debug", "multiclass,seed,debug")
    for family in ("xception", "vgg19", "vit")
}
"""Small ones, for the checks before the measuring and for tests; no peer has them."""

PLAIN = "vit-ti"
"""The model of the input pipeline's case: the one whose steps leave the least time for data."""


class Case(NamedTuple):
    """One row of the tables."""

    model: str
    dtype: str
    batch: int

    def __str__(self) -> str:
        return f"{self.model} {self.dtype} batch {self.batch}"


def plan(
    what: str,
    platform: str,
    *,
    quick: bool = False,
    models: list[str] | None = None,
    dtypes: list[str] | None = None,
    batches: list[int] | None = None,
) -> list[Case]:
    """Return the cases for a platform, those that were chosen or else those that suit it.

    On a CPU bfloat16 is emulated, and large batches take minutes a step: one case of the first,
    none of the second.

    Args:
        what: "training" or "inference".
        platform: "cpu", "gpu" or "tpu".
        quick: one small batch, to see that everything runs.
        models, dtypes, batches: chosen by the user.
    """
    models = models or [*MODELS, *(FUSED if platform == "gpu" and not quick else ())]
    if platform != "cpu" and not quick:
        every = batches or [1, 16, 64, 256]
        return [
            Case(model, dtype, batch)
            for model in models
            for dtype in dtypes or ["float32", "bfloat16"]
            if model not in FUSED or dtype == "bfloat16"
            for batch in every
        ]
    usual = [1] if quick else [16] if what == "training" else [1, 16, 64]
    cases = [
        Case(model, dtype, batch)
        for model in models
        for dtype in dtypes or ["float32"]
        for batch in batches or usual
    ]
    if dtypes is None and not quick and PLAIN in models:
        cases.append(Case(PLAIN, "bfloat16", (batches or [16])[0]))
    return cases


def all_models() -> dict[str, BenchModel]:
    """Return the models of the tables, their other formulations and the small ones."""
    return MODELS | FUSED | DEBUG
