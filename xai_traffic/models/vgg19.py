"""VGG-19: five blocks of 3 x 3 convolutions, two wide dense layers.

Simonyan and Zisserman, "Very Deep Convolutional Networks", ICLR 2015, in the form of
`keras.applications`, whose layer names the parameters carry. The seed variant is that of the
study (Machmeier et al., SSCI 2023): raw bytes in, no dropout, no weights from elsewhere.
"""

from __future__ import annotations

import flax.linen as nn
import jax

from xai_traffic.models.cells import CellStem, check_cells
from xai_traffic.models.encoding import ENCODINGS
from xai_traffic.models.initial import glorot, he
from xai_traffic.models.layers import (
    Conv,
    Recorder,
    Taps,
    batch_norm,
    classify,
    extent_of,
    read_images,
    scaled,
)
from xai_traffic.ops.pooling import max_pool

CHANNELS = (64, 128, 256, 512, 512)

_SMALL = {
    "stem": "cells",
    "encoding": "fourier",
    "frequencies": 7,
    "header": 64,
    "width": 1.0,
    "convolutions": (2, 2),
    "normalise": True,
    "hidden": (128,),
    "momentum": 0.97,
    "dropout": 0.3,
}

VARIANTS = {
    "seed": {
        "width": 1.0,
        "convolutions": (2, 2, 4, 4, 4),
        "encoding": "raw",
        "head": "flatten",
        "hidden": (4096, 4096),
        "normalise": False,
        "dropout": 0.0,
    },
    "small": _SMALL,
    "cpu": {**_SMALL, "packets": 8},
    "debug": {
        "width": 0.125,
        "convolutions": (1, 1, 1, 1, 1),
        "encoding": "scaled",
        "normalise": True,
        "hidden": (32,),
        "packets": 16,
    },
}


class VGG19(nn.Module):
    """Blocks of convolutions and 2 x 2 pooling, then dense layers.

    Args:
        num_classes, channels, dtype: see `models.build`.
        packets: tiles it reads, 1..8 or a multiple of 8.
        encoding, frequencies: see `models/encoding.py`.
        stem: "convolution" (none but the blocks), or "cells" before them (see `models/cells.py`).
        header: bytes of a tile that "cells" encodes finely, 0 for all.
        width: factor of the channel counts, rounded to multiples of 8; `hidden` is not scaled.
        convolutions: how many in each block; up to five blocks, none of them empty.
        head: "flatten" or "pool" (global mean).
        hidden: widths of the dense layers fc1, fc2, ...
        normalise: batch normalisation after each convolution, which then has no bias.
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
    convolutions: tuple[int, ...] = (2, 2, 4, 4, 4)
    head: str = "flatten"
    hidden: tuple[int, ...] = (4096, 4096)
    normalise: bool = False
    momentum: float = 0.99
    dropout: float = 0.0

    def check(self) -> None:
        """Raise ValueError where a field has a value that means nothing."""
        if self.encoding not in ENCODINGS:
            raise ValueError(f"encoding {self.encoding!r}: choose {', '.join(ENCODINGS)}")
        check_cells(self.stem, self.header, self.channels)
        if self.head not in ("pool", "flatten"):
            raise ValueError(f"head {self.head!r}: choose pool, flatten")
        blocks = len(self.convolutions)
        if not 1 <= blocks <= len(CHANNELS) or min(self.convolutions) < 1:
            raise ValueError(
                f"convolutions must be one to five positive counts: {self.convolutions}"
            )
        shrinks = blocks + (2 if self.stem == "cells" else 0)
        if min(extent_of(self.packets)) < 2**shrinks:
            raise ValueError(
                f"{self.packets} packets leave nothing after {blocks} poolings: "
                "read more packets or take fewer blocks"
            )
        if self.width <= 0:
            raise ValueError(f"width must be positive, not {self.width}")

    @nn.compact
    def __call__(
        self, images: jax.Array, taps: Taps = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return logits float32 [B, K] and activations [B, h, w, C].

        "stem" (first convolution, or cells), "block1"..."block5" (outputs of the blocks, pooled),
        and "last", the final convolutional activation before its pooling (`block5_conv4` of
        Keras).
        """
        record = Recorder(taps)
        options = {
            "packets": self.packets,
            "encoding": self.encoding,
            "frequencies": self.frequencies,
            "dtype": self.dtype,
        }
        if self.stem == "cells":
            features = scaled(CHANNELS[0], self.width)
            cells = CellStem(
                features, header=self.header, momentum=self.momentum, name="cells", **options
            )
            x = cells(images, train)
            x = record("stem", x)
        else:
            x = read_images(images, channels=self.channels, **options)
        blocks = len(self.convolutions)
        for block, count in enumerate(self.convolutions, 1):
            features = scaled(CHANNELS[block - 1], self.width)
            for number in range(1, count + 1):
                x = self._convolution(x, f"block{block}_conv{number}", features, train)
                if block == number == 1 and self.stem != "cells":
                    x = record("stem", x)
            if block == blocks:
                x = record("last", x)
            x = record(f"block{block}", max_pool(x, 2, 2, "VALID"))
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

    def _convolution(self, x, name: str, features: int, train: bool) -> jax.Array:
        x = Conv(
            features,
            3,
            use_bias=not self.normalise,
            initial=he if self.normalise else glorot,
            name=name,
        )(x)
        return nn.relu(
            batch_norm(f"{name}_bn", train, self.dtype, self.momentum)(x) if self.normalise else x
        )
