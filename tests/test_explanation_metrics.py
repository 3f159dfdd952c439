"""Agreement, sparseness and randomisation: known answers, and padding that takes no part."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

from xai_traffic import explain

RNG = np.random.default_rng(0)


def test_spearman_is_that_of_scipy_and_leaves_padding_out():
    a, b = RNG.normal(size=(2, 3, 40)).round(1)
    keep = RNG.random((3, 40)) < 0.6
    expected = [stats.spearmanr(x[k], y[k]).statistic for x, y, k in zip(a, b, keep, strict=True)]
    np.testing.assert_allclose(explain.spearman(a, b, keep), expected, rtol=1e-12)
    padded = np.where(keep, b, 1e9)
    np.testing.assert_allclose(explain.spearman(a, padded, keep), expected, rtol=1e-12)


def test_spearman_of_a_constant_map_is_no_number():
    assert np.isnan(explain.spearman(np.ones((1, 5)), np.arange(5.0)[None]))[0]
    with pytest.raises(ValueError, match="one shape"):
        explain.spearman(np.ones((1, 5)), np.ones((1, 6)))


def test_top_k_counts_what_is_in_common():
    a = np.array([[5.0, -4, 3, 2, 1]])
    assert explain.top_k_overlap(a, a, 2) == [1.0]
    assert explain.top_k_overlap(a, a[:, ::-1], 2) == [0.0]
    assert explain.top_k_overlap(a, np.array([[0.0, 9, 8, 0, 0]]), 2) == [0.5]
    # A map without an order has its share of any top.
    np.testing.assert_allclose(explain.top_k_overlap(a, np.ones((1, 5)), 2), [2 / 5])
    assert explain.top_k_overlap(a, a[:, ::-1], 9) == [1.0]
    with pytest.raises(ValueError, match="at least one"):
        explain.top_k_overlap(a, a, 0)


def test_input_dependence_tells_one_map_for_all_from_maps_of_their_own():
    pattern = RNG.normal(size=500)
    same = pattern + 0.05 * RNG.normal(size=(6, 500))
    assert (explain.input_dependence(same) > 0.99).all()
    assert (np.abs(explain.input_dependence(RNG.normal(size=(6, 500)))) < 0.15).all()


def test_input_dependence_is_the_mean_of_numpys_correlations_where_both_have_values():
    maps, keep = RNG.normal(size=(4, 60)), RNG.random((4, 60)) < 0.7
    classes = np.array([0, 1, 1, 2])

    def by_hand(row, others):
        pairs = [(row, other, keep[row] & keep[other]) for other in others]
        return np.mean([np.corrcoef(maps[i][k], maps[j][k])[0, 1] for i, j, k in pairs])

    found = explain.input_dependence(np.where(keep, maps, 1e6), keep)
    expected = [by_hand(row, set(range(4)) - {row}) for row in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)
    found = explain.input_dependence(np.where(keep, maps, 1e6), keep, classes)
    expected = [by_hand(row, np.flatnonzero(classes != classes[row])) for row in range(4)]
    np.testing.assert_allclose(found, expected, rtol=1e-9)


def test_input_dependence_needs_another_map_that_varies():
    assert np.isnan(explain.input_dependence(np.ones((1, 4)))).all()
    assert np.isnan(explain.input_dependence(np.ones((3, 4)))).all()
    assert np.isnan(explain.input_dependence(RNG.normal(size=(2, 9)), apart=["a", "a"])).all()


def test_gini_is_0_of_equal_values_and_near_1_of_a_single_one():
    single = np.zeros((1, 100))
    single[0, 3] = -7
    np.testing.assert_allclose(explain.gini(np.full((1, 100), 2.0)), [0.0], atol=1e-12)
    np.testing.assert_allclose(explain.gini(single), [0.99])
    values = np.abs(RNG.normal(size=30))
    differences = np.abs(values[:, None] - values).sum() / (2 * 30**2 * values.mean())
    np.testing.assert_allclose(explain.gini(values[None]), [differences])
    assert np.isnan(explain.gini(np.zeros((1, 4))))[0]
    keep = np.arange(100)[None] < 10
    np.testing.assert_allclose(explain.gini(np.where(keep, 1.0, 0.0), keep), [0.0], atol=1e-12)


def two_layers(params, x):
    return jax.nn.relu(x @ params["first"]["kernel"]) @ params["head"]["kernel"]


PARAMS = {
    "first": {"kernel": jnp.asarray(RNG.normal(size=(12, 32)), jnp.float32)},
    "head": {"kernel": jnp.asarray(RNG.normal(size=(32, 2)), jnp.float32)},
}
X = jnp.asarray(RNG.normal(size=(8, 12)), jnp.float32)


def test_shuffled_parameters_keep_their_values_and_lose_their_places():
    drawn = explain.randomised(PARAMS, ["head"], jax.random.key(0))
    np.testing.assert_array_equal(drawn["first"]["kernel"], PARAMS["first"]["kernel"])
    before, after = PARAMS["head"]["kernel"], drawn["head"]["kernel"]
    assert not np.array_equal(before, after)
    np.testing.assert_array_equal(np.sort(before, None), np.sort(after, None))
    with pytest.raises(ValueError, match="no parameter begins with hea"):
        explain.randomised(PARAMS, ["hea"], jax.random.key(0))


@pytest.mark.parametrize(("noise", "draws"), [(0.0, 1), (0.1, 4)])
def test_explanations_of_the_model_change_with_it_and_those_of_the_input_do_not(noise, draws):
    def gradient(params, x):
        return explain.gradient(two_layers, params, x, 0)

    def edges(params, x):
        return x

    def likeness(explainer):
        steps = explain.cascading_randomisation(
            explainer, PARAMS, X, ["head", "first"], jax.random.key(1), noise=noise, draws=draws
        )
        return {layer: values.mean() for layer, values in steps}

    found = likeness(gradient)
    assert list(found) == ["head", "first"]
    assert found["first"] < 0.5
    assert likeness(edges) == {"head": pytest.approx(1.0), "first": pytest.approx(1.0)}


def test_complexity_rises_where_maps_lose_their_peaks():
    values = RNG.random((3, 50))
    keep = RNG.random((3, 50)) < 0.7
    params = {"layer": jnp.zeros(8).at[0].set(1.0)}

    def peaked(params, x):
        return np.where(params["layer"][0] == 1, np.asarray(x) ** 8, np.asarray(x))

    key = jax.random.key(3)
    assert (
        np.asarray(explain.randomised(params, ["layer"], jax.random.split(key)[0])["layer"])[0] == 0
    )
    found = explain.complexity_rise(peaked, params, values, ["layer"], key, keep=keep, bins=10)
    entropies = [
        [stats.entropy(np.histogram(m[k], 10)[0]) for m, k in zip(maps, keep, strict=True)]
        for maps in (values**8, values)
    ]
    np.testing.assert_allclose(found, np.divide(entropies[1], entropies[0]) - 1, rtol=1e-5)
    assert found.min() > 0
    blind = explain.complexity_rise(lambda p, x: x, params, values, ["layer"], key)
    np.testing.assert_allclose(blind, 0)
    flat = explain.complexity_rise(lambda p, x: x * 0, params, values, ["layer"], key)
    assert np.isnan(flat).all()
    with pytest.raises(ValueError, match="at least 2"):
        explain.complexity_rise(peaked, params, values, ["layer"], key, bins=1)


def test_explanations_of_labels_without_meaning_are_others():
    features = jax.random.normal(jax.random.key(0), (256, 20))
    truth = jnp.where(features[:, :3].sum(1) > 0, 1.0, -1.0)
    keep = np.ones((8, 20), bool)
    keep[:, 15:] = False

    def model(params, x):
        return jnp.tanh(x @ params["hidden"]) @ params["head"]

    def trained(labels):
        keys = jax.random.split(jax.random.key(1))
        params = {
            "hidden": jax.random.normal(keys[0], (20, 16)) * 0.2,
            "head": jax.random.normal(keys[1], (16, 1)) * 0.2,
        }

        def loss(params):
            return ((model(params, features)[:, 0] - labels) ** 2).mean()

        def step(params, _):
            return jax.tree.map(lambda a, g: a - 0.1 * g, params, jax.grad(loss)(params)), None

        return jax.lax.scan(step, params, length=400)[0]

    def gradients(params, x):
        return explain.gradient(model, params, x, 0)

    params = trained(truth)
    others = trained(jax.random.permutation(jax.random.key(2), truth))
    x = features[:8]
    same = explain.label_randomisation(gradients, params, params, x, keep=keep)
    np.testing.assert_allclose(same, 1)
    moved = explain.label_randomisation(gradients, params, others, x, keep=keep)
    assert moved.mean() < 0.5
    # What never looks at the model passes for what it is.
    blind = explain.label_randomisation(lambda p, v: v, params, others, x, keep=keep)
    np.testing.assert_allclose(blind, 1)
    expected = explain.spearman(
        *(np.abs(np.asarray(gradients(each, x))) for each in (params, others)), keep
    )
    np.testing.assert_allclose(moved, expected)
    with pytest.raises(ValueError, match="not of one model"):
        explain.label_randomisation(gradients, params, {"head": others["head"]}, x)
    with pytest.raises(ValueError, match="not of one model"):
        explain.label_randomisation(gradients, params, others | {"head": np.ones((3, 1))}, x)
