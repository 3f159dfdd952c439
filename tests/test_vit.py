"""The Vision Transformer: sizes of the study, numerics against NumPy, masks, taps, sharding."""

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from xai_traffic.errors import ConfigError
from xai_traffic.models import build, variants
from xai_traffic.models.encoding import encode
from xai_traffic.models.vit import sincos_positions


def _images(batch: int, packets: int, seed: int = 0) -> np.ndarray:
    """Bytes in the first packets, zeros after them."""
    tiles = np.zeros((batch, 64, 256), np.uint8)
    tiles[:, :packets] = np.random.default_rng(seed).integers(1, 256, (batch, packets, 256))
    grid = tiles.reshape(batch, 8, 8, 16, 16).transpose(0, 1, 3, 2, 4)
    return grid.reshape(batch, 128, 128, 1)


def test_seed_has_the_parameters_of_the_study():
    shapes = jax.eval_shape(build("vit", 19, channels=3).init, jax.random.key(0))["params"]
    assert round(sum(leaf.size for leaf in jax.tree.leaves(shapes)) / 1e6) == 397
    assert shapes["embedding"]["kernel"].shape == (768, 768)
    assert len([name for name in shapes if name.startswith("encoderblock_")]) == 12
    block = shapes["encoderblock_11"]
    assert block["attention"]["query"]["kernel"].shape == (768, 12, 768)
    assert block["mlp_0"]["kernel"].shape == (768, 3072)
    assert "pos_embedding" not in shapes


def test_usual_sizes():
    for variant, millions in (("ti", 5.40), ("s", 21.43), ("b", 85.32)):
        model = build("vit", 19, variant=variant)
        shapes = jax.eval_shape(model.init, jax.random.key(0))["params"]
        size = sum(leaf.size for leaf in jax.tree.leaves(shapes))
        assert size / 1e6 == pytest.approx(millions, abs=0.01)


@pytest.fixture(scope="module")
def small():
    """A tiny network of the seed's kind, with every parameter away from its start."""
    model = build("vit", 5, dim=8, depth=2, heads=2, head_dim=6, mlp_dim=12, packets=8)
    leaves, tree = jax.tree.flatten(jax.eval_shape(model.init, jax.random.key(0)))
    rng = np.random.default_rng(1)
    scale = [0.01 if leaf.shape[0] == 256 else 0.5 for leaf in leaves]
    arrays = [
        rng.normal(0, s, leaf.shape).astype("f4") for s, leaf in zip(scale, leaves, strict=True)
    ]
    return model, jax.tree.unflatten(tree, arrays), jax.jit(model.apply)


def test_numerics_equal_those_of_numpy(small):
    model, variables, apply = small
    images = _images(3, 8)
    logits, activations = apply(variables, images)
    expected, attention, last = _numpy_vit(variables["params"], images)
    np.testing.assert_allclose(logits, expected, rtol=1e-4, atol=1e-4)
    for number, probabilities in enumerate(attention):
        ours = activations[f"attention_{number:02d}"]
        assert ours.shape == (3, 2, 9, 9) and ours.dtype == jnp.float32
        np.testing.assert_allclose(ours, probabilities, rtol=1e-4, atol=1e-6)
        np.testing.assert_allclose(ours.sum(-1), 1, rtol=1e-5)
    assert activations["last"].shape == (3, 1, 8, 8)
    np.testing.assert_allclose(activations["last"][:, 0], last, rtol=1e-4, atol=1e-4)
    assert activations["block_01"].shape == (3, 9, 8)
    assert model.extent == (16, 128)


def _numpy_vit(params, images):
    """Return logits, attention probabilities and tile tokens before the last block."""
    p = jax.tree.map(lambda a: np.asarray(a, np.float64), params)
    erf = np.vectorize(math.erf)

    def norm(x, w):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x**2).mean(-1, keepdims=True) + 1e-6) * w["scale"] + w["bias"]

    tiles = np.stack([images[:, :16, 16 * k : 16 * k + 16].reshape(-1, 256) for k in range(8)], 1)
    x = tiles @ p["embedding"]["kernel"] + p["embedding"]["bias"]
    x = np.concatenate([np.broadcast_to(p["cls"], (len(x), 1, 8)), x], 1)
    position = np.arange(9)[:, None] / 10000 ** (np.arange(0, 8, 2) / 8)
    x[..., 0::2] += np.sin(position)
    x[..., 1::2] += np.cos(position)
    attention = []
    for number in range(2):
        last, block = x[:, 1:], p[f"encoderblock_{number}"]
        w, h = block["attention"], norm(x, block["LayerNorm_0"])
        q, k, v = (
            np.einsum("btd,dhe->bhte", h, w[n]["kernel"]) + w[n]["bias"][None, :, None]
            for n in ("query", "key", "value")
        )
        scores = np.exp(q @ k.swapaxes(-1, -2) / np.sqrt(6))
        attention.append(scores / scores.sum(-1, keepdims=True))
        x = x + np.einsum("bhte,hed->btd", attention[-1] @ v, w["out"]["kernel"]) + w["out"]["bias"]
        h = norm(x, block["LayerNorm_1"]) @ block["mlp_0"]["kernel"] + block["mlp_0"]["bias"]
        h = h * 0.5 * (1 + erf(h / np.sqrt(2)))
        x = x + h @ block["mlp_1"]["kernel"] + block["mlp_1"]["bias"]
    token = norm(x, p["encoder_norm"])[:, 0]
    return token @ p["head"]["kernel"] + p["head"]["bias"], attention, last


