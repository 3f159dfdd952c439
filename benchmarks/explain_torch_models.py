"""Our networks in PyTorch with our weights: the other side of the comparison with captum."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import nn
from torch.nn import functional

SIDE, CELL, COARSE = 16, 4, 2
Weights = Mapping[str, np.ndarray]


def build(fields: dict, weights: Weights, family: str) -> nn.Module:
    """Return a network in inference mode whose weights need no gradient, channels last.

    Args:
        fields: of our module.
        weights: float32 by path, such as "params/head/kernel".
        family: "xception", "vgg19" or "vit".
    """
    tensors = {path: torch.tensor(np.array(value)) for path, value in weights.items()}
    made = {"xception": Xception, "vgg19": VGG19, "vit": ViT}[family](fields, tensors)
    made = made.eval().requires_grad_(False)
    return made if family == "vit" else made.to(memory_format=torch.channels_last)


def encode(x: torch.Tensor, encoding: str, frequencies: int) -> torch.Tensor:
    """Return [..., C * features] of bytes [..., C]."""
    if encoding == "raw":
        return x
    scaled = x / 127.5 - 1.0
    if encoding == "scaled":
        return scaled
    angles = [x * (2.0 * math.pi / 256.0 * 2.0**k) for k in range(frequencies)]
    return torch.cat([scaled, *(a.sin() for a in angles), *(a.cos() for a in angles)], -1)


def tiles_of(x: torch.Tensor, packets: int) -> tuple[torch.Tensor, int, int]:
    """Return the tiles [B, P, 16, 16] that a network reads of [B, 1, 128, 128], and their grid."""
    rows, columns = (1, packets) if packets <= 8 else (packets // 8, 8)
    x = x[:, 0, : rows * SIDE, : columns * SIDE]
    x = x.reshape(len(x), rows, SIDE, columns, SIDE).transpose(2, 3)
    return x.reshape(len(x), rows * columns, SIDE, SIDE), rows, columns


def linear(kernel: torch.Tensor, bias: torch.Tensor) -> nn.Linear:
    """Return a dense layer of a kernel [in, out]."""
    layer = nn.Linear(*kernel.shape)
    layer.weight.data, layer.bias.data = kernel.T.contiguous(), bias
    return layer


class Network(nn.Module):
    """What Xception and VGG-19 share.

    Args:
        fields: of our module.
        weights: by path.
    """

    def __init__(self, fields: dict, weights: dict[str, torch.Tensor]):
        super().__init__()
        self.fields, self.weights = fields, weights
        self.last = nn.Identity()  # where Grad-CAM looks
        self.cells = (
            Cells(fields, self.of("cells"), self.norm("cells/bn")) if self.stemmed else None
        )
        hidden = range(1, len(fields["hidden"]) + 1)
        self.dense = nn.ModuleList(
            linear(*(self.of(f"{name}")[leaf] for leaf in ("kernel", "bias")))
            for name in (*(f"fc{number}" for number in hidden), "predictions")
        )

    @property
    def stemmed(self) -> bool:
        return self.fields.get("stem") == "cells"

    def of(self, layer: str) -> dict[str, torch.Tensor]:
        """Return a layer's own parameters by their last names."""
        start = f"params/{layer}/"
        return {p.removeprefix(start): v for p, v in self.weights.items() if p.startswith(start)}

    def norm(self, name: str) -> nn.BatchNorm2d:
        own = self.of(name)
        made = nn.BatchNorm2d(len(own["scale"]), eps=1e-3)
        made.weight.data, made.bias.data = own["scale"], own["bias"]
        made.running_mean = self.weights[f"batch_stats/{name}/mean"]
        made.running_var = self.weights[f"batch_stats/{name}/var"]
        return made

    def conv(self, name: str, leaf: str = "kernel", stride: int = 1, same: bool = True):
        own = self.of(name)
        kernel = own[leaf].permute(3, 2, 0, 1).contiguous()
        groups = kernel.shape[0] if leaf == "depthwise_kernel" else 1
        out, width, side, _ = kernel.shape
        pad = side // 2 if same else 0
        made = nn.Conv2d(width * groups, out, side, stride, pad, groups=groups, bias="bias" in own)
        made.weight.data = kernel
        if "bias" in own:
            made.bias.data = own["bias"]
        return made

    def begin(self, x: torch.Tensor) -> torch.Tensor:
        """Return what the first block reads."""
        if self.stemmed:
            return self.cells(x)
        packets = self.fields["packets"]
        height, width = (SIDE, SIDE * packets) if packets <= 8 else (2 * packets, 128)
        pixels = x[:, 0, :height, :width, None]
        encoded = encode(pixels, self.fields["encoding"], self.fields["frequencies"])
        return encoded.permute(0, 3, 1, 2)

    def end(self, x: torch.Tensor) -> torch.Tensor:
        """Return logits of the last map."""
        x = x.mean((2, 3)) if self.fields["head"] == "pool" else x.permute(0, 2, 3, 1).flatten(1)
        for layer in self.dense[:-1]:
            x = layer(x).relu()
        return self.dense[-1](x)


