"""What the three families share: reading the image, recording and tapping activations, heads."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax
from jax.ad_checkpoint import checkpoint_name

from xai_traffic.models.encoding import encode
from xai_traffic.models.initial import glorot
from xai_traffic.ops.convolution import conv
from xai_traffic.ops.normalisation import normalise
from xai_traffic.ops.tiles import GRID, SIDE

Taps = Mapping[str, jax.Array] | None


def extent_of(packets: int) -> tuple[int, int]:
    """Return height and width in pixels of the image part that holds the first packets.

    Args:
        packets: 1..8, or a multiple of 8 up to 64.

    Raises:
        ValueError: the tiles of so many packets make no rectangle.
    """
    if 1 <= packets <= GRID:
        return SIDE, SIDE * packets
    if packets % GRID or not GRID < packets <= GRID * GRID:
        raise ValueError(f"packets must be 1..8 or a multiple of 8 up to 64, not {packets}")
    return SIDE * (packets // GRID), SIDE * GRID


def packets_in(images: jax.Array, most: int) -> int:
    """Return how many packets an image cut to the extent of its first ones holds, `most` at most.

    Args:
        images: [B, h, w, C], whole or of `extent_of` some packets.
    """
    return min(images.shape[1] * images.shape[2] // SIDE**2, most)


def read_images(
    images: jax.Array, *, packets: int, channels: int, encoding: str, frequencies: int, dtype: str
) -> jax.Array:
    """Crop to the packets a model reads, repeat the grey channel, encode the bytes.

    Args:
        images: as for `crop`.

    Returns:
        [B, *extent_of(packets), features] of the compute dtype.
    """
    x = crop(images, packets=packets, channels=channels)
    # Encoded in float32: scaled bytes and sines lose bits in bfloat16.
    return encode(x, encoding, frequencies).astype(dtype)


def crop(images: jax.Array, *, packets: int, channels: int) -> jax.Array:
    """Crop to the packets a model reads and repeat the grey channel.

    Args:
        images: uint8 or float [B, 128, 128, 1], bytes 0..255, or cut to what is read of them
            already; with `channels` channels they are taken as they are.

    Returns:
        float32 [B, *extent_of(packets), channels].

    Raises:
        ValueError: the images have another shape.
    """
    side = SIDE * GRID
    height, width = extent_of(packets)
    if (
        images.ndim != 4
        or images.shape[1:3] not in ((side, side), (height, width))
        or images.shape[3] not in (1, channels)
    ):
        raise ValueError(f"images must be [B, {side}, {side}, 1], not {images.shape}")
    x = images[:, :height, :width].astype(jnp.float32)
    return x if x.shape[-1] == channels else jnp.repeat(x, channels, axis=-1)


def scaled(channels: int, width: float) -> int:
    """Return a paper's number of channels times a factor, as a multiple of 8."""
    return max(8, round(channels * width / 8) * 8)


class Recorder:
    """Names intermediate values and adds the taps to those they name.

    Args:
        taps: name to array that broadcasts against the activation of that name.
    """

    def __init__(self, taps: Taps) -> None:
        self.taps = dict(taps or {})
        self.activations: dict[str, jax.Array] = {}

    def __call__(self, name: str, value: jax.Array) -> jax.Array:
        """Return the value plus its tap, and keep the sum under its name."""
        tap = self.taps.pop(name, None)
        if tap is not None:
            value = value + jnp.asarray(tap).astype(value.dtype)
        # The name is also what rematerialisation knows it by, see training/remat.py.
        self.activations[name] = checkpoint_name(value, name)
        return self.activations[name]

    def finish(self) -> dict[str, jax.Array]:
        """Return all activations.

        Raises:
            ValueError: a tap named no activation of this model.
        """
        if self.taps:
            raise ValueError(
                f"taps {sorted(self.taps)} name no activation: choose from "
                f"{', '.join(self.activations)}"
            )
        return self.activations


def classify(
    x: jax.Array,
    num_classes: int,
    *,
    head: str,
    hidden: Sequence[int],
    dropout: float,
    dtype: str,
    train: bool,
) -> jax.Array:
    """End a convolutional network inside a compact module, with Keras' layer names.

    Args:
        x: activations [B, h, w, C].
        head: "pool" (mean over positions) or "flatten" (height, width, channel order).
        hidden: widths of the hidden layers, named fc1, fc2, ..., each with a ReLU.
        dropout: rate before each dense layer.
        dtype: compute dtype of the hidden layers.

    Returns:
        float32 logits [B, num_classes].
    """
    if head == "pool":
        x = jnp.mean(x, axis=(1, 2), dtype=jnp.float32).astype(x.dtype)
    else:
        x = x.reshape(x.shape[0], -1)
    for number, width in enumerate(hidden, 1):
        x = nn.Dropout(dropout, deterministic=not train)(x)
        x = nn.relu(dense(width, f"fc{number}", dtype)(x))
    x = nn.Dropout(dropout, deterministic=not train)(x)
    return dense(num_classes, "predictions", "float32")(x.astype(jnp.float32))


class Conv(nn.Module):
    """A square convolution, initialised as Keras does, without bias unless asked for one."""

    features: int
    window: int
    stride: int = 1
    padding: str = "SAME"
    use_bias: bool = False
    initial: Callable = glorot

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return [B, h', w', features] of [B, h, w, C]."""
        shape = (self.window, self.window, x.shape[-1], self.features)
        x = conv(x, self.param("kernel", self.initial, shape), self.stride, self.padding)
        if self.use_bias:
            x = x + self.param("bias", nn.initializers.zeros, (self.features,)).astype(x.dtype)
        return x


class BatchNorm(nn.Module):
    """Batch normalisation with Keras' constants, by the batch or by running statistics.

    Args:
        train: whether the batch is its own measure, and moves the running statistics.
        dtype: of the result; statistics are float32.
        momentum: of the running statistics; in trainings of some hundred steps Keras' 0.99 lags.
        epsilon: added to the variance.
    """

    train: bool
    dtype: str
    momentum: float = 0.99
    epsilon: float = 1e-3

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """Return the normalised [..., C] of [..., C]."""
        shape = (x.shape[-1],)
        mean = self.variable("batch_stats", "mean", jnp.zeros, shape, jnp.float32)
        variance = self.variable("batch_stats", "var", jnp.ones, shape, jnp.float32)
        scale = self.param("scale", nn.initializers.ones, shape)
        bias = self.param("bias", nn.initializers.zeros, shape)
        if not self.train:
            factor = scale * lax.rsqrt(variance.value + self.epsilon)
            return ((x - mean.value) * factor + bias).astype(self.dtype)
        x, *found = normalise(x, scale, bias, self.epsilon)
        if not self.is_initializing():
            for running, value in zip((mean, variance), found, strict=True):
                running.value = self.momentum * running.value + (1 - self.momentum) * value
        return x.astype(self.dtype)


def batch_norm(name: str, train: bool, dtype: str, momentum: float = 0.99) -> BatchNorm:
    """Return a batch normalisation of a name; other arguments of `BatchNorm`."""
    return BatchNorm(train, dtype, momentum, name=name)


def dense(features: int, name: str, dtype: str) -> nn.Dense:
    """Return a dense layer initialised as Keras does (Glorot uniform, zero bias)."""
    return nn.Dense(features, name=name, dtype=dtype, kernel_init=glorot)
