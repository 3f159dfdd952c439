"""The small CNNs of the USTC-TFC2016 line of work: 784 bytes of a session, two convolutions.

"28x28" is that of Wang et al., "Malware traffic classification using convolutional neural network
for representation learning", ICOIN 2017: the bytes as a square, 5 x 5 windows. "1d" is that of Wang
et al., "End-to-end encrypted traffic classification with one-dimensional convolution neural
networks", ISI 2017: the bytes as a line, windows of 25. Both are here to be compared with.
"""

from __future__ import annotations

import flax.linen as nn
import jax
import jax.numpy as jnp

from xai_traffic.models.initial import glorot
from xai_traffic.models.layers import Recorder, Taps, classify, crop
from xai_traffic.ops.pooling import max_pool
from xai_traffic.ops.tiles import stream_from_tiles, tiles_from_images

SIDE = 28
STREAM = SIDE * SIDE
"""Bytes of a session that they read."""

VARIANTS = {
    "28x28": {"line": False, "widths": (32, 64), "hidden": (1024,)},
    "1d": {"line": True, "widths": (32, 64), "hidden": (1024,)},
    "debug": {"line": False, "widths": (8, 8), "hidden": (16,)},
}


class CNN(nn.Module):
    """Convolutions, each with a ReLU and pooling behind it, then dense layers.

    Args:
        num_classes, channels, dtype: see `models.build`; more than one channel is refused.
        packets: tiles it looks for its bytes in; 16 hold 784 bytes of any whole headers.
        strung: whether the packets' bytes stand one behind the other, zeros at the ends of tiles
            left out, as in a session's own capture file; else the tiles are read as they are, as
            those of layout ustc28 must be.
        line: one dimension, windows of 25 and pooling by 3; else two, 5 x 5 and 2.
        widths: channels of the convolutions.
        hidden: widths of the dense layers.
        dropout: rate before each dense layer.
    """

    num_classes: int
    channels: int = 1
    dtype: str = "float32"
    packets: int = 16
    strung: bool = True
    line: bool = False
    widths: tuple[int, ...] = (32, 64)
    hidden: tuple[int, ...] = (1024,)
    dropout: float = 0.5

    def check(self) -> None:
        """Raise ValueError where a field has a value that means nothing."""
        if self.channels != 1:
            raise ValueError("it reads bytes, in 1 channel")
        if not self.widths or min(self.widths) < 1:
            raise ValueError(f"widths must be positive counts: {self.widths}")
        if self.packets < 4:
            raise ValueError(f"{self.packets} packets cannot hold {STREAM} bytes: read 4 or more")

    @nn.compact
    def __call__(
        self, images: jax.Array, taps: Taps = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return logits float32 [B, K] and activations.

        "stem" and "block1", "block2", ... are behind each pooling: [B, h, w, C], or [B, l, C] of a
        line. None is named "last": their places are no places of the image.
        """
        record = Recorder(taps)
        tiles = tiles_from_images(crop(images, packets=self.packets, channels=1))
        x = stream_from_tiles(tiles, STREAM, strung=self.strung)[..., None] / 255.0
        window, pool = ((25,), 3) if self.line else ((5, 5), 2)
        if not self.line:
            x = x.reshape(-1, SIDE, SIDE, 1)
        x = x.astype(self.dtype)
        for number, width in enumerate(self.widths, 1):
            convolution = nn.Conv(
                width, window, dtype=self.dtype, kernel_init=glorot, name=f"conv{number}"
            )
            x = max_pool(nn.relu(convolution(x)), pool, pool, "SAME")
            x = record("stem" if number == 1 else f"block{number - 1}", x)
        logits = classify(
            x if x.ndim == 4 else x[:, None],
            self.num_classes,
            head="flatten",
            hidden=self.hidden,
            dropout=self.dropout,
            dtype=self.dtype,
            train=train,
        )
        return logits.astype(jnp.float32), record.finish()
