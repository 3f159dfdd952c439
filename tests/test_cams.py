"""Class activation maps: their axioms, by hand, and against pytorch-grad-cam on shared weights."""

import types
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain import model_function
from xai_traffic.explain.methods import CAMS

RNG = np.random.default_rng(11)
SIDE = 4  # pixels of a cell
IMAGES = RNG.integers(0, 256, (3, 16, 24, 1)).astype(np.float32)
PARAMS = {
    "front": RNG.normal(size=(SIDE * SIDE, 5)).astype(np.float32),
    "places": RNG.normal(size=(4, 6, 5, 3)).astype(np.float32),
    "bias": np.array([0.5, -1.0, 2.0], np.float32),
}
WITHOUT_GRADIENTS = ("eigen_cam", "score_cam", "ablation_cam")
every_map = pytest.mark.parametrize("name", CAMS)
every_way = pytest.mark.parametrize("name", ["hires_cam", *WITHOUT_GRADIENTS])
"""One map of those that differ in a line only, and the others: every way through the code."""


def front(params, x, taps):
    """Return ReLU features of square cells, [B, h, w, 5]."""
    b, h, w, _ = x.shape
    cells = x.reshape(b, h // SIDE, SIDE, w // SIDE, SIDE).transpose(0, 1, 3, 2, 4)
    last = jax.nn.relu(cells.reshape(b, h // SIDE, w // SIDE, -1) / 255 @ params["front"])
    return last + (taps or {}).get("last", 0)


def linear(params, x, taps=None):
    """A weight for each place and channel behind the layer."""
    last = front(params, x, taps)
    return jnp.einsum("bhwc,hwck->bk", last, params["places"]) + params["bias"], {"last": last}


def pooled(params, x, taps=None):
    """Global average pooling and a linear head, as in Xception."""
    last = front(params, x, taps)
    return last.mean((1, 2)) @ params["places"][0, 0] + params["bias"], {"last": last}


def curved(params, x, taps=None):
    """Nothing linear about it."""
    last = front(params, x, taps)
    places = params["places"][: last.shape[1]]
    logits = jnp.einsum("bhwc,hwck->bk", jnp.sin(last) + last**2, places)
    return logits + params["bias"], {"last": last}


def tokens(params, x, taps=None):
    """`curved` on tokens; the class token in front only adds to the first logit."""
    grid = front(params, x, None)
    last = grid.reshape(grid.shape[0], -1, grid.shape[-1])
    last = jnp.concatenate([jnp.full_like(last[:, :1], 7.0), last], 1)
    last = last + (taps or {}).get("last", 0)
    inner = last[:, 1:].reshape(grid.shape)
    logits = jnp.einsum("bhwc,hwck->bk", jnp.sin(inner) + inner**2, params["places"])
    return (logits + params["bias"]).at[:, 0].add(last[:, 0].sum(-1)), {"last": last}


def on_grid(name, f, target=None, x=IMAGES, **options):
    """Return the signed map [B, h, w] itself, before it is laid over the image."""
    options = {"resize": "nearest", "positive": False, **options}
    return np.asarray(CAMS[name](f, PARAMS, x, target, **options))[:, ::SIDE, ::SIDE]


def gradients_and_values(f, target):
    values = f(PARAMS, IMAGES)[1]["last"]
    gradients = jax.grad(lambda tap: f(PARAMS, IMAGES, {"last": tap})[0][:, target].sum())(
        jnp.zeros_like(values)
    )
    return np.asarray(gradients), np.asarray(values)


@every_map
def test_shape_sign_and_names(name):
    result = CAMS[name](curved, PARAMS, IMAGES, 1)
    assert result.shape == (3, 16, 24) and result.dtype == jnp.float32
    assert 0 <= float(result.min()) < float(result.max())
    np.testing.assert_array_equal(
        result, explain.attribute(name, curved, PARAMS, IMAGES, 1).attributions
    )
    assert getattr(explain, name) is CAMS[name] and name in explain.METHODS
    # Nearest: signs are told apart before, cells are not blended.
    signed = on_grid(name, curved, 1)
    np.testing.assert_array_equal(np.maximum(signed, 0), on_grid(name, curved, 1, positive=True))


@every_map
def test_target_none_is_the_highest_logit(name):
    best = np.asarray(curved(PARAMS, IMAGES)[0]).argmax(1)
    np.testing.assert_array_equal(on_grid(name, curved), on_grid(name, curved, best))


@every_way
def test_the_memory_budget_changes_no_value(name):
    # Two examples at a time, one channel at a time; for one example, two channels at a time.
    one = model_function.bytes_an_example(curved, PARAMS, jnp.asarray(IMAGES))
    whole = on_grid(name, curved, 2)
    for x, expected in ((IMAGES, whole), (IMAGES[1:2], whole[1:2])):
        pieces = on_grid(name, curved, 2, x, memory_budget=2 * one)
        np.testing.assert_allclose(pieces, expected, rtol=2e-5, atol=1e-5)


@every_way
def test_nothing_lies_outside_the_extent(name):
    def first_rows(params, x, taps=None):
        return curved(params, x[:, :8], taps)

    result = np.asarray(CAMS[name](first_rows, PARAMS, IMAGES, 1, extent=(8, 24), positive=False))
    assert (result[:, 8:] == 0).all() and (result[:, :8] != 0).any()
    whole = CAMS[name](curved, PARAMS, IMAGES[:, :8], 1, positive=False)
    np.testing.assert_allclose(result[:, :8], whole, rtol=1e-4, atol=1e-5)


@every_way
def test_tokens_are_a_grid_behind_a_class_token(name):
    np.testing.assert_allclose(
        on_grid(name, tokens, 1), on_grid(name, curved, 1), rtol=1e-4, atol=1e-4
    )


@every_way
def test_a_second_batch_compiles_nothing(name):
    traced = 0

    def counted(params, x, taps=None):
        nonlocal traced
        traced += 1
        return curved(params, x, taps)

    on_grid(name, counted, memory_budget=4000)
    before = traced
    on_grid(name, counted, x=IMAGES + 1, memory_budget=4000)
    assert traced - before <= 2, "more than the shapes of logits and activations"


@every_way
def test_what_cannot_be_mapped_is_refused(name):
    with pytest.raises(ValueError, match="no activation 'first', only last"):
        CAMS[name](curved, PARAMS, IMAGES, layer="first")
    with pytest.raises(ValueError, match="images"):
        CAMS[name](curved, PARAMS, IMAGES[..., 0])
    with pytest.raises(ValueError, match="larger than the image"):
        CAMS[name](curved, PARAMS, IMAGES, extent=(64, 64))
    with pytest.raises(ValueError, match="choose one of"):
        CAMS[name](curved, PARAMS, IMAGES, resize="lanczos")
    with pytest.raises(TypeError, match="layers"):
        CAMS[name](curved, PARAMS, IMAGES, layers="last")

    def flat(params, x, taps=None):
        last = x[:, 0, :3, 0] + (taps or {}).get("last", 0)
        return last, {"last": last}

    with pytest.raises(ValueError, match="no grid"):
        CAMS[name](flat, PARAMS, IMAGES, 0)


@pytest.mark.parametrize("target", [0, 1, 2])
def test_behind_the_layer_linear_maps_sum_to_the_logit(target):
    for f, names in (
        (linear, ("hires_cam", "xgrad_cam")),
        (pooled, ("hires_cam", "xgrad_cam", "grad_cam")),
    ):
        contribution = np.asarray(f(PARAMS, IMAGES)[0])[:, target] - PARAMS["bias"][target]
        for name in names:
            np.testing.assert_allclose(
                on_grid(name, f, target).sum((1, 2)), contribution, rtol=1e-4, atol=1e-4
            )
    # HiResCAM even cell by cell, which no weight common to a channel's cells can do.
    own = np.einsum("bhwc,hwc->bhw", front(PARAMS, IMAGES, None), PARAMS["places"][..., target])
    np.testing.assert_allclose(on_grid("hires_cam", linear, target), own, rtol=1e-4, atol=1e-5)
    assert np.abs(on_grid("grad_cam", linear, target) - own).max() > 0.1


def test_xgrad_cam_keeps_its_axioms():
    gradients, values = gradients_and_values(curved, 1)
    conserved = (gradients * values).sum((1, 2, 3))
    np.testing.assert_allclose(on_grid("xgrad_cam", curved, 1).sum((1, 2)), conserved, rtol=1e-4)
    # Sensitivity: where f is linear behind the layer, the sums are what the logit loses without
    # each channel.
    whole = linear(PARAMS, IMAGES)[0][:, 1]
    lost = 0
    for channel in range(5):
        tap = -jnp.asarray(front(PARAMS, IMAGES, None)) * (jnp.arange(5) == channel)
        lost += whole - linear(PARAMS, IMAGES, {"last": tap})[0][:, 1]
    np.testing.assert_allclose(
        on_grid("xgrad_cam", linear, 1).sum((1, 2)), lost, rtol=1e-4, atol=1e-4
    )


def test_channels_that_are_zero_count_for_nothing():
    def darkened(params, x, taps=None):
        return curved({**params, "front": params["front"] * (np.arange(5) != 2)}, x, taps)

    x = np.concatenate([IMAGES[:1], 0 * IMAGES[:1]])
    for name in ("grad_cam_plus_plus", "xgrad_cam", *WITHOUT_GRADIENTS):
        result, nothing = on_grid(name, darkened, 1, x)
        assert np.isfinite(result).all() and (result != 0).any(), name
        assert (nothing == 0).all(), name


def test_layer_cam_and_grad_cam_plus_plus_by_hand():
    gradients, values = gradients_and_values(curved, 0)
    np.testing.assert_allclose(
        on_grid("layer_cam", curved, 0), (np.maximum(gradients, 0) * values).sum(-1), rtol=1e-4
    )
    below = 2 * gradients**2 + values.sum((1, 2), keepdims=True) * gradients**3
    alphas = np.where(gradients != 0, gradients**2 / np.where(below == 0, 1, below), 0)
    weights = (alphas * np.maximum(gradients, 0)).sum((1, 2), keepdims=True)
    np.testing.assert_allclose(
        on_grid("grad_cam_plus_plus", curved, 0), (weights * values).sum(-1), rtol=1e-4
    )


def test_the_scale_of_the_logits_does_not_choose_channels():
    for name in ("grad_cam", "hires_cam", "xgrad_cam", "layer_cam"):
        faint = {**PARAMS, "places": PARAMS["places"] * 1e-6}
        small = CAMS[name](curved, faint, IMAGES, 1)
        np.testing.assert_allclose(
            small * 1e6, CAMS[name](curved, PARAMS, IMAGES, 1), rtol=1e-3, atol=1e-3
        )


def test_eigen_cam_is_the_first_principal_component_of_any_class():
    values = np.asarray(front(PARAMS, IMAGES, None)).reshape(3, -1, 5)
    points = values - values.mean(1, keepdims=True)
    result = on_grid("eigen_cam", curved, 0).reshape(3, -1)
    for row in range(3):
        axis = np.linalg.svd(points[row])[2][0]
        expected = points[row] @ axis
        expected *= np.sign(expected[np.abs(expected).argmax()])
        np.testing.assert_allclose(result[row], expected, atol=1e-4)
    np.testing.assert_array_equal(result, on_grid("eigen_cam", curved, 2).reshape(3, -1))


def test_score_cam_by_hand():
    values = np.asarray(front(PARAMS, IMAGES, None))
    least, most = values.min((1, 2), keepdims=True), values.max((1, 2), keepdims=True)
    span = np.where(most == least, 1, most - least)
    masks = ((values - least) / span).repeat(SIDE, 1).repeat(SIDE, 2)
    logits = [curved(PARAMS, IMAGES * masks[..., k : k + 1])[0][:, 1] for k in range(5)]
    weights = np.asarray(jax.nn.softmax(jnp.stack(logits, 1), axis=1))
    np.testing.assert_allclose(
        on_grid("score_cam", curved, 1), np.einsum("bhwk,bk->bhw", values, weights), rtol=1e-4
    )


def test_ablation_cam_by_hand_and_on_negative_logits():
    values = np.asarray(front(PARAMS, IMAGES, None))
    for shift in (0, -1000):
        params = {**PARAMS, "bias": PARAMS["bias"] + np.float32(shift)}
        whole = np.asarray(curved(params, IMAGES)[0])[:, 1]
        without = [
            curved(params, IMAGES, {"last": -values * (np.arange(5) == k)})[0][:, 1]
            for k in range(5)
        ]
        weights = (whole[:, None] - np.stack(without, 1)) / np.abs(whole)[:, None]
        result = explain.ablation_cam(curved, params, IMAGES, 1, resize="nearest", positive=False)
        np.testing.assert_allclose(
            np.asarray(result)[:, ::SIDE, ::SIDE],
            np.einsum("bhwk,bk->bhw", values, weights),
            rtol=1e-3,
            atol=1e-4,
        )
        assert (whole < 0).all() == bool(shift)
        # What speaks for the target does so under a negative logit too.
        usual = on_grid("ablation_cam", curved, 1)
        assert ((np.asarray(result)[:, ::SIDE, ::SIDE] > 0) == (usual > 0)).mean() > 0.9


def test_ablation_runs_the_part_before_the_layer_once_for_all_channels():
    @jax.custom_batching.custom_vmap
    def inner(x):
        return x

    @inner.def_vmap
    def refuse(*_):
        raise AssertionError("run for each channel")

    # Memory is told by the residuals, so it must look differentiable too.
    wall = jax.custom_vjp(inner)
    wall.defvjp(lambda x: (inner(x), None), lambda _, gradient: (gradient,))

    def guarded(params, x, taps=None):
        return curved(params, wall(x), taps)

    np.testing.assert_allclose(
        on_grid("ablation_cam", guarded, 1), on_grid("ablation_cam", curved, 1), rtol=1e-6
    )


def test_maps_without_gradients_need_none():
    @jax.custom_vjp
    def wall(x):
        return x

    def refuse(*_):
        raise AssertionError("differentiated")

    # The forward rule is traced to learn how much memory an example takes; the backward one is not.
    wall.defvjp(lambda x: (x, None), refuse)

    def guarded(params, x, taps=None):
        logits, activations = curved(params, x, taps)
        return wall(logits), activations

    for name in WITHOUT_GRADIENTS:
        np.testing.assert_allclose(on_grid(name, guarded, 1), on_grid(name, curved, 1), rtol=1e-6)
    with pytest.raises(AssertionError, match="differentiated"):
        on_grid("hires_cam", guarded, 1)


def test_half_precision_activations():
    def half(params, x, taps=None):
        last = front(params, x, None).astype(jnp.bfloat16)
        if taps:
            assert taps["last"].dtype == jnp.bfloat16
            last = last + taps["last"]
        mean = last.astype(jnp.float32).mean((1, 2))
        return mean @ params["places"][0, 0] + params["bias"], {"last": last}

    for name in ("hires_cam", "ablation_cam"):
        found, full = on_grid(name, half, 1), on_grid(name, pooled, 1)
        assert found.dtype == np.float32
        np.testing.assert_allclose(found, full, atol=0.05 * np.abs(full).max())


# Against pytorch-grad-cam, with a small CNN written twice.

SHAPES = {"one": (3, 3, 2, 6), "two": (3, 3, 6, 8), "three": (1, 1, 8, 8), "head": (8 * 6 * 6, 4)}
WEIGHTS = {
    name: (RNG.normal(size=shape) / np.sqrt(np.prod(shape[:-1]))).astype(np.float32)
    for name, shape in SHAPES.items()
}
PICTURES = RNG.uniform(0, 1, (3, 12, 12, 2)).astype(np.float32)
LAYERS = {"early": 1, "last": 3}
"""Our names, and the places in torch's sequence: 12 x 12 and 6 x 6 cells."""


def cnn(params, x, taps=None):
    def convolve(value, kernel, stride):
        return jax.lax.conv_general_dilated(
            value,
            kernel,
            (stride, stride),
            [(kernel.shape[0] // 2,) * 2] * 2,
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
        )

    taps = taps or {}
    early = jax.nn.relu(convolve(x, params["one"], 1)) + taps.get("early", 0)
    last = jax.nn.relu(convolve(early, params["two"], 2)) + taps.get("last", 0)
    value = jnp.tanh(convolve(last, params["three"], 1))
    return value.reshape(x.shape[0], -1) @ params["head"], {"early": early, "last": last}


@pytest.fixture(scope="module")
def peer():
    """The peer's classes, and `torch_cnn(weights)`, which is `cnn` in torch."""
    with warnings.catch_warnings():  # their own imports deprecate themselves
        warnings.simplefilter("ignore")
        torch = pytest.importorskip("torch", reason="torch is not installed")
        theirs = pytest.importorskip("pytorch_grad_cam", reason="grad-cam is not installed")
        from pytorch_grad_cam.utils import svd_on_activations
        from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    def torch_cnn(weights):
        def convolution(name, stride):
            kernel = weights[name]
            made = torch.nn.Conv2d(
                *kernel.shape[2:], kernel.shape[0], stride, kernel.shape[0] // 2, bias=False
            )
            made.weight.data = torch.tensor(kernel.transpose(3, 2, 0, 1).copy())
            return made

        head = torch.nn.Linear(*weights["head"].shape, bias=False)
        # torch flattens channels first.
        rows = weights["head"].reshape(6, 6, 8, -1).transpose(2, 0, 1, 3)
        head.weight.data = torch.tensor(rows.reshape(8 * 6 * 6, -1).T.copy())
        return torch.nn.Sequential(
            convolution("one", 1),
            torch.nn.ReLU(),
            convolution("two", 2),
            torch.nn.ReLU(),
            convolution("three", 1),
            torch.nn.Tanh(),
            torch.nn.Flatten(),
            head,
        ).eval()

    return types.SimpleNamespace(
        torch=torch,
        classes={
            "grad_cam": theirs.GradCAM,
            "grad_cam_plus_plus": theirs.GradCAMPlusPlus,
            "hires_cam": theirs.HiResCAM,
            "xgrad_cam": theirs.XGradCAM,
            "layer_cam": theirs.LayerCAM,
            "eigen_cam": theirs.EigenCAM,
            "score_cam": theirs.ScoreCAM,
            "ablation_cam": theirs.AblationCAM,
        },
        torch_cnn=torch_cnn,
        svd=svd_on_activations,
        Target=ClassifierOutputTarget,
    )


def their_maps(peer, name, weights, layer, target):
    """Return the peer's maps [B, h, w] before its ReLU and normalisation, and its result."""
    model = peer.torch_cnn(weights)
    cam = peer.classes[name](model, [model[LAYERS[layer]]])
    raw = []
    inner = cam.get_cam_image

    def kept(*args):
        raw.append(inner(*args))
        return raw[-1]

    cam.get_cam_image = kept
    pictures = peer.torch.tensor(PICTURES.transpose(0, 3, 1, 2).copy())
    final = cam(pictures, [peer.Target(int(k)) for k in target])
    return raw[0], final


def close(ours, theirs):
    """Compare to 1e-4 of the largest value of each map."""
    ours = np.asarray(ours)
    largest = np.abs(theirs).max((1, 2), keepdims=True)
    assert (largest > 0).all()
    np.testing.assert_allclose(ours / largest, theirs / largest, atol=1e-4)


# The peer's epsilon of 1e-6 weighs down gradients below 0.1 in Grad-CAM++: hence the large head.
LOUD = {**WEIGHTS, "head": WEIGHTS["head"] * 100}


@pytest.mark.parametrize("layer", LAYERS)
@every_map
def test_parity(peer, name, layer, monkeypatch):
    weights = LOUD if name == "grad_cam_plus_plus" else WEIGHTS
    logits = np.asarray(cnn(weights, PICTURES)[0])
    np.testing.assert_allclose(
        logits,
        peer.torch_cnn(weights)(peer.torch.tensor(PICTURES.transpose(0, 3, 1, 2).copy())).detach(),
        rtol=1e-4,
        atol=1e-5 * np.abs(logits).max(),
    )
    if name == "score_cam":
        # It enlarges with aligned corners; ours takes half pixel centres, as its last step does.
        monkeypatch.setattr(
            peer.torch.nn,
            "UpsamplingBilinear2d",
            lambda size: peer.torch.nn.Upsample(size=size, mode="bilinear", align_corners=False),
        )
    if name == "eigen_cam":
        # It leaves the sign to the decomposition; its other projection has the sign that ours has.
        monkeypatch.setattr(
            "pytorch_grad_cam.eigen_cam.get_2d_projection",
            peer.svd.get_2d_projection_with_sign_correction,
        )
    best = logits.argmax(1)
    for target in (best, logits.argmin(1)):
        raw, final = their_maps(peer, name, weights, layer, target)
        if name == "ablation_cam":  # which divides by the logit, not by its magnitude
            chosen = np.take_along_axis(logits, target[:, None], 1)
            raw = raw * np.sign(chosen)[:, :, None]
        options = {"layer": layer, "resize": "bilinear"}
        if layer == "early":  # as large as the image
            close(CAMS[name](cnn, weights, PICTURES, target, positive=False, **options), raw)
            continue
        # Its result is ours, less its minimum and divided by its maximum.
        ours = np.asarray(CAMS[name](cnn, weights, PICTURES, target, **options))
        ours = ours - ours.min((1, 2), keepdims=True)
        largest = ours.max((1, 2), keepdims=True)
        told = (largest > 0)[:, 0, 0]
        if name == "ablation_cam":
            told &= chosen[:, 0] > 0
        assert told.any() or target is not best
        close(ours[told], (final * largest)[told])
        if name != "score_cam":  # whose `resize` counts for its masks too
            options = {"layer": layer, "resize": "nearest", "positive": False}
            close(
                np.asarray(CAMS[name](cnn, weights, PICTURES, target, **options))[:, ::2, ::2], raw
            )


def test_the_peers_eigen_cam_is_ours_up_to_the_sign(peer):
    target = np.zeros(3, int)
    raw, _ = their_maps(peer, "eigen_cam", WEIGHTS, "early", target)
    ours = np.asarray(explain.eigen_cam(cnn, WEIGHTS, PICTURES, 0, layer="early", positive=False))
    sign = np.sign((ours * raw).sum((1, 2), keepdims=True))
    close(ours * sign, raw)