class Cells(nn.Module):
    """The dense layers of `models/cells.py`, all cells of one encoding in one product."""

    def __init__(self, fields: dict, own: dict[str, torch.Tensor], norm: nn.BatchNorm2d):
        super().__init__()
        self.fields, self.norm = fields, norm
        self.fine = (fields["header"] or SIDE * SIDE) // (SIDE * CELL) * (SIDE // CELL)
        names = [f"cell_{number:02d}" for number in range((SIDE // CELL) ** 2)]
        for part, some in (("fine", names[: self.fine]), ("coarse", names[self.fine :])):
            for leaf in ("kernel", "bias"):
                stacked = [own[f"{name}/{leaf}"] for name in some] or [torch.zeros(1)]
                self.register_buffer(f"{part}_{leaf}", torch.stack(stacked))
        self.register_buffer("place", own["place"].permute(0, 3, 1, 2).contiguous())

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tiles, rows, columns = tiles_of(x, self.fields["packets"])
        side = SIDE // CELL
        cells = tiles.reshape(-1, side, CELL, side, CELL).transpose(2, 3)
        cells = cells.reshape(-1, side * side, CELL * CELL).transpose(0, 1)
        parts = []
        for name, some, octaves in (
            ("fine", cells[: self.fine], self.fields["frequencies"]),
            ("coarse", cells[self.fine :], COARSE),
        ):
            if len(some):
                encoded = encode(some[..., None], self.fields["encoding"], octaves).flatten(2)
                kernel, bias = getattr(self, f"{name}_kernel"), getattr(self, f"{name}_bias")
                parts.append(torch.baddbmm(bias[:, None], encoded, kernel))
        y = torch.cat(parts)  # [cells, B * P, C]
        y = y.reshape(side, side, -1, rows, columns, y.shape[-1]).permute(2, 5, 3, 0, 4, 1)
        y = y.reshape(*y.shape[:2], rows * side, columns * side)
        return self.norm(y.contiguous(memory_format=torch.channels_last) + self.place).relu()


class Separable(nn.Sequential):
    """A depthwise convolution, a pointwise one, and their normalisation."""

    def __init__(self, of: Network, name: str):
        depthwise, pointwise = (
            of.conv(name, leaf) for leaf in ("depthwise_kernel", "pointwise_kernel")
        )
        super().__init__(depthwise, pointwise, of.norm(f"{name}_bn"))


class Xception(Network):
    """The network of `models/xception.py`."""

    def __init__(self, fields: dict, weights: dict[str, torch.Tensor]):
        super().__init__(fields, weights)
        if not self.stemmed:
            self.block1 = nn.Sequential(
                *(self.conv("block1_conv1", stride=2, same=False), self.norm("block1_conv1_bn")),
                *(nn.ReLU(), self.conv("block1_conv2", same=False)),
                *(self.norm("block1_conv2_bn"), nn.ReLU()),
            )
        self.reducing = [*range(2, 2 + fields["entry"]), *([13] if fields["exit"] else [])]
        self.middle = list(range(5, 5 + fields["middle"]))
        self.skips, self.parts = nn.ModuleDict(), nn.ModuleDict()
        for block in self.reducing:
            name = f"block{block}_residual"
            self.skips[name] = nn.Sequential(self.conv(name, stride=2), self.norm(f"{name}_bn"))
        for block in (*self.reducing, *self.middle, *([14] if fields["exit"] else [])):
            for number in range(1, 4 if block in self.middle else 3):
                name = f"block{block}_sepconv{number}"
                self.parts[name] = Separable(self, name)
        del self.weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.begin(x)
        x = x if self.stemmed else self.block1(x)
        for block in self.reducing:
            if block != 13:
                x = self.reduce(x, block)
        for block in self.middle:
            skip = x
            for number in (1, 2, 3):
                x = self.parts[f"block{block}_sepconv{number}"](x.relu())
            x = x + skip
        if 13 in self.reducing:
            x = self.reduce(x, 13)
            for number in (1, 2):
                x = self.parts[f"block14_sepconv{number}"](x).relu()
        else:
            x = x.relu()
        return self.end(self.last(x))

    def reduce(self, x: torch.Tensor, block: int) -> torch.Tensor:
        """Return the output of a block that halves the map."""
        skip = self.skips[f"block{block}_residual"](x)
        x = x if block == 2 else x.relu()
        x = self.parts[f"block{block}_sepconv1"](x).relu()
        x = self.parts[f"block{block}_sepconv2"](x)
        pads = []
        for size in (x.shape[3], x.shape[2]):
            total = max((-(-size // 2) - 1) * 2 + 3 - size, 0)
            pads += [total // 2, total - total // 2]
        return functional.max_pool2d(functional.pad(x, pads, value=-math.inf), 3, 2) + skip


class VGG19(Network):
    """The network of `models/vgg19.py`."""

    def __init__(self, fields: dict, weights: dict[str, torch.Tensor]):
        super().__init__(fields, weights)
        self.blocks = nn.ModuleList()
        for block, count in enumerate(fields["convolutions"], 1):
            parts = []
            for number in range(1, count + 1):
                name = f"block{block}_conv{number}"
                parts.append(self.conv(name))
                if fields["normalise"]:
                    parts.append(self.norm(f"{name}_bn"))
                parts.append(nn.ReLU())
            self.blocks.append(nn.Sequential(*parts))
        del self.weights

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.begin(x)
        for number, block in enumerate(self.blocks, 1):
            x = block(x)
            if number == len(self.blocks):
                x = self.last(x)
            x = functional.max_pool2d(x, 2, 2)
        return self.end(x)


class ViT(nn.Module):
    """The network of `models/vit.py` on the dense grid, empty tiles hidden by a mask."""

    def __init__(self, fields: dict, weights: dict[str, torch.Tensor]):
        super().__init__()
        own = {path.removeprefix("params/"): value for path, value in weights.items()}
        self.fields, self.heads, self.width = fields, fields["heads"], fields["head_dim"]
        self.last = nn.Identity()
        self.embedding = linear(own["embedding/kernel"], own["embedding/bias"])
        self.head = linear(own["head/kernel"], own["head/bias"])
        self.register_buffer("first", own["cls"])
        self.register_buffer("positions", own["pos_embedding"])
        dim = fields["dim"]

        def norm(name: str) -> nn.LayerNorm:
            made = nn.LayerNorm(dim, eps=1e-6)
            made.weight.data, made.bias.data = own[f"{name}/scale"], own[f"{name}/bias"]
            return made

        self.blocks = nn.ModuleList()
        for depth in range(fields["depth"]):
            name = f"encoderblock_{depth}"
            at = f"{name}/attention"
            kernels = [own[f"{at}/{part}/kernel"].reshape(dim, -1) for part in QKV]
            biases = [own[f"{at}/{part}/bias"].reshape(-1) for part in QKV]
            out = own[f"{at}/out/kernel"].reshape(-1, dim)
            parts = {
                "norm1": norm(f"{name}/LayerNorm_0"),
                "qkv": linear(torch.cat(kernels, 1), torch.cat(biases)),
                "out": linear(out, own[f"{at}/out/bias"]),
                "norm2": norm(f"{name}/LayerNorm_1"),
                "mlp_0": linear(own[f"{name}/mlp_0/kernel"], own[f"{name}/mlp_0/bias"]),
                "mlp_1": linear(own[f"{name}/mlp_1/kernel"], own[f"{name}/mlp_1/bias"]),
            }
            self.blocks.append(nn.ModuleDict(parts))
        self.norm = norm("encoder_norm")

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        fields = self.fields
        tiles = tiles_of(x, fields["packets"])[0].flatten(2)
        header = fields["header"] or tiles.shape[-1]
        parts = [(tiles[..., :header], fields["frequencies"]), (tiles[..., header:], COARSE)]
        encoded = [encode(p[..., None], fields["encoding"], n).flatten(2) for p, n in parts]
        y = self.embedding(torch.cat(encoded, -1))
        y = torch.cat([self.first.expand(len(y), -1, -1), y], 1) + self.positions
        occupied = (tiles != 0).any(-1)
        keep = None
        if fields["mask_empty"]:
            keep = functional.pad(occupied, (1, 0), value=True)[:, None, None]
        for depth, block in enumerate(self.blocks):
            y = self.last(y) if depth == len(self.blocks) - 1 else y
            qkv = block["qkv"](block["norm1"](y))
            qkv = qkv.reshape(*y.shape[:2], 3, self.heads, self.width).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(*qkv, attn_mask=keep)
            y = y + block["out"](mixed.transpose(1, 2).flatten(2))
            hidden = functional.gelu(block["mlp_0"](block["norm2"](y)))
            y = y + block["mlp_1"](hidden)
        y = self.norm(y)
        share = occupied[..., None].float()
        share = share / share.sum(1, keepdim=True).clamp(min=1.0)
        views = {"token": y[:, 0], "mean": (y[:, 1:] * share).sum(1)}
        pool = fields["pool"]
        return self.head(torch.cat(list(views.values()), -1) if pool == "both" else views[pool])


QKV = ("query", "key", "value")
