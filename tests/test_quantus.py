"""Metrics against Quantus on shared weights, inputs and random draws, where it is there.

Where Quantus computes something else, the test says what and turns the one into the other. It
normalises attributions by the batch's largest and takes softmax by default: neither here.
"""

import itertools
import warnings

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain

pytestmark = pytest.mark.filterwarnings("ignore")  # what the peers deprecate is theirs

RNG = np.random.default_rng(21)
SIDE, CLASSES, TARGET = 8, 3, 1
PARAMS = {
    "first": {
        "kernel": RNG.normal(size=(3, 3, 1, 4)).astype("f4") * 0.6,
        "bias": RNG.normal(size=4).astype("f4") * 0.1,
    },
    "head": {
        "kernel": RNG.normal(size=(4 * 36, CLASSES)).astype("f4") * 0.3,
        "bias": RNG.normal(size=CLASSES).astype("f4") * 0.1,
    },
}
X = RNG.random((5, SIDE, SIDE, 1)).astype("f4")
X[:, 0, 0], X[:, 0, 1] = 0, 1  # the range of each is exactly 1
CHANNELS_FIRST = X.transpose(0, 3, 1, 2)
LABELS = np.full(len(X), TARGET)
PIXELS = np.arange(SIDE * SIDE).reshape(SIDE, SIDE, 1)
CLOSE = {"rtol": 1e-4, "atol": 1e-6}


def network(params, x):
    first, head = params["first"], params["head"]
    dimensions = ("NHWC", "HWIO", "NHWC")
    x = jax.lax.conv_general_dilated(x, first["kernel"], (1, 1), "VALID", None, None, dimensions)
    x = jnp.tanh(x + first["bias"])
    return x.reshape(len(x), -1) @ head["kernel"] + head["bias"]


def gradients(params, x):
    return explain.gradient(network, params, x, TARGET)


MAPS = np.asarray(gradients(PARAMS, X)) * X[..., 0]
SCORES = MAPS.reshape(len(X), -1)


@pytest.fixture(scope="module")
def quantus():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("quantus", exc_type=ImportError, reason="Quantus is not there")


@pytest.fixture(scope="module")
def torch():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("torch", exc_type=ImportError, reason="PyTorch is not there")


def loaded(torch, layer, params):
    """Write our weights of a layer into one of torch."""
    kernel = np.asarray(params["kernel"])
    if kernel.ndim == 4:
        kernel = kernel.transpose(3, 2, 0, 1)
    else:  # ours are flattened with channels last, torch's with channels first
        kernel = kernel.reshape(6, 6, 4, -1).transpose(2, 0, 1, 3).reshape(4 * 36, -1).T
    with torch.no_grad():
        layer.weight.copy_(torch.tensor(kernel.copy()))
        layer.bias.copy_(torch.tensor(np.asarray(params["bias"])))


@pytest.fixture(scope="module")
def net(torch):
    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.first = torch.nn.Conv2d(1, 4, 3)
            self.head = torch.nn.Linear(4 * 36, CLASSES)
            loaded(torch, self.first, PARAMS["first"])
            loaded(torch, self.head, PARAMS["head"])

        def forward(self, x):
            return self.head(torch.tanh(self.first(x)).flatten(1))

    net = Net().eval()
    with torch.no_grad():
        found = net(torch.tensor(CHANNELS_FIRST)).numpy()
    np.testing.assert_allclose(found, network(PARAMS, X), **CLOSE)
    return net


@pytest.fixture(scope="module")
def explained(torch):
    """Their side's explainer: the plain gradient, through torch."""

    def explain_func(model, inputs, targets, **_):
        x = torch.tensor(np.float32(inputs), requires_grad=True)
        logits = model(x)[torch.arange(len(x)), torch.tensor(targets)]
        return torch.autograd.grad(logits.sum(), x)[0].numpy()

    return explain_func


def scored(metric, net, maps=None, **options):
    maps = MAPS if maps is None else maps
    found = metric(
        model=net,
        x_batch=CHANNELS_FIRST.copy(),
        y_batch=LABELS,
        a_batch=np.float32(maps)[:, None],
        softmax=False,
        channel_first=True,
        **options,
    )
    return found


