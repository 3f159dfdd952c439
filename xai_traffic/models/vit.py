"""Vision Transformer over packets: one token a 16 x 16 tile, attention between packets.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. The seed variant is that of the
study (Machmeier et al., SSCI 2023): heads as wide as the model, sine-cosine positions.
"""

from __future__ import annotations

import math
from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.models.encoding import ENCODINGS, check_header, encode_tiles
from xai_traffic.models.initial import glorot, spread
from xai_traffic.models.layers import Recorder, Taps, crop, dense, extent_of
from xai_traffic.ops.tiles import SIDE, tiles_from_images

_USUAL = {"encoding": "scaled", "positions": "learned", "zero_head": False}
_SMALL = {
    "dim": 96,
    "depth": 2,
    "heads": 4,
    "head_dim": 24,
    "mlp_dim": 384,
    "positions": "learned",
    "encoding": "fourier",
    "frequencies": 7,
    "header": 80,
    "mask_empty": True,
    "pool": "both",
    "dropout": 0.1,
}

VARIANTS = {
    "seed": {
        "dim": 768,
        "depth": 12,
        "heads": 12,
        "head_dim": 768,
        "mlp_dim": 3072,
        "encoding": "raw",
        "positions": "sincos",
        "pool": "token",
        "zero_head": True,
    },
    "b": {**_USUAL, "dim": 768, "depth": 12, "heads": 12, "head_dim": 64, "mlp_dim": 3072},
    "s": {**_USUAL, "dim": 384, "depth": 12, "heads": 6, "head_dim": 64, "mlp_dim": 1536},
    "ti": {**_USUAL, "dim": 192, "depth": 12, "heads": 3, "head_dim": 64, "mlp_dim": 768},
    "small": _SMALL,
    "cpu": {**_SMALL, "packets": 8},
    "debug": {
        **_SMALL,
        "dim": 32,
        "depth": 2,
        "heads": 2,
        "head_dim": 16,
        "mlp_dim": 64,
        "packets": 16,
    },
}


