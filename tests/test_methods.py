"""Every method by its name: on a linear model its order is known, and it says what it lacks."""

import dataclasses
import json

import numpy as np
import pytest
from scipy.stats import spearmanr

from xai_traffic import explain

RNG = np.random.default_rng(8)
LENGTHS = [40, 30, 50]
X = np.zeros((2, 128, 128, 1), np.float32)
for row in range(2):
    for place, length in enumerate(LENGTHS):
        tile = np.zeros(256)
        tile[:length] = RNG.integers(1, 256, length)
        X[row, :16, 16 * place : 16 * place + 16, 0] = tile.reshape(16, 16)
WEIGHTS = (RNG.normal(size=(128 * 128, 2)) / 100).astype(np.float32)


@dataclasses.dataclass
class Part:
    name: str
    start: int
    end: int


def session(lengths):
    """Three packets of fields of ten bytes."""
    return explain.session_groups(
        [[Part(f"f{k}", k, k + 10) for k in range(0, length, 10)] for length in lengths]
    )


GROUPS = {unit: np.stack([own, own]) for unit, own in session(LENGTHS).items()}
HELD = GROUPS["bytes"][..., 0] >= 0


def linear(params, x):
    return x.reshape(len(x), -1) @ params


def explained(method, **options):
    options = {"groups": GROUPS, "references": np.zeros_like(X[:1]), **options}
    return explain.attribute(method, linear, WEIGHTS, X, 1, **options)


def parts():
    return (X.reshape(2, -1) * WEIGHTS[:, 1]).reshape(2, 128, 128)


@pytest.mark.parametrize(
    "method",
    ["integrated_gradients", "gradient_x_input", "lrp_epsilon", "guided_ig", "expected_gradients"],
)
def test_bytes_of_a_linear_model_are_ranked_exactly(method):
    found = np.asarray(explained(method).attributions)
    for own, exact, held in zip(found, parts(), HELD, strict=True):
        np.testing.assert_array_equal(np.argsort(own[held]), np.argsort(exact[held]))


@pytest.mark.parametrize("method", ["gradient", "smooth_grad"])
def test_gradients_of_a_linear_model_are_its_weights(method):
    found = np.asarray(explained(method).attributions)
    np.testing.assert_allclose(
        found, np.tile(WEIGHTS[:, 1].reshape(128, 128), (2, 1, 1)), rtol=1e-4
    )


@pytest.mark.parametrize(
    ("method", "unit"),
    [
        ("occlusion", "fields"),
        ("owen_values", "fields"),
        ("kernel_shap", "packets"),
        ("rise", "packets"),
    ],
)
def test_players_of_a_linear_model_are_ranked_exactly(method, unit):
    found = np.asarray(explained(method).attributions, np.float64)
    for own, exact, groups in zip(found, parts(), GROUPS[unit][..., 0], strict=True):
        sums = [np.bincount(groups[groups >= 0], values[groups >= 0]) for values in (own, exact)]
        assert spearmanr(*sums).statistic == 1.0
        if method != "rise":
            np.testing.assert_allclose(*sums, atol=1e-4)
        assert (own[groups < 0] == 0).all()


def test_symmetric_bytes_get_the_same():
    weights, x = WEIGHTS.copy(), X.copy()
    weights[1], x[:, 0, 1] = weights[0], x[:, 0, 0]

    def curved(params, x):
        return linear(params, x) ** 2

    for method in ("integrated_gradients", "gradient", "lrp_epsilon", "guided_ig"):
        found = np.asarray(explain.attribute(method, curved, weights, x, 1).attributions)
        np.testing.assert_allclose(found[:, 0, 0], found[:, 0, 1], rtol=1e-4, err_msg=method)


def test_what_a_method_lacks_is_named():
    with pytest.raises(ValueError, match="session_groups"):
        explained("occlusion", groups=None)
    with pytest.raises(ValueError, match="name references"):
        explained("expected_gradients", references=None)
    with pytest.raises(ValueError, match="'magic' is unknown: choose one of integrated_gradients"):
        explained("magic")


def test_cards_of_many_sessions_catch_what_was_shuffled():
    """Of a hundred shuffled explanations of sessions of three packets, 95 or more do not pass."""
    x = np.tile(X[:1], (100, 1, 1, 1)) * RNG.uniform(0.5, 1, (100, 1, 1, 1)).astype(np.float32)
    groups = {unit: np.tile(own[:1], (100, 1, 1, 1)) for unit, own in GROUPS.items()}
    true = x[..., 0] * WEIGHTS[:, 1].reshape(128, 128)
    shuffled = true.copy()
    for own in shuffled:
        own[HELD[0]] = RNG.permutation(own[HELD[0]])
    found = {
        name: explain.Attribution(maps) for name, maps in (("true", true), ("shuffled", shuffled))
    }
    measured = explain.measure(linear, WEIGHTS, x, np.ones(100, np.int32), found, groups)
    grades = {
        name: [
            explain.card({metric: float(v[row]) for metric, v in own.items()}).grade
            for row in range(100)
        ]
        for name, own in measured.items()
    }
    assert grades["true"].count("PASS") == 100
    assert grades["shuffled"].count("PASS") <= 5, json.dumps(grades["shuffled"])
