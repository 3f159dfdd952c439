"""Relevance propagation against captum, zennit and LXT on shared weights, where they are there."""

import warnings

import jax
import numpy as np
import pytest
from jax import lax
from transformer_block import DIM, HEADS, block, draw

from xai_traffic import explain

pytestmark = pytest.mark.filterwarnings("ignore")  # what the peers deprecate is theirs

RNG = np.random.default_rng(3)
CONV = (RNG.normal(size=(3, 3, 2, 8)) * 0.3).astype(np.float32)
CONV_BIAS = (RNG.normal(size=8) * 0.2).astype(np.float32)
DENSE = (RNG.normal(size=(3 * 3 * 8, 6)) * 0.3).astype(np.float32)
DENSE_BIAS = (RNG.normal(size=6) * 0.2).astype(np.float32)
HEAD = RNG.normal(size=(6, 3)).astype(np.float32)
HEAD_BIAS = RNG.normal(size=3).astype(np.float32)
PARAMS = (CONV, CONV_BIAS, DENSE, DENSE_BIAS, HEAD, HEAD_BIAS)
BARE = tuple(value * (value.ndim > 1) for value in PARAMS)
X = RNG.normal(size=(4, 8, 8, 2)).astype(np.float32)


def peer(name):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip(name, exc_type=ImportError)


def network(params, x):
    conv, conv_bias, dense, dense_bias, head, head_bias = params
    x = lax.conv_general_dilated(
        x, conv, (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    x = jax.nn.relu(x + conv_bias)
    x = lax.reduce_window(x, -np.inf, lax.max, (1, 2, 2, 1), (1, 2, 2, 1), "VALID")
    x = jax.nn.relu(x.reshape(len(x), -1) @ dense + dense_bias)
    return x @ head + head_bias


def torch_network(params):
    torch = peer("torch")
    nn, place = torch.nn, lambda value: torch.nn.Parameter(torch.tensor(value))  # noqa: E731
    conv, conv_bias, dense, dense_bias, head, head_bias = params
    model = nn.Sequential(
        nn.Conv2d(2, 8, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
        nn.Linear(72, 6), nn.ReLU(), nn.Linear(6, 3),
    )  # fmt: skip
    model[0].weight, model[0].bias = place(conv.transpose(3, 2, 0, 1).copy()), place(conv_bias)
    # Flattened by channel first there.
    order = dense.reshape(3, 3, 8, 6).transpose(2, 0, 1, 3).reshape(72, 6)
    model[4].weight, model[4].bias = place(order.T.copy()), place(dense_bias)
    model[6].weight, model[6].bias = place(head.T.copy()), place(head_bias)
    return model.eval()


def best(params, x):
    return np.asarray(network(params, x)).argmax(1)


def assert_close(ours, theirs):
    scale = np.abs(theirs).max()
    np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5 * scale)


CAPTUM = {
    "epsilon": ("EpsilonRule", {}, {}, PARAMS, X),
    # captum leaves biases as they are where it changes the weights, and its formulas are those of
    # inputs that are not negative: there, and without biases, it is the same.
    "gamma": ("GammaRule", {"gamma": 0.25}, {"gamma": 0.25}, BARE, np.abs(X)),
    "alpha_beta": ("Alpha1_Beta0_Rule", {}, {"alpha": 1, "beta": 0}, BARE, np.abs(X)),
}


@pytest.mark.parametrize("rule", CAPTUM)
def test_captums_rules_are_ours(rule):
    torch, attr = peer("torch"), peer("captum.attr")
    rules = peer("captum.attr._utils.lrp_rules")
    name, theirs, own, params, x = CAPTUM[rule]
    target = best(params, x)
    assert np.asarray(network(params, x)).max(1).min() > 0
    model = torch_network(params)
    for place in (0, 4, 6):
        model[place].rule = getattr(rules, name)(**theirs)
    model[3].rule = rules.EpsilonRule()
    found = attr.LRP(model).attribute(
        torch.tensor(x.transpose(0, 3, 1, 2).copy()), target=torch.tensor(target)
    )
    ours = explain.lrp(network, params, x, target, rule=rule, epsilon=1e-9, **own)
    assert_close(ours.attributions, found.detach().numpy().sum(1))


ZENNIT = {
    "epsilon": ("Epsilon", {"epsilon": 1e-3}, {"epsilon": 1e-3}),
    "gamma": ("Gamma", {"gamma": 0.5, "stabilizer": 1e-6}, {"gamma": 0.5}),
    "alpha_beta": ("AlphaBeta", {"alpha": 2, "beta": 1, "stabilizer": 1e-6}, {}),
}


@pytest.mark.parametrize("rule", ZENNIT)
def test_zennits_rules_are_ours_with_biases_and_signed_inputs(rule):
    torch, rules = peer("torch"), peer("zennit.rules")
    composites, attribution = peer("zennit.composites"), peer("zennit.attribution")
    name, theirs, own = ZENNIT[rule]
    target = best(PARAMS, X)
    model = torch_network(PARAMS)
    layers = [((torch.nn.Conv2d, torch.nn.Linear), getattr(rules, name)(**theirs))]
    layers += [((torch.nn.ReLU,), rules.Pass())]
    composite = composites.LayerMapComposite(layer_map=layers)
    given = torch.tensor(X.transpose(0, 3, 1, 2).copy(), requires_grad=True)
    with attribution.Gradient(model=model, composite=composite) as attributor:
        # zennit hands down what it is given at the output: the logit of the target.
        logits = np.asarray(network(PARAMS, X)) * np.eye(3)[target]
        _, found = attributor(given, torch.tensor(logits, dtype=torch.float32))
    ours = explain.lrp(network, PARAMS, X, target, rule=rule, **own)
    assert_close(ours.attributions, found.detach().numpy().sum(1))


def test_lxts_attnlrp_is_ours():
    torch, rules = peer("torch"), peer("lxt.efficient.rules")
    weights, x = draw()
    params = {name: torch.tensor(value) for name, value in weights.items()}

    def norm(x, place):
        centred = x - x.mean(-1, keepdim=True)
        size = torch.sqrt((centred**2).mean(-1, keepdim=True) + 1e-6)
        return (
            centred / rules.stop_gradient(size) * params[f"scale_{place}"]
            + params[f"shift_{place}"]
        )

    def heads(x):
        return x.reshape(*x.shape[:2], HEADS, -1).transpose(1, 2)

    given = torch.tensor(x, requires_grad=True)
    y = norm(given, 0)
    query, key, value = (heads(y @ params[name]) for name in ("query", "key", "value"))
    scores = rules.divide_gradient(query @ key.transpose(-1, -2), 2) / np.sqrt(DIM // HEADS)
    mixed = rules.divide_gradient(torch.softmax(scores, -1) @ value, 2)
    z = given + mixed.transpose(1, 2).reshape(x.shape) @ params["out"] + params["bias"]
    y = norm(z, 1) @ params["up"] + params["up_bias"]
    z = z + rules.identity_rule_implicit(torch.nn.functional.gelu, y) @ params["down"]
    logits = z[:, 0] @ params["head"]
    logits[:, 1].sum().backward()

    np.testing.assert_allclose(block(weights, x), logits.detach(), rtol=1e-4, atol=1e-5)
    ours = explain.attn_lrp(block, weights, x, 1, epsilon=1e-12)
    assert_close(ours.attributions, (given.grad * given).detach().numpy())