QUIET = {"disable_warnings": True, "normalise": False, "abs": False}


@pytest.mark.parametrize("features", [1, 4, 16])
def test_pixel_flipping_is_theirs_behind_the_first_point(quantus, net, features):
    # They leave the logit at x out. Their baseline "black" is the least value of the image as it
    # is being flipped: 0 here, as ours.
    theirs = quantus.PixelFlipping(features_in_step=features, perturb_baseline="black", **QUIET)
    steps = SIDE * SIDE // features
    ours = explain.pixel_flipping(network, PARAMS, X, PIXELS, SCORES, TARGET, steps=steps)
    np.testing.assert_allclose(np.stack(ours)[:, 1:], scored(theirs, net), **CLOSE)
    whole = explain.deletion_curves(
        network, PARAMS, X, PIXELS, SCORES, TARGET, steps=steps, draws=1
    )
    np.testing.assert_allclose(np.stack(whole.deletion)[:, 1:], scored(theirs, net), **CLOSE)


def test_sensitivity_n_is_their_faithfulness_correlation(quantus, net, monkeypatch):
    runs, size = 40, 10
    drawn = explain.random_subsets(SIDE * SIDE, size, runs, seed=4)
    # They draw anew for each example, in a loop over runs and then examples.
    places = itertools.chain.from_iterable([np.flatnonzero(own)] * len(X) for own in drawn)
    monkeypatch.setattr(np.random, "choice", lambda *_, **__: next(places))
    theirs = quantus.FaithfulnessCorrelation(
        nr_runs=runs, subset_size=size, perturb_baseline=0.0, return_aggregate=False, **QUIET
    )
    ours = explain.sensitivity_n(
        network, PARAMS, X, PIXELS, SCORES, [size], TARGET, samples=runs, seed=4
    )
    np.testing.assert_allclose(ours[:, 0], scored(theirs, net), **CLOSE)


def test_their_sensitivity_n_is_no_sensitivity_n(quantus, net):
    # It takes pixels away by rank and not at random, sums the attributions of the last step alone
    # against the fall since the start, and correlates over the examples of the batch: a number for
    # each step. It follows from our deletion curves.
    theirs = quantus.SensitivityN(
        features_in_step=4, n_max_percentage=0.8, perturb_baseline=0.0, return_aggregate=False,
        **QUIET,
    )  # fmt: skip
    curves = np.stack(explain.pixel_flipping(network, PARAMS, X, PIXELS, SCORES, TARGET, steps=16))
    falls, sums = curves[:, :1] - curves[:, 1:], -np.sort(-SCORES, 1).reshape(5, 16, 4).sum(2)
    expected = [np.corrcoef(falls[:, n], sums[:, n])[0, 1] for n in range(12)]
    np.testing.assert_allclose(scored(theirs, net), expected, rtol=1e-3, atol=1e-5)


def test_infidelity_is_theirs_for_patches_that_go_one_after_another(quantus, net):
    # Theirs has no random draw with a constant baseline: patch after patch goes and none comes
    # back, so the perturbations of a round are x on more and more patches.
    theirs = quantus.Infidelity(
        perturb_patch_sizes=[4], n_perturb_samples=2, perturb_baseline=0.0, **QUIET
    )
    patches = np.repeat(np.repeat(np.arange(4).reshape(2, 2), 4, 0), 4, 1)[..., None]
    count = itertools.count()
    maps = np.asarray(gradients(PARAMS, X))
    ours = explain.infidelity(
        *(network, PARAMS, X, maps, TARGET),
        rng=jax.random.key(0),
        perturbation=lambda _, x: jnp.where(patches <= next(count), x, 0.0),
        draws=4,
    )
    np.testing.assert_allclose(ours, scored(theirs, net, maps), **CLOSE)


