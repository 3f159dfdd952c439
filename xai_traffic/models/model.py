"""A model as the rest of the package sees it: pure functions of variables and images."""

from __future__ import annotations

import dataclasses
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from xai_traffic.data.packing import Packing
from xai_traffic.models.initial import initialise
from xai_traffic.models.layers import Taps, extent_of
from xai_traffic.ops.tiles import GRID, SIDE

CUTS = (2, 8, 16, 32)
"""Packets that sessions are cut to where empty ones cost nothing: each is compiled."""

HEADS = ("head", "predictions")
"""What the networks call their last dense layer."""

Variables = dict[str, Any]
Activations = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Model:
    """One network, built; hashable, so that jitted functions may close over it or take it.

    Args:
        name: family: "xception", "vgg19", "vit" or "cnn".
        variant: name of the variant it was built from.
        num_classes: K.
        channels: input channels; three repeats the grey channel inside the model.
        dtype: compute dtype; parameters, statistics, softmax and logits stay float32.
        extent: height and width in pixels, from the top left, that the model reads of an image.
        module: the Linen module; nothing outside `models/` touches it.
    """

    name: str
    variant: str
    num_classes: int
    channels: int
    dtype: str
    extent: tuple[int, int]
    module: Any = dataclasses.field(repr=False)

    @property
    def packets(self) -> int:
        """How many packets of a session the model reads, from the first on."""
        height, width = self.extent
        return (height // SIDE) * (width // SIDE)

    def init(self, rng: jax.Array) -> Variables:
        """Make fresh variables: {"params": tree, "batch_stats": tree} (the second where used).

        Args:
            rng: key of `jax.random.key`.

        Returns:
            float32 trees of plain dicts.
        """
        return jax.jit(self._init)(rng)

    def _init(self, rng: jax.Array) -> Variables:
        images = jnp.zeros((1, SIDE * GRID, SIDE * GRID, 1), jnp.float32)
        return initialise(lambda key: self.module.init(key, images, None, False), rng)

    def apply(
        self, variables: Variables, images: jax.Array, taps: Taps = None
    ) -> tuple[jax.Array, Activations]:
        """Judge images, with running statistics and without dropout.

        Args:
            variables: as `init` makes them.
            images: uint8 or float [B, 128, 128, 1], bytes 0..255, whole or cut to one of `extents`.
            taps: arrays added to the activations of their names before those are used; the
                gradient with respect to a zero tap is the gradient at that activation.

        Returns:
            logits float32 [B, K], and the named activations.

        Raises:
            ValueError: images of another shape, or a tap that names no activation.
        """
        return self.module.apply(variables, images, taps, False)

    def logits(
        self, variables: Variables, images: jax.Array, packing: Packing | None = None
    ) -> jax.Array:
        """Judge images as `apply` does, and say nothing of the activations: float32 [B, K].

        Args:
            packing: where the tokens of the batch stand in rows, of models that `packs` only; the
                logits are those of the dense grid, at the cost of the packets that there are.
        """
        return self.module.apply(variables, images, None, False, **self._fast(packing))[0]

    def logits_and_features(
        self, variables: Variables, images: jax.Array, packing: Packing | None = None
    ) -> tuple[jax.Array, jax.Array]:
        """Judge images as `logits` does, and return what the last dense layer reads beside it.

        Returns:
            logits float32 [B, K], and the penultimate activations float32 [B, D].
        """
        read: list[jax.Array] = []

        def listen(layer, arguments, options, context):
            if context.module.name in HEADS and isinstance(context.module, nn.Dense):
                read.append(arguments[0])
            return layer(*arguments, **options)

        with nn.intercept_methods(listen):
            logits = self.logits(variables, images, packing)
        return logits, read[-1].astype(jnp.float32)

    def apply_train(
        self,
        variables: Variables,
        images: jax.Array,
        rng: jax.Array,
        packing: Packing | None = None,
    ) -> tuple[jax.Array, Variables]:
        """Judge images as in training: batch statistics and dropout.

        Args:
            rng: key of this step's randomness.
            packing: as for `logits`.

        Returns:
            logits float32 [B, K], and the new batch statistics ({} without any).
        """
        (logits, _), updates = self.module.apply(
            variables,
            images,
            None,
            True,
            **self._fast(packing),
            rngs={"dropout": rng},
            mutable=["batch_stats"],
        )
        return logits, updates.get("batch_stats", {})

    @property
    def extents(self) -> tuple[tuple[int, int], ...]:
        """Heights and widths that images may be cut to, the smallest first, `extent` last.

        Logits are the same as long as all tiles that are cut off are empty or beyond `extent`.
        """
        fewer = [packets for packets in CUTS if self.packs and packets < self.packets]
        return (*map(extent_of, fewer), self.extent)

    @property
    def packs(self) -> bool:
        """Whether the model takes packed tokens: it never looks at empty tiles."""
        return getattr(self.module, "mask_empty", False)

    def _fast(self, packing: Packing | None) -> dict[str, Any]:
        if self.name == "vit":
            return {"packing": packing, "recorded": False}
        if packing is not None:
            raise ValueError(f"{self.name} reads images, it takes no packed tokens")
        return {}