class ViT(nn.Module):
    """Tokens of tiles, a class token before them, pre-norm encoder blocks, a linear head.

    Args:
        num_classes, channels, dtype: see `models.build`.
        packets: tiles it reads, 1..8 or a multiple of 8.
        encoding, frequencies, header: see `encoding.encode_tiles`.
        dim, depth, heads, head_dim, mlp_dim: the usual sizes; attention scores are scaled by
            1 / sqrt(head_dim).
        positions: "sincos" (one-dimensional, fixed, class token at 0) or "learned".
        pool: what the head reads: "token" (class token), "mean" (over non-empty tiles), "both".
        mask_empty: attention ignores tiles whose 256 bytes are all zero, never the class token.
            A path that starts at the all-zero image then jumps at its first step.
        dropout: rate after the embedding and each branch.
        zero_head: the head starts at zero, as in the study.
    """

    num_classes: int
    channels: int = 1
    dtype: str = "float32"
    packets: int = 64
    encoding: str = "raw"
    frequencies: int = 4
    header: int = 0
    dim: int = 768
    depth: int = 12
    heads: int = 12
    head_dim: int = 768
    mlp_dim: int = 3072
    positions: str = "sincos"
    pool: str = "token"
    mask_empty: bool = False
    dropout: float = 0.0
    zero_head: bool = True

    def check(self) -> None:
        """Raise ValueError where a field has a value that means nothing."""
        for name, allowed in (
            ("encoding", ENCODINGS),
            ("positions", ("sincos", "learned")),
            ("pool", ("token", "mean", "both")),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} {getattr(self, name)!r}: choose {', '.join(allowed)}")
        check_header(self.header, SIDE)
        if min(self.dim, self.depth, self.heads, self.head_dim, self.mlp_dim) < 1:
            raise ValueError("dim, depth, heads, head_dim and mlp_dim must be positive")
        if self.positions == "sincos" and self.dim % 2:
            raise ValueError(f"sine-cosine positions need an even dim, not {self.dim}")

    @nn.compact
    def __call__(
        self, images: jax.Array, taps: Taps = None, train: bool = False
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return logits float32 [B, K] and activations.

        "stem" [B, rows, cols, D] (tile embeddings before positions), "attention_00"... float32
        [B, heads, T, T] (probabilities, class token first), "block_00"... [B, T, D], and
        "last" [B, rows, cols, D], the tile tokens that enter the last block.
        """
        record = Recorder(taps)
        height, width = extent_of(self.packets)
        rows, columns = height // SIDE, width // SIDE
        tokens = rows * columns
        x = tiles_from_images(crop(images, packets=self.packets, channels=self.channels))
        occupied = (x != 0).any(axis=-1)
        # Encoded in float32: scaled bytes and sines lose bits in bfloat16.
        x = encode_tiles(x, self.encoding, self.frequencies, self.header * self.channels)
        x = x.astype(self.dtype)
        x = dense(self.dim, "embedding", self.dtype)(x)
        x = record("stem", x.reshape(-1, rows, columns, self.dim)).reshape(-1, tokens, self.dim)

        first = self.param("cls", spread(0.02), (1, 1, self.dim))
        first = jnp.broadcast_to(first, (x.shape[0], 1, self.dim)).astype(x.dtype)
        x = jnp.concatenate([first, x], axis=1) + self._positions(tokens + 1).astype(x.dtype)
        x = nn.Dropout(self.dropout, deterministic=not train)(x)

        keep = None
        if self.mask_empty:
            keep = jnp.concatenate([jnp.ones_like(occupied[:, :1]), occupied], axis=1)
        for number in range(self.depth):
            if number == self.depth - 1:
                grid = record("last", x[:, 1:].reshape(-1, rows, columns, self.dim))
                x = jnp.concatenate([x[:, :1], grid.reshape(-1, tokens, self.dim)], axis=1)
            x = EncoderBlock(
                heads=self.heads,
                head_dim=self.head_dim,
                mlp_dim=self.mlp_dim,
                dropout=self.dropout,
                dtype=self.dtype,
                name=f"encoderblock_{number}",
            )(x, keep, partial(record, f"attention_{number:02d}"), train)
            x = record(f"block_{number:02d}", x)
        x = _norm("encoder_norm", self.dtype)(x).astype(jnp.float32)

        share = occupied[..., None].astype(jnp.float32)
        share = share / jnp.maximum(share.sum(axis=1, keepdims=True), 1.0)
        views = {"token": x[:, 0], "mean": (x[:, 1:] * share).sum(axis=1)}
        x = jnp.concatenate(list(views.values()), -1) if self.pool == "both" else views[self.pool]
        start = nn.initializers.zeros if self.zero_head else glorot
        logits = nn.Dense(self.num_classes, kernel_init=start, name="head")(x)
        return logits, record.finish()

    def _positions(self, length: int) -> jax.Array:
        if self.positions == "learned":
            start = spread(0.02)
            return self.param("pos_embedding", start, (1, length, self.dim))
        return jnp.asarray(sincos_positions(length, self.dim))[None]


def sincos_positions(length: int, dim: int) -> np.ndarray:
    """Return float32 [length, dim]: sine on even, cosine on odd channels (Vaswani et al. 2017)."""
    rates = 10000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(length)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim).astype("f4")


class EncoderBlock(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a skip connection."""

    heads: int
    head_dim: int
    mlp_dim: int
    dropout: float
    dtype: str

    @nn.compact
    def __call__(self, x, keep, record_attention, train):
        """Return [B, T, D]; `keep` bool [B, T] or None, keys that attention may look at."""
        y = _norm("LayerNorm_0", self.dtype)(x)
        y = Attention(self.heads, self.head_dim, self.dtype, name="attention")(
            y, keep, record_attention
        )
        dropout = nn.Dropout(self.dropout, deterministic=not train)
        x = x + dropout(y)
        y = _norm("LayerNorm_1", self.dtype)(x)
        y = nn.gelu(dense(self.mlp_dim, "mlp_0", self.dtype)(y), approximate=False)
        y = dense(x.shape[-1], "mlp_1", self.dtype)(y)
        return x + dropout(y)


class Attention(nn.Module):
    """Multi-head self-attention that shows its probabilities (float32 [B, heads, T, T])."""

    heads: int
    head_dim: int
    dtype: str

    @nn.compact
    def __call__(self, x, keep, record_attention):
        """Return [B, T, D] of x [B, T, D]."""
        project = partial(
            nn.DenseGeneral,
            features=(self.heads, self.head_dim),
            dtype=self.dtype,
            kernel_init=glorot,
        )
        query, key, value = (project(name=name)(x) for name in ("query", "key", "value"))
        scores = jnp.einsum("bqhd,bkhd->bhqk", query, key, preferred_element_type=jnp.float32)
        scores = scores / math.sqrt(self.head_dim)
        if keep is not None:
            scores = jnp.where(keep[:, None, None, :], scores, jnp.finfo(jnp.float32).min)
        probabilities = record_attention(jax.nn.softmax(scores, axis=-1))
        mixed = jnp.einsum("bhqk,bkhd->bqhd", probabilities.astype(value.dtype), value)
        return project(features=x.shape[-1], axis=(-2, -1), name="out")(mixed)


def _norm(name: str, dtype: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, name=name, dtype=dtype)