def test_gradient_at_a_zero_tap_is_that_at_the_activation(small):
    _, variables, apply = small
    images = _images(2, 8)
    rng = np.random.default_rng(2)
    names = ("stem", "last", "attention_01")
    activations = apply(variables, images)[1]
    zeros = {name: jnp.zeros_like(activations[name]) for name in names}

    @jax.jit
    def score(taps):
        return apply(variables, images, taps)[0][:, 3].sum()

    gradient = jax.grad(score)(zeros)
    for name in names:
        way = rng.normal(size=zeros[name].shape).astype("f4")
        up, down = (score({**zeros, name: s * 1e-2 * way}) for s in (1, -1))
        np.testing.assert_allclose((up - down) / 2e-2, (gradient[name] * way).sum(), rtol=2e-2)
    with pytest.raises(ValueError, match="name no activation"):
        apply(variables, images, {"block_07": jnp.zeros(())})


def test_empty_tiles_are_neither_attended_nor_averaged():
    model = build("vit", 4, variant="debug", zero_head=False)
    variables, apply = model.init(jax.random.key(0)), jax.jit(model.apply)
    images = _images(2, 5)
    logits, activations = apply(variables, images)
    attention = activations["attention_01"]
    assert model.extent == (32, 128) and attention.shape[-1] == 17
    np.testing.assert_array_equal(attention[..., 6:], 0)  # class token and five packets before
    assert (np.asarray(attention[..., :6]) > 0).all()
    stem = jnp.zeros_like(activations["stem"]).at[:, :, 5:].set(7.0).at[:, 1].set(7.0)
    np.testing.assert_allclose(apply(variables, images, {"stem": stem})[0], logits, rtol=1e-5)
    images[:, 40:] = 255  # outside the extent
    np.testing.assert_array_equal(apply(variables, images)[0], logits)


def test_training_draws_by_key_and_trains_at_zero_images():
    model = build("vit", 4, variant="debug", dropout=0.2, packets=8, zero_head=False)
    variables, images = model.init(jax.random.key(0)), _images(2, 3)
    step = jax.jit(model.apply_train)
    one, statistics = step(variables, images, jax.random.key(1))
    assert statistics == {}
    np.testing.assert_array_equal(one, step(variables, images, jax.random.key(1))[0])
    assert (one != step(variables, images, jax.random.key(2))[0]).any()
    assert np.isfinite(step(variables, 0 * images, jax.random.key(1))[0]).all()


def test_bfloat16_keeps_probabilities_and_logits_in_float32():
    model = build("vit", 3, variant="debug", dtype="bfloat16")
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert all(leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(shapes))
    logits, activations = jax.eval_shape(
        model.apply, shapes, jax.ShapeDtypeStruct((2, 128, 128, 1), jnp.uint8)
    )
    assert logits.dtype == activations["attention_00"].dtype == jnp.float32
    assert activations["last"].dtype == jnp.bfloat16


def test_batch_sharded_over_eight_devices_gives_the_same():
    model = build("vit", 4, variant="debug", packets=8, zero_head=False)
    variables, images = model.init(jax.random.key(0)), _images(16, 6)
    mesh = jax.make_mesh((8,), ("data",), axis_types=(AxisType.Auto,))
    split = jax.device_put(images, NamedSharding(mesh, PartitionSpec("data")))
    spread = jax.device_put(variables, NamedSharding(mesh, PartitionSpec()))
    apply = jax.jit(lambda v, x: model.apply(v, x)[0])
    np.testing.assert_allclose(apply(spread, split), apply(variables, images), rtol=1e-4, atol=1e-5)


def test_names_and_values_that_do_not_exist_are_refused():
    assert {"seed", "ti", "s", "b", "cpu", "debug"} <= set(variants("vit"))
    for change, message in (
        ({"name": "resnet"}, "model.name 'resnet'"),
        ({"variant": "huge"}, "model.variant 'huge'"),
        ({"patch": 8}, "no option patch"),
        ({"pool": "max"}, "pool 'max'"),
        ({"packets": 12}, "packets must be"),
        ({"dtype": "float64"}, "dtype 'float64'"),
        ({"num_classes": 1}, "at least two classes"),
    ):
        with pytest.raises(ConfigError, match=message):
            build(**{"name": "vit", "num_classes": 2, **change})
    with pytest.raises(ValueError, match="images must be"):
        build("vit", 2, variant="debug").apply({}, jnp.zeros((1, 28, 28, 1)))


def test_encodings_are_differentiable_and_tell_bytes_apart():
    values = jnp.arange(256.0)[:, None]
    np.testing.assert_array_equal(encode(values), values)
    scaled = encode(values, "scaled")
    assert (scaled.min(), scaled.max()) == (-1, 1)
    waves = encode(values, "fourier", 8)
    assert waves.shape == (256, 17)
    np.testing.assert_allclose(waves[:, 16], np.where(np.arange(256) % 2, -1, 1), atol=1e-3)
    slope = jax.grad(lambda v: encode(v, "fourier", 4).sum())(values)
    assert np.isfinite(slope).all() and (np.asarray(slope) != 0).any()
    assert sincos_positions(3, 4)[0].tolist() == [0, 1, 0, 1]
