"""Vision Transformer over packets: one token a 16 x 16 tile, attention between packets.

Dosovitskiy et al., "An Image is Worth 16x16 Words", ICLR 2021. The seed variant is that of the
study (Machmeier et al., SSCI 2023): heads as wide as the model, sine-cosine positions.
"""

from __future__ import annotations

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.data.packing import Packing
from xai_traffic.models.encoding import ENCODINGS, check_header, encode_tiles
from xai_traffic.models.initial import glorot, spread
from xai_traffic.models.layers import Recorder, Taps, crop, dense, extent_of, packets_in
from xai_traffic.ops.attention import attention, fused_attention
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
            A path that starts at the all-zero image then jumps at its first step. Only such
            networks take packed tokens.
        fused: attention by cuDNN's kernel, on a GPU in 16 bits, where nobody asks for activations.
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
    fused: bool = False
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
        if self.fused and (self.head_dim > 128 or self.head_dim % 8):
            raise ValueError(f"fused attention needs head_dim 8, 16, ..., 128, not {self.head_dim}")

    @nn.compact
    def __call__(
        self,
        images: jax.Array,
        taps: Taps = None,
        train: bool = False,
        packing: Packing | None = None,
        recorded: bool = True,
    ) -> tuple[jax.Array, dict[str, jax.Array]]:
        """Return logits float32 [B, K] and activations.

        "stem" [B, rows, cols, D] (tile embeddings before positions), "attention_00"... float32
        [B, heads, T, T] (probabilities, class token first), "block_00"... [B, T, D], and
        "last" [B, rows, cols, D], the tile tokens that enter the last block; none where they are
        not `recorded`, as they never are of packed tokens. Images may be cut to fewer packets
        where the network looks at no empty tile.
        """
        record = Recorder(taps)
        packets = packets_in(images, self.packets) if self.mask_empty else self.packets
        grid = tuple(side // SIDE for side in extent_of(packets))
        tiles = tiles_from_images(crop(images, packets=packets, channels=self.channels))
        if packing is None:
            x, occupied = self._tokens_of_sessions(tiles, grid, record)
            number = jnp.arange(occupied.size).reshape(occupied.shape)
            keep = occupied.at[:, 0].set(True)[:, None] if self.mask_empty else None
        else:
            x, occupied = self._packed_tokens(tiles, packing)
            number = packing.session * (tiles.shape[1] + 1) + packing.place
            same = packing.session[:, :, None] == packing.session[:, None]
            keep = same & (occupied | (packing.place == 0))[:, None]
        drop = partial(drop_features, rate=self.dropout if train else 0.0, number=number)
        x = drop(self, x)
        for depth in range(self.depth):
            if depth == self.depth - 1 and packing is None:
                last = record("last", x[:, 1:].reshape(-1, *grid, self.dim))
                x = jnp.concatenate([x[:, :1], last.reshape(len(x), -1, self.dim)], axis=1)
            block = EncoderBlock(
                heads=self.heads,
                head_dim=self.head_dim,
                mlp_dim=self.mlp_dim,
                dtype=self.dtype,
                name=f"encoderblock_{depth}",
            )
            probabilities = partial(record, f"attention_{depth:02d}")
            x = block(x, keep, None if self.fused and not recorded else probabilities, drop)
            x = record(f"block_{depth:02d}", x)
        x = _norm("encoder_norm", self.dtype)(x).astype(jnp.float32)

        pooled = _pooled if packing is None else partial(_pooled_apart, packing=packing)
        views = pooled(x, occupied)
        x = jnp.concatenate(list(views.values()), -1) if self.pool == "both" else views[self.pool]
        start = nn.initializers.zeros if self.zero_head else glorot
        logits = nn.Dense(self.num_classes, kernel_init=start, name="head")(x)
        return logits, record.finish() if recorded else {}

    def _tokens_of_sessions(self, tiles, grid, record: Recorder) -> tuple[jax.Array, jax.Array]:
        """Return tokens [B, 1 + P, D], and which hold a byte that is not zero."""
        x = self._embed(tiles)
        x = record("stem", x.reshape(-1, *grid, self.dim)).reshape(x.shape)
        first = jnp.broadcast_to(self._first().astype(x.dtype), (x.shape[0], 1, self.dim))
        x = jnp.concatenate([first, x], axis=1)
        x = x + self._positions()[:, : x.shape[1]].astype(x.dtype)
        return x, jnp.pad((tiles != 0).any(axis=-1), ((0, 0), (1, 0)))

    def _packed_tokens(self, tiles, packing: Packing) -> tuple[jax.Array, jax.Array]:
        """Return the same as rows of slots [R, L, D]; a free slot holds a class token of nobody."""
        sessions, packets, _ = tiles.shape
        is_packet = packing.place > 0
        source = jnp.where(is_packet, packing.session * packets + packing.place - 1, 0)
        tiles = tiles.reshape(sessions * packets, -1)[source]
        x = self._embed(tiles)
        x = jnp.where(is_packet[..., None], x, self._first()[0].astype(x.dtype))
        x = x + self._positions()[0].astype(x.dtype)[packing.place]
        return x, is_packet & (tiles != 0).any(axis=-1)

    def _embed(self, tiles: jax.Array) -> jax.Array:
        # Encoded in float32: scaled bytes and sines lose bits in bfloat16.
        x = encode_tiles(tiles, self.encoding, self.frequencies, self.header * self.channels)
        return dense(self.dim, "embedding", self.dtype)(x.astype(self.dtype))

    def _first(self) -> jax.Array:
        return self.param("cls", spread(0.02), (1, 1, self.dim))

    def _positions(self) -> jax.Array:
        length = self.packets + 1
        if self.positions == "learned":
            start = spread(0.02)
            return self.param("pos_embedding", start, (1, length, self.dim))
        return jnp.asarray(sincos_positions(length, self.dim))[None]


def _pooled(x: jax.Array, occupied: jax.Array) -> dict[str, jax.Array]:
    share = occupied[:, 1:, None].astype(jnp.float32)
    share = share / jnp.maximum(share.sum(axis=1, keepdims=True), 1.0)
    return {"token": x[:, 0], "mean": (x[:, 1:] * share).sum(axis=1)}


def _pooled_apart(x: jax.Array, occupied: jax.Array, packing: Packing) -> dict[str, jax.Array]:
    """Return what `_pooled` does, for sessions that stand in rows together."""
    sessions = packing.head.shape[0]
    owner = jnp.where(occupied, packing.session, sessions).reshape(-1)  # the last is thrown away
    x = x.reshape(-1, x.shape[-1])
    count = jax.ops.segment_sum(jnp.ones(owner.shape), owner, sessions + 1)[:-1, None]
    total = jax.ops.segment_sum(x, owner, sessions + 1)[:-1]
    return {"token": x[packing.head], "mean": total / jnp.maximum(count, 1.0)}


def sincos_positions(length: int, dim: int) -> np.ndarray:
    """Return float32 [length, dim]: sine on even, cosine on odd channels (Vaswani et al. 2017)."""
    rates = 10000.0 ** (-np.arange(0, dim, 2) / dim)
    angles = np.arange(length)[:, None] * rates
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(length, dim).astype("f4")


def drop_features(module: nn.Module, x: jax.Array, rate: float, number: jax.Array) -> jax.Array:
    """Zero features by chance and scale the others up (Srivastava et al., JMLR 2014).

    What is drawn for a token depends on its number alone, not on the slot where it stands: packed
    or not, on one device or many, a session loses the same.

    Args:
        module: whose stream "dropout" the key is of; unused at rate 0.
        x: [R, L, D].
        rate: probability of a feature, 0 for none.
        number: int [R, L], of each token in the batch.
    """
    if not rate:
        return x
    key = module.make_rng("dropout")
    keys = jax.vmap(lambda which: jax.random.fold_in(key, which))(number.reshape(-1))
    keep = jax.vmap(lambda one: jax.random.bernoulli(one, 1.0 - rate, x.shape[-1:]))(keys)
    return jnp.where(keep.reshape(x.shape), x / (1.0 - rate), 0)


class EncoderBlock(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a skip connection."""

    heads: int
    head_dim: int
    mlp_dim: int
    dtype: str

    @nn.compact
    def __call__(self, x, keep, record_attention, drop):
        """Return [B, T, D].

        Args:
            x: [B, T, D].
            keep, record_attention: see `Attention`.
            drop: function of a module and [B, T, D], drops features in training.
        """
        y = _norm("LayerNorm_0", self.dtype)(x)
        y = Attention(self.heads, self.head_dim, self.dtype, name="attention")(
            y, keep, record_attention
        )
        x = x + drop(self, y)
        y = _norm("LayerNorm_1", self.dtype)(x)
        y = nn.gelu(dense(self.mlp_dim, "mlp_0", self.dtype)(y), approximate=False)
        y = dense(x.shape[-1], "mlp_1", self.dtype)(y)
        return x + drop(self, y)


class Attention(nn.Module):
    """Multi-head self-attention that shows its probabilities (float32 [B, heads, T, T])."""

    heads: int
    head_dim: int
    dtype: str

    @nn.compact
    def __call__(self, x, keep, record_attention):
        """Return [B, T, D] of x [B, T, D].

        Args:
            keep: bool [B, T or 1, T] or None, what each query may look at.
            record_attention: is shown the probabilities; None asks for the fused kernel.
        """
        project = partial(
            nn.DenseGeneral,
            features=(self.heads, self.head_dim),
            dtype=self.dtype,
            kernel_init=glorot,
        )
        query, key, value = (project(name=name)(x) for name in ("query", "key", "value"))
        if record_attention is None:
            mixed = fused_attention(query, key, value, keep)
        else:
            mixed = attention(query, key, value, keep, record_attention)
        return project(features=x.shape[-1], axis=(-2, -1), name="out")(mixed)


def _norm(name: str, dtype: str) -> nn.LayerNorm:
    return nn.LayerNorm(epsilon=1e-6, name=name, dtype=dtype)
