"""Square convolutions in the formulation that the platform runs fast."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.ad_checkpoint import checkpoint_name

PRODUCT = "product"
"""Name of results that rematerialisation may keep: it cannot look into gradients of our own."""

DIMENSIONS = ("NHWC", "HWIO", "NHWC")

# F(2 x 2, 3 x 3) of Lavin and Gray: y = OUTPUT [(KERNEL k KERNEL') * (INPUT x INPUT')] OUTPUT'.
INPUT = ((1, 0, -1, 0), (0, 1, 1, 0), (0, -1, 1, 0), (0, 1, 0, -1))
KERNEL = ((1, 0, 0), (0.5, 0.5, 0.5), (0.5, -0.5, 0.5), (0, 0, 1))
OUTPUT = ((1, 1, 1, 0), (0, 1, -1, -1))

TILES = 1024
"""Tiles at a time, so that the sixteen transforms of a layer stay in the cache."""

NARROW, WIDE = 36, 32
"""Values of a window up to which they are gathered; channels from which Winograd pays."""


def conv(x: jax.Array, kernel: jax.Array, stride: int = 1, padding: str = "SAME") -> jax.Array:
    """Convolve with a square window.

    On CPU a 1 x 1 window is a matrix product, a 3 x 3 one of stride 1 over wide layers goes by
    Winograd's algorithm, and one over few channels by gathering its values; all else, and every
    other platform, by XLA's convolution. The first two have no forward-mode derivative.

    Args:
        x: float [B, H, W, C].
        kernel: float [n, n, C, K].
        stride: the same down and across.
        padding: "SAME" or "VALID", as in `lax.conv_general_dilated`.

    Returns:
        [B, H', W', K] of x's dtype.
    """
    window, _, channels, features = kernel.shape
    if jax.default_backend() != "cpu":
        y = direct_conv(x, kernel, stride, padding)
    elif window == 1:
        return pointwise_conv(x[:, ::stride, ::stride], kernel[0, 0])
    elif window == 3 and stride == 1 and min(channels, features) >= WIDE:
        y = winograd_conv(x, kernel, padding)
    elif window * window * channels <= NARROW:
        return gathered_conv(x, kernel, stride, padding)
    else:
        y = direct_conv(x, kernel, stride, padding)
    return checkpoint_name(y, PRODUCT)


def direct_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
    """Convolve by XLA's convolution; arguments of `conv`."""
    return lax.conv_general_dilated(
        x, kernel.astype(x.dtype), (stride, stride), padding, dimension_numbers=DIMENSIONS
    )


def gathered_conv(x: jax.Array, kernel: jax.Array, stride: int, padding: str) -> jax.Array:
    """Convolve by one matrix product of all windows; arguments of `conv`."""
    window, _, channels, features = kernel.shape
    pads = _margins(x, window, stride, padding)
    height, width = (
        (size + sum(pad) - window) // stride * stride + 1
        for size, pad in zip(x.shape[1:3], pads, strict=True)
    )
    x = jnp.pad(x, ((0, 0), *pads, (0, 0)))
    views = [
        x[:, down : down + height : stride, across : across + width : stride]
        for down in range(window)
        for across in range(window)
    ]
    matrix = kernel.reshape(window * window * channels, features)
    return pointwise_conv(jnp.concatenate(views, axis=-1), matrix)


def pointwise_conv(x: jax.Array, matrix: jax.Array) -> jax.Array:
    """Multiply the channels of each pixel by a matrix.

    Args:
        x: float [B, H, W, C].
        matrix: float [C, K].

    Returns:
        [B, H, W, K] of x's dtype.
    """
    if jax.default_backend() != "cpu":
        return x @ matrix.astype(x.dtype)
    return checkpoint_name(_product(x, matrix), PRODUCT)


@jax.custom_vjp
def _product(x, matrix):
    return x @ matrix.astype(x.dtype)


def _product_forward(x, matrix):
    return _product(x, matrix), (x, matrix)


def _product_backward(saved, gradient):
    # XLA:CPU would make the gradient already transposed, in a loop that strides through memory,
    # which took a seventh of Xception's training. Behind the barrier it is made row by row.
    x, matrix = saved
    x, gradient = lax.optimization_barrier((x, gradient))
    to_x = gradient @ matrix.astype(gradient.dtype).T
    to_matrix = x.reshape(-1, x.shape[-1]).T @ gradient.reshape(-1, gradient.shape[-1])
    return to_x, to_matrix.astype(matrix.dtype)


_product.defvjp(_product_forward, _product_backward)


@partial(jax.custom_vjp, nondiff_argnums=(2,))
def winograd_conv(x: jax.Array, kernel: jax.Array, padding: str) -> jax.Array:
    """Convolve by Winograd's F(2 x 2, 3 x 3), with stride 1; arguments of `conv`.

    Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016: sixteen
    products of transformed 4 x 4 tiles give 2 x 2 pixels, for which the plain sum takes 36. The
    gradients take the same way. All of it is in float32.

    On one core, at the shapes of VGG-19 and batch 16, it is 1.1 (64 channels) to 2.0 times as
    fast as XLA's convolution, its gradient to the kernel 1.7 to 2.7 times. It compiles slower:
    some forty small loops in place of one call. Backward keeps the transformed kernel, 16/9 of
    the kernel's size.
    """
    return _correlate(x, _filters(kernel), 1 if padding == "SAME" else 0)


def _winograd_forward(x, kernel, padding):
    filters = _filters(kernel)
    return _correlate(x, filters, 1 if padding == "SAME" else 0), (x, kernel, filters)


