"""The models in Keras 3, on JAX or TensorFlow; `model_peers.py` chooses the backend before."""

from __future__ import annotations

from collections.abc import Callable
from importlib import metadata

import keras
import numpy as np
from keras import layers, ops
from model_cases import BenchModel, Sizes

SHAPE = (128, 128, 1)


def version() -> str:
    """Return the versions of Keras and what runs beneath it."""
    backend = keras.backend.backend()
    names = ("jax",) if backend == "jax" else ("tensorflow", "tensorflow-cpu")
    for name in names:
        try:
            return f"keras {keras.__version__}, {name} {metadata.version(name)}"
        except metadata.PackageNotFoundError:
            continue
    raise ImportError(f"no {names[0]}")


def build(bench: BenchModel, classes: int, dtype: str, what: str) -> tuple[keras.Model, int, str]:
    """Return a compiled model, its trained parameters, and where it comes from."""
    keras.utils.set_random_seed(0)
    keras.mixed_precision.set_global_policy("mixed_bfloat16" if dtype == "bfloat16" else "float32")
    if bench.sizes:
        model, note = vision_transformer(bench, bench.sizes, classes), "keras.layers"
    else:
        family = {"xception": keras.applications.Xception, "vgg19": keras.applications.VGG19}
        model = family[bench.family](
            weights=None, input_shape=SHAPE, classes=classes, classifier_activation=None
        )
        note = "keras.applications"
    model.compile(
        optimizer=keras.optimizers.SGD(1e-3),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    parameters = sum(int(np.prod(weight.shape)) for weight in model.trainable_weights)
    return model, parameters, note


def training(
    model: keras.Model, batch: int, classes: int, dtype: str
) -> tuple[Callable[[], object], Callable[[object], object]]:
    """Return a step of `train_on_batch`, and nothing to wait for: it returns the loss itself."""
    rng = np.random.default_rng(0)
    images = ops.convert_to_tensor(rng.integers(0, 256, (batch, *SHAPE)).astype("float32"))
    labels = ops.convert_to_tensor(rng.integers(0, classes, batch).astype("int32"))
    return lambda: model.train_on_batch(images, labels), float


def inference(
    model: keras.Model, batch: int, classes: int, dtype: str
) -> tuple[Callable[[], object], Callable[[object], object]]:
    """Return `predict_on_batch`, which returns arrays of the host."""
    rng = np.random.default_rng(0)
    images = ops.convert_to_tensor(rng.integers(0, 256, (batch, *SHAPE)).astype("float32"))
    return lambda: model.predict_on_batch(images), np.asarray


def peak() -> int | None:
    """Return the accelerator's peak memory in bytes, None on a CPU."""
    if keras.backend.backend() == "jax":
        import jax

        if jax.default_backend() == "cpu":
            return None
        return (jax.devices()[0].memory_stats() or {}).get("peak_bytes_in_use")
    import tensorflow as tf

    if not tf.config.list_physical_devices("GPU"):
        return None
    return tf.config.experimental.get_memory_info("GPU:0")["peak"]


class TokensBefore(layers.Layer):
    """Put a trained class token before tokens; add positions, learned or sines and cosines."""

    def __init__(self, learned: bool, **options):
        super().__init__(**options)
        self.learned = learned

    def build(self, shape):
        """Make the token, and positions where they are learned."""
        length, dim = shape[1] + 1, shape[2]
        self.first = self.add_weight(shape=(1, 1, dim), initializer="random_normal")
        if self.learned:
            self.positions = self.add_weight(shape=(1, length, dim), initializer="random_normal")
        else:
            angles = np.arange(length)[:, None] / 10000.0 ** (np.arange(0, dim, 2) / dim)
            waves = np.stack([np.sin(angles), np.cos(angles)], -1).reshape(1, length, dim)
            self.positions = waves.astype("float32")

    def call(self, x):
        """Return [B, T + 1, D] of [B, T, D]."""
        first = ops.repeat(ops.cast(self.first, x.dtype), ops.shape(x)[0], axis=0)
        x = ops.concatenate([first, x], axis=1)
        return x + ops.cast(self.positions, x.dtype)


def vision_transformer(bench: BenchModel, sizes: Sizes, classes: int) -> keras.Model:
    """Return the Vision Transformer as one writes it with Keras' own layers."""
    seed = bench.variant == "seed"
    images = x = keras.Input(SHAPE)
    if not seed:
        x = layers.Rescaling(1 / 255)(x)
    x = layers.Conv2D(sizes.dim, 16, 16)(x)
    x = layers.Reshape((64, sizes.dim))(x)
    x = TokensBefore(learned=not seed)(x)
    for _ in range(sizes.depth):
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.MultiHeadAttention(sizes.heads, sizes.head_dim)(y, y)
        x = x + y
        y = layers.LayerNormalization(epsilon=1e-6)(x)
        y = layers.Dense(sizes.mlp_dim, activation="gelu")(y)
        x = x + layers.Dense(sizes.dim)(y)
    x = layers.LayerNormalization(epsilon=1e-6)(x)
    logits = layers.Dense(classes, dtype="float32")(x[:, 0])
    return keras.Model(images, logits)
