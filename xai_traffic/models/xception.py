"""Xception: depthwise separable convolutions with residual connections.

Chollet, "Xception: Deep Learning with Depthwise Separable Convolutions", CVPR 2017, in the
form of `keras.applications`, whose layer names the parameters carry. The seed variant is that
of the study (Machmeier et al., SSCI 2023): raw bytes in, no weights from elsewhere.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax

from xai_traffic.models.cells import CellStem, check_cells
from xai_traffic.models.encoding import ENCODINGS
from xai_traffic.models.initial import glorot
from xai_traffic.models.layers import (
    Conv,
    Recorder,
    Taps,
    batch_norm,
    classify,
    read_images,
    scaled,
)
from xai_traffic.ops.convolution import pointwise_conv
from xai_traffic.ops.depthwise import depthwise_conv
from xai_traffic.ops.pooling import max_pool

_SMALL = {
    "stem": "cells",
    "encoding": "fourier",
    "frequencies": 7,
    "header": 64,
    "width": 0.5,
    "entry": 2,
    "middle": 2,
    "exit": False,
    "head": "flatten",
    "momentum": 0.97,
    "dropout": 0.2,
}

VARIANTS = {
    "seed": {"width": 1.0, "middle": 8, "encoding": "raw", "head": "pool", "dropout": 0.0},
    "small": _SMALL,
    "cpu": {**_SMALL, "packets": 8},
    # The lab hides its evidence at any place, which convolutions find wherever it is.
    "demo": {
        "width": 0.25,
        "entry": 3,
        "middle": 1,
        "exit": False,
        "encoding": "fourier",
        "packets": 32,
        "momentum": 0.9,
    },
    "debug": {"width": 0.0625, "entry": 1, "middle": 1, "encoding": "scaled", "packets": 16},
}


class Xception(nn.Module):
    """Entry flow (blocks 1-4), middle flow (blocks 5 on), exit flow (blocks 13 and 14).

    Args:
        num_classes, channels, dtype: see `models.build`.
        packets: tiles it reads, 1..8 or a multiple of 8.
        encoding, frequencies: see `models/encoding.py`.
        stem: "convolution" (block 1 of the paper), or "cells" in its place (see `models/cells.py`).
        header: bytes of a tile that "cells" encodes finely, 0 for all.
        width: factor of all channel counts, rounded to multiples of 8.
        entry: reducing blocks of the entry flow, 1..3 (blocks 2, 3, 4).
        middle: blocks of the middle flow, 0..8.
        exit: whether there is an exit flow (blocks 13 and 14).
        head: "pool" (global mean) or "flatten".
        hidden: widths of dense layers before the last one.
        momentum: of the batch normalisations.
        dropout: rate before each dense layer.
    """

    num_classes: int
    channels: int = 1
    dtype: str = "float32"
    packets: int = 64
    encoding: str = "raw"
    frequencies: int = 4
    stem: str = "convolution"
    header: int = 0
    width: float = 1.0
    entry: int = 3
    middle: int = 8
    exit: bool = True
    head: str = "pool"
    hidden: tuple[int, ...] = ()
    momentum: float = 0.99
    dropout: float = 0.0

    def check(self) -> None:
        """Raise ValueError where a field has a value that means nothing."""
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding {self.encoding!r}: choose {', '.join(ENCODINGS)}")
        check_cells(self.stem, self.header, self.channels)
        if self.head not in ("pool", "flatten"):
            raise ValueError(f"head {self.head!r}: choose pool, flatten")
        if not 0 <= self.middle <= 8 or not 1 <= self.entry <= 3:
            raise ValueError(f"middle must be 0..8 and entry 1..3: {self.middle}, {self.entry}")
        if self.width <= 0:
            raise ValueError(f"width must be positive, not {self.width}")

    @nn.compact
    def __call__(
        self, images: jax.Array, taps: Taps = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return logits float32 [B, K] and activations [B, h, w, C].

        "stem" (first convolution, or cells), "block1"..."block14" (outputs of the blocks that
        there are), and "last", the final convolutional activation (`block14_sepconv2_act` of
        Keras).
        """
        record = Recorder(taps)
        width = partial(scaled, width=self.width)
        options = {
            "packets": self.packets,
            "encoding": self.encoding,
            "frequencies": self.frequencies,
            "dtype": self.dtype,
        }
        if self.stem == "cells":
            cells = CellStem(
                width(128), header=self.header, momentum=self.momentum, name="cells", **options
            )
            x = record("stem", cells(images, train))
        else:
            x = self._block1(read_images(images, channels=self.channels, **options), record, train)
        for block, first, second in ((2, 128, 128), (3, 256, 256), (4, 728, 728))[: self.entry]:
            x = self._reducing(x, block, width(first), width(second), train)
            x = record(f"block{block}", x)
        for block in range(5, 5 + self.middle):
            skip = x
            for number in (1, 2, 3):
                name = f"block{block}_sepconv{number}"
                x = self._separable(nn.relu(x), name, skip.shape[-1], train)
            x = record(f"block{block}", x + skip)
        if self.exit:
            x = record("block13", self._reducing(x, 13, width(728), width(1024), train))
            for number, channels in ((1, 1536), (2, 2048)):
                x = nn.relu(self._separable(x, f"block14_sepconv{number}", width(channels), train))
            x = record("block14", x)
        else:
            x = nn.relu(x)
        x = record("last", x)
        logits = classify(
            x,
            self.num_classes,
            head=self.head,
            hidden=self.hidden,
            dropout=self.dropout,
            dtype=self.dtype,
            train=train,
        )
        return logits, record.finish()

    def _block1(self, x, record: Recorder, train: bool) -> jax.Array:
        for number, channels, stride in ((1, 32, 2), (2, 64, 1)):
            name = f"block1_conv{number}"
            x = Conv(scaled(channels, self.width), 3, stride, "VALID", name=name)(x)
            x = nn.relu(batch_norm(f"{name}_bn", train, self.dtype, self.momentum)(x))
            x = record("stem" if number == 1 else "block1", x)
        return x

    def _reducing(self, x, block: int, first: int, second: int, train: bool) -> jax.Array:
        # The residual reads x before the ReLU, and block 2 has no ReLU first (as in Keras).
        name = f"block{block}"
        skip = Conv(second, 1, 2, "SAME", name=f"{name}_residual")(x)
        skip = batch_norm(f"{name}_residual_bn", train, self.dtype, self.momentum)(skip)
        x = x if block == 2 else nn.relu(x)
        x = nn.relu(self._separable(x, f"{name}_sepconv1", first, train))
        x = self._separable(x, f"{name}_sepconv2", second, train)
        return max_pool(x, 3, 2, "SAME") + skip

    def _separable(self, x, name: str, channels: int, train: bool) -> jax.Array:
        x = SeparableConv(channels, name=name)(x)
        return batch_norm(f"{name}_bn", train, self.dtype, self.momentum)(x)


class SeparableConv(nn.Module):
    """A 3 x 3 depthwise convolution, then a 1 x 1 convolution, no bias."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return [B, h, w, features] of [B, h, w, C]."""
        depthwise = self.param("depthwise_kernel", glorot, (3, 3, 1, x.shape[-1]))
        pointwise = self.param("pointwise_kernel", glorot, (1, 1, x.shape[-1], self.features))
        x = depthwise_conv(x, depthwise, 1, "SAME")
        return pointwise_conv(x, pointwise[0, 0])