def _winograd_backward(padding, saved, gradient):
    x, kernel, filters = saved
    margin = 1 if padding == "SAME" else 0
    # Turning a window round swaps the first and the last row and column of its transform.
    turned = [[filters[i][j] for j in (3, 1, 2, 0)] for i in (3, 1, 2, 0)]
    to_x = _correlate(gradient, turned, 2 - margin, transposed=True)
    return to_x, _correlate_to_kernel(x, gradient, margin).astype(kernel.dtype)


winograd_conv.defvjp(_winograd_forward, _winograd_backward)


def _filters(kernel):
    """Return the transform of a kernel [3, 3, C, K], 4 by 4 of float32 [C, K]."""
    kernel = kernel.astype(jnp.float32)
    grid = [[kernel[i, j] for j in range(3)] for i in range(3)]
    return lax.optimization_barrier(_both(KERNEL, grid))


def _correlate(x, filters, margin, transposed=False):
    height, width = (size + 2 * margin - 2 for size in x.shape[1:3])
    spare = (height % 2, width % 2)

    def part(x: jax.Array) -> jax.Array:
        products = [
            [tile @ (matrix.T if transposed else matrix) for tile, matrix in zip(*row, strict=True)]
            for row in zip(_tiles(x, margin, spare), filters, strict=True)
        ]
        shape = (x.shape[0], (height + 1) // 2, (width + 1) // 2, products[0][0].shape[-1])
        rows = [
            jnp.stack([pixel.reshape(shape) for pixel in row], axis=3)
            for row in _both(OUTPUT, products)
        ]
        pixels = jnp.stack(rows, axis=2).reshape(shape[0], 2 * shape[1], 2 * shape[2], shape[3])
        return pixels[:, :height, :width].astype(x.dtype)

    size = _images_at_once(x.shape[0], height, width)
    if size == x.shape[0]:
        return part(x)
    y = lax.map(part, x.reshape(-1, size, *x.shape[1:]))
    return y.reshape(-1, *y.shape[2:])


def _correlate_to_kernel(x, gradient, margin):
    height, width = gradient.shape[1:3]
    spare = (height % 2, width % 2)
    spread = tuple(zip(*OUTPUT, strict=True))

    def part(x: jax.Array, gradient: jax.Array) -> list[list[jax.Array]]:
        gradient = jnp.pad(gradient, ((0, 0), *((0, more) for more in spare), (0, 0)))
        gradient = gradient.astype(jnp.float32)
        grid = [[gradient[:, i::2, j::2] for j in range(2)] for i in range(2)]
        return [
            [tile.T @ error.reshape(-1, error.shape[-1]) for tile, error in zip(*row, strict=True)]
            for row in zip(_tiles(x, margin, spare), _both(spread, grid), strict=True)
        ]

    size = _images_at_once(x.shape[0], height, width)
    if size == x.shape[0]:
        total = part(x, gradient)
    else:
        parts = [array.reshape(-1, size, *array.shape[1:]) for array in (x, gradient)]
        empty = jnp.zeros((x.shape[-1], gradient.shape[-1]), jnp.float32)
        total, _ = lax.scan(
            lambda total, part_of: (jax.tree.map(jnp.add, total, part(*part_of)), None),
            [[empty] * 4 for _ in range(4)],
            tuple(parts),
        )
    rows = _both(tuple(zip(*KERNEL, strict=True)), total)
    return jnp.stack([jnp.stack(row) for row in rows])


def _tiles(x, margin, spare):
    """Return the transformed 4 x 4 tiles of images, 4 by 4 of float32 [tiles, C]."""
    x = jnp.pad(x, ((0, 0), *((margin, margin + more) for more in spare), (0, 0)))
    x = x.astype(jnp.float32)
    ends = [size - 3 for size in x.shape[1:3]]
    grid = [[x[:, i : i + ends[0] : 2, j : j + ends[1] : 2] for j in range(4)] for i in range(4)]
    return [[tile.reshape(-1, x.shape[-1]) for tile in row] for row in _both(INPUT, grid)]


def _images_at_once(batch: int, height: int, width: int) -> int:
    """Return how many images to transform together; they divide the batch."""
    if jax.device_count() > 1:
        return batch  # a loop over images would gather a batch that is split over devices
    tiles = -(-height // 2) * -(-width // 2)
    fitting = range(1, min(batch, max(1, TILES // tiles)) + 1)
    return max((n for n in fitting if batch % n == 0), default=batch)


def _both(matrix: Sequence[Sequence[float]], grid: list[list[jax.Array]]):
    """Return matrix grid matrix', of a grid of arrays."""
    columns = [_combine(matrix, column) for column in zip(*grid, strict=True)]
    return [_combine(matrix, row) for row in zip(*columns, strict=True)]


def _combine(matrix: Sequence[Sequence[float]], arrays: Sequence[jax.Array]) -> list[jax.Array]:
    """Return the sums of arrays that the rows of a matrix weigh; zeros cost nothing."""
    sums = []
    for row in matrix:
        terms = [
            array if weight == 1 else -array if weight == -1 else array * np.float32(weight)
            for weight, array in zip(row, arrays, strict=True)
            if weight
        ]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        sums.append(total)
    return sums


def _margins(x, window, stride, padding):
    pads = lax.padtype_to_pads(x.shape[1:3], (window, window), (stride, stride), padding)
    return [tuple(int(side) for side in pair) for pair in pads]
