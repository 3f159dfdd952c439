"""The models in PyTorch, compiled and channels-last; from timm where it is installed."""

from __future__ import annotations

import contextlib
import importlib.util
import math
import os
from collections.abc import Callable

import torch
from model_cases import BenchModel, Sizes
from torch import nn
from torch.nn import functional

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
TIMM = importlib.util.find_spec("timm") is not None


def version() -> str:
    """Return the versions of PyTorch and timm."""
    if not TIMM:
        return f"torch {torch.__version__}"
    import timm

    return f"torch {torch.__version__}, timm {timm.__version__}"


def build(bench: BenchModel, classes: int, dtype: str, what: str) -> tuple[nn.Module, int, str]:
    """Return a model on the device, its parameters, and where it comes from."""
    torch.manual_seed(0)
    torch.set_num_threads(len(os.sched_getaffinity(0)))
    torch.set_float32_matmul_precision("high")  # TF32 on GPUs, as JAX
    if bench.family == "vgg19":
        model, note = vgg19(classes), "torch.nn"
    elif bench.family == "xception":
        import timm

        model = timm.create_model("legacy_xception", num_classes=classes, in_chans=1)
        note = "timm legacy_xception"
    elif bench.variant == "seed" or not TIMM:
        model, note = Transformer(bench.variant == "seed", bench.sizes, classes), "torch.nn"
    else:
        model, note = timm_transformer(bench.sizes, classes), "timm VisionTransformer"
    parameters = sum(parameter.numel() for parameter in model.parameters())
    model = model.to(DEVICE)
    if not bench.sizes:
        model = model.to(memory_format=torch.channels_last)
    if dtype == "bfloat16" and what == "inference":
        model = model.to(torch.bfloat16)
    return torch.compile(model), parameters, note


def timm_transformer(sizes: Sizes, classes: int) -> nn.Module:
    """Return timm's Vision Transformer of these sizes."""
    from timm.models.vision_transformer import VisionTransformer

    return VisionTransformer(
        img_size=128,
        patch_size=16,
        in_chans=1,
        num_classes=classes,
        embed_dim=sizes.dim,
        depth=sizes.depth,
        num_heads=sizes.heads,
    )


def training(
    model: nn.Module, batch: int, classes: int, dtype: str
) -> tuple[Callable[[], object], Callable[[object], object]]:
    """Return a step of plain SGD, and how to wait for it."""
    model.train()
    images, labels = _images(batch), torch.randint(0, classes, (batch,), device=DEVICE)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    lower = contextlib.nullcontext()
    if dtype == "bfloat16":
        lower = torch.autocast(DEVICE, torch.bfloat16)

    def step() -> torch.Tensor:
        optimizer.zero_grad(set_to_none=True)
        with lower:
            logits = model(images)
        loss = functional.cross_entropy(logits.float(), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, _wait


def inference(
    model: nn.Module, batch: int, classes: int, dtype: str
) -> tuple[Callable[[], object], Callable[[object], object]]:
    """Return a judgement of a batch, and how to wait for it."""
    model.eval()
    images = _images(batch).to(getattr(torch, dtype))

    def step() -> torch.Tensor:
        with torch.inference_mode():
            return model(images)

    return step, _wait


def _images(batch: int) -> torch.Tensor:
    images = torch.randint(0, 256, (batch, 1, 128, 128), device=DEVICE).float()
    return images.to(memory_format=torch.channels_last)


def _wait(last: torch.Tensor) -> float:
    if DEVICE == "cuda":
        torch.cuda.synchronize()
    return float(last.float().sum())


def peak() -> int | None:
    """Return the GPU's peak memory in bytes, None on a CPU."""
    return torch.cuda.max_memory_allocated() if DEVICE == "cuda" else None


def vgg19(classes: int) -> nn.Sequential:
    """Return VGG-19 for 128 x 128 pixels, its last map flattened as Keras does."""
    parts: list[nn.Module] = []
    before = 1
    for channels, count in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(count):
            parts += [nn.Conv2d(before, channels, 3, padding=1), nn.ReLU(inplace=True)]
            before = channels
        parts.append(nn.MaxPool2d(2, 2))
    parts += [nn.Flatten(), nn.Linear(512 * 4 * 4, 4096), nn.ReLU(inplace=True)]
    parts += [nn.Linear(4096, 4096), nn.ReLU(inplace=True), nn.Linear(4096, classes)]
    return nn.Sequential(*parts)


class Transformer(nn.Module):
    """A Vision Transformer whose heads may be as wide as the model, as the study's are."""

    def __init__(self, seed: bool, sizes: Sizes, classes: int):
        super().__init__()
        self.scale = 1.0 if seed else 1 / 255
        self.embedding = nn.Conv2d(1, sizes.dim, 16, 16)
        self.first = nn.Parameter(torch.randn(1, 1, sizes.dim) * 0.02)
        if seed:
            rates = 10000.0 ** (-torch.arange(0, sizes.dim, 2) / sizes.dim)
            angles = torch.arange(65)[:, None] * rates
            waves = torch.stack([angles.sin(), angles.cos()], -1).reshape(1, 65, sizes.dim)
            self.register_buffer("positions", waves)
        else:
            self.positions = nn.Parameter(torch.randn(1, 65, sizes.dim) * 0.02)
        self.blocks = nn.ModuleList(Block(sizes) for _ in range(sizes.depth))
        self.norm = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.head = nn.Linear(sizes.dim, classes)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Return logits [B, K] of images [B, 1, 128, 128]."""
        x = self.embedding(images * self.scale).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(x), -1, -1), x], dim=1) + self.positions
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x[:, 0]))


class Block(nn.Module):
    """Attention and MLP, each behind a layer norm and beside a skip connection."""

    def __init__(self, sizes: Sizes):
        super().__init__()
        self.heads, self.scale = sizes.heads, 1 / math.sqrt(sizes.head_dim)
        self.norm1 = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.qkv = nn.Linear(sizes.dim, 3 * sizes.heads * sizes.head_dim)
        self.out = nn.Linear(sizes.heads * sizes.head_dim, sizes.dim)
        self.norm2 = nn.LayerNorm(sizes.dim, eps=1e-6)
        self.mlp = nn.Sequential(
            nn.Linear(sizes.dim, sizes.mlp_dim), nn.GELU(), nn.Linear(sizes.mlp_dim, sizes.dim)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return [B, T, D] of x [B, T, D]."""
        batch, tokens, _ = x.shape
        qkv = self.qkv(self.norm1(x)).reshape(batch, tokens, 3, self.heads, -1)
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        y = functional.scaled_dot_product_attention(query, key, value, scale=self.scale)
        x = x + self.out(y.transpose(1, 2).reshape(batch, tokens, -1))
        return x + self.mlp(self.norm2(x))