def test_max_sensitivity_is_theirs(quantus, net, explained, monkeypatch):
    key, draws, radius = jax.random.key(8), 6, 0.1
    moves = iter(
        np.asarray(
            jax.random.uniform(jax.random.fold_in(key, n), X.shape, minval=-radius, maxval=radius)
        ).reshape(len(X), -1)
        for n in range(draws)
    )
    monkeypatch.setattr(np.random, "uniform", lambda *_, **__: next(moves))
    theirs = quantus.MaxSensitivity(nr_samples=draws, lower_bound=radius, **QUIET)
    maps = np.asarray(gradients(PARAMS, X))
    found = scored(theirs, net, maps, explain_func=explained)
    ours = explain.max_sensitivity(gradients, PARAMS, X, rng=key, radius=radius, draws=draws)
    np.testing.assert_allclose(ours, found, **CLOSE)


def test_gini_is_their_sparseness(quantus, net):
    # They add 1e-7 to each value.
    theirs = quantus.Sparseness(abs=True, normalise=True, disable_warnings=True)
    np.testing.assert_allclose(explain.gini(MAPS), scored(theirs, net), **CLOSE)


def test_their_completeness_is_whether_our_error_is_nothing(quantus, torch):
    # Theirs is a bool of equal floats; whole numbers have no rounding.
    weights = np.float32(RNG.integers(-3, 4, (SIDE * SIDE, 2)))

    class Linear(torch.nn.Module):
        def forward(self, x):
            return x.flatten(1) @ torch.tensor(weights)

    x = np.float32(RNG.integers(0, 9, X.shape))
    maps = x[..., 0] * weights[:, 1].reshape(SIDE, SIDE)
    maps[3:, 2, 2] += 1
    found = quantus.Completeness(perturb_baseline=0.0, **QUIET)(
        model=Linear().eval(), x_batch=x.transpose(0, 3, 1, 2), y_batch=LABELS,
        a_batch=maps[:, None], softmax=False, channel_first=True,
    )  # fmt: skip
    error, _ = explain.completeness_error(
        lambda params, x: x.reshape(len(x), -1) @ params, weights, x, maps, 1
    )
    np.testing.assert_array_equal(error, [0, 0, 0, 1, 1])
    np.testing.assert_array_equal(np.asarray(found), error == 0)


def test_road_imputes_and_counts_as_theirs(quantus, net, monkeypatch):
    shares = (0.1, 0.25, 0.5, 0.75)
    noise, seed = 0.05, 3
    field = np.random.Generator(np.random.Philox(seed)).normal(size=SIDE * SIDE)
    order = np.argsort(-SCORES, 1)
    drawn = iter(field[order[:, : int(s * 64)]][row] for s in shares for row in range(len(X)))
    monkeypatch.setattr(np.random, "randn", lambda *shape: next(drawn).reshape(shape))
    seen, peer = [], quantus.helpers.model.pytorch_model.PyTorchModel
    predict = peer.predict
    monkeypatch.setattr(
        peer, "predict", lambda own, x, **rest: seen.append(x) or predict(own, x, **rest)
    )
    theirs = quantus.ROAD(percentages=[100 * s for s in shares], noise=noise, **QUIET)
    # The accuracy against what the model says of x: theirs against the labels.
    verdicts = np.asarray(network(PARAMS, X)).argmax(1)
    found = theirs(
        model=net, x_batch=CHANNELS_FIRST, y_batch=verdicts, a_batch=MAPS[:, None], softmax=False,
        channel_first=True,
    )  # fmt: skip
    ours = explain.road(network, PARAMS, X, MAPS, verdicts, shares=shares, noise=noise, seed=seed)
    np.testing.assert_allclose(ours.accuracy()[0], list(found.values()))
    rows = np.arange(len(X))
    looked_at = [np.float32(x).transpose(0, 2, 3, 1) for x in seen]
    logits = [np.asarray(network(PARAMS, x))[rows, verdicts] for x in looked_at]
    np.testing.assert_allclose(ours.most_first, np.stack(logits, 1), **CLOSE)


@pytest.fixture
def shuffled_as_ours(torch, net, monkeypatch):
    """Let their layers be drawn anew as ours are: shuffled, by a key."""

    def patch(key):
        names = ["params/head", "params/first"]
        drawn = explain.randomised({"params": PARAMS}, names, key)["params"]
        for name, kind in (("first", torch.nn.Conv2d), ("head", torch.nn.Linear)):
            monkeypatch.setattr(
                kind, "reset_parameters", lambda own, name=name: loaded(torch, own, drawn[name])
            )

    return patch


LAYERS = ["params/head", "params/first"]


def layered(params, x):
    return gradients(params["params"], x)


def test_cascading_randomisation_is_their_mprt(quantus, net, explained, shuffled_as_ours):
    # They draw by each layer's initialiser; with the same draws the likeness is the same.
    key = jax.random.key(2)
    shuffled_as_ours(jax.random.split(key)[0])
    theirs = quantus.MPRT(layer_order="top_down", disable_warnings=True, abs=True, normalise=True)
    found = theirs(
        model=net, x_batch=CHANNELS_FIRST, y_batch=LABELS, a_batch=None, explain_func=explained,
        softmax=False, channel_first=True,
    )  # fmt: skip
    np.testing.assert_allclose(found["original"], 1)
    ours = dict(explain.cascading_randomisation(layered, {"params": PARAMS}, X, LAYERS, key))
    for layer in ("head", "first"):
        np.testing.assert_allclose(ours[f"params/{layer}"], found[layer], **CLOSE)


def test_the_smooth_form_is_their_smooth_mprt(
    quantus, net, explained, shuffled_as_ours, monkeypatch
):
    # Their last copy has no noise, and they draw anew for each model, we do not. So they are handed
    # our noise for each model again, and ours is made nothing at the last copy.
    key, draws, noise = jax.random.key(5), 4, 0.1
    layers, shake = jax.random.split(key)
    shuffled_as_ours(layers)
    own = [
        np.asarray(jax.random.normal(jax.random.fold_in(shake, n), X.shape)).transpose(0, 3, 1, 2)
        for n in range(draws - 1)
    ]
    drawn = itertools.cycle(own)
    monkeypatch.setattr(np.random, "randn", lambda *_: next(drawn))
    normal = jax.random.normal
    last = jax.random.key_data(jax.random.fold_in(shake, draws - 1))
    monkeypatch.setattr(
        jax.random,
        "normal",
        lambda k, *rest: normal(k, *rest) * float((jax.random.key_data(k) != last).any()),
    )
    theirs = quantus.SmoothMPRT(
        nr_samples=draws, noise_magnitude=noise, layer_order="top_down", disable_warnings=True
    )
    monkeypatch.setattr(quantus, "explain", explained)
    found = theirs(
        model=net, x_batch=CHANNELS_FIRST, y_batch=LABELS, a_batch=None, explain_func=explained,
        softmax=False, channel_first=True,
    )  # fmt: skip
    ours = dict(
        explain.cascading_randomisation(
            layered, {"params": PARAMS}, X, LAYERS, key, noise=noise, draws=draws
        )
    )
    for layer in ("head", "first"):
        np.testing.assert_allclose(ours[f"params/{layer}"], found[layer], **CLOSE)


def test_complexity_rise_is_their_efficient_mprt(quantus, net, explained, shuffled_as_ours):
    # Softmax is for the entropy of the model's output, which they report beside it: gradients are
    # of the model as it is.
    key = jax.random.key(9)
    shuffled_as_ours(jax.random.split(key)[0])
    theirs = quantus.EfficientMPRT(
        layer_order="top_down", complexity_func_kwargs={"n_bins": 20}, **QUIET
    )
    found = theirs(
        model=net, x_batch=CHANNELS_FIRST, y_batch=LABELS, a_batch=None, explain_func=explained,
        softmax=True, channel_first=True,
    )  # fmt: skip
    ours = explain.complexity_rise(layered, {"params": PARAMS}, X, LAYERS, key, bins=20)
    np.testing.assert_allclose(ours, found, **CLOSE)


def test_top_k_overlap_with_a_mask_of_k_is_their_intersection(quantus, net):
    mask = RNG.permuted(np.arange(64)[None].repeat(5, 0), axis=1).reshape(5, SIDE, SIDE) < 12
    theirs = quantus.TopKIntersection(k=12, abs=True, normalise=False, disable_warnings=True)
    found = scored(theirs, net, s_batch=mask[:, None])
    np.testing.assert_allclose(explain.top_k_overlap(MAPS, np.float64(mask), 12), found, **CLOSE)
