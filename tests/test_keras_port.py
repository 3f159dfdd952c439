"""Xception and VGG-19 against keras.applications on Keras' JAX backend, at equal weights."""

import os
import unittest.mock
import warnings

os.environ["KERAS_BACKEND"] = "jax"

import jax
import numpy as np
import pytest

from xai_traffic.models import build
from xai_traffic.models.keras_port import from_keras, to_keras, weights_of

with warnings.catch_warnings():  # Keras' own imports deprecate themselves
    warnings.simplefilter("ignore")
    keras = pytest.importorskip("keras")

pytestmark = pytest.mark.filterwarnings(  # Keras' variables, when NumPy copies them
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def _draw(self, shape, dtype=None):
    """Stand in for Keras' initialisers, each of which compiles a generator of its own."""
    limit = np.sqrt(6 / (np.prod(shape[:-2]) * sum(shape[-2:])))
    return np.random.default_rng(len(shape)).uniform(-limit, limit, shape).astype("float32")


@pytest.fixture(scope="module", params=["xception", "vgg19"])
def pair(request):
    """Ours and Keras', every weight random, moving statistics too."""
    application = {
        "xception": keras.applications.Xception,
        "vgg19": keras.applications.VGG19,
    }[request.param]
    with unittest.mock.patch.object(keras.initializers.VarianceScaling, "__call__", _draw):
        theirs = application(
            weights=None, input_shape=(128, 128, 3), classes=19, classifier_activation=None
        )
    rng = np.random.default_rng(5)
    for layer in theirs.layers:
        arrays = layer.get_weights()
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights(
                [rng.uniform(0.5, 1.5, a.shape) for a in arrays[:1]]
                + [rng.normal(0, 0.2, a.shape) for a in arrays[1:3]]
                + [rng.uniform(0.5, 1.5, a.shape) for a in arrays[3:]]
            )
        elif len(arrays) == 2 and arrays[1].ndim == 1:  # a bias, which Keras starts at zero
            layer.set_weights([arrays[0], rng.normal(0, 0.1, arrays[1].shape)])
    return build(request.param, 19, channels=3), theirs


def test_logits_equal_those_of_keras(pair):
    model, theirs = pair
    abstract = jax.eval_shape(model.init, jax.random.key(0))
    variables = from_keras(model, theirs, abstract)
    assert jax.tree.structure(variables) == jax.tree.structure(abstract)
    grey = np.random.default_rng(6).integers(0, 256, (1, 128, 128, 1))
    colour = np.random.default_rng(7).integers(0, 256, (1, 128, 128, 3))
    images = np.concatenate([np.repeat(grey, 3, -1), colour]).astype(np.float32)
    ours = jax.jit(lambda v, x: model.apply(v, x)[0])(variables, images)
    trainable = [v.value for v in theirs.trainable_variables]
    fixed = [v.value for v in theirs.non_trainable_variables]
    expected = jax.jit(lambda x: theirs.stateless_call(trainable, fixed, x)[0])(images)
    assert np.ptp(expected) > 0.1  # else any two networks would agree
    np.testing.assert_allclose(ours, expected, rtol=1e-5, atol=1e-6)


def test_weights_go_back_unchanged(pair):
    model, theirs = pair
    there = weights_of(theirs)
    variables = from_keras(model, there, jax.eval_shape(model.init, jax.random.key(0)))
    back = to_keras(variables, there)
    assert [name for name, _ in back] == [name for name, _ in there]
    for (_, ours), (_, expected) in zip(back, there, strict=True):
        for one, other in zip(ours, expected, strict=True):
            np.testing.assert_array_equal(one, other)


def test_what_does_not_fit_is_named(pair):
    model, theirs = pair
    there = weights_of(theirs)
    abstract = jax.eval_shape(model.init, jax.random.key(0))
    with pytest.raises(ValueError, match="lack params of predictions"):
        from_keras(model, there[:-1], abstract)
    with pytest.raises(ValueError, match="in Keras"):
        narrow = jax.eval_shape(build(model.name, 7, channels=3).init, jax.random.key(0))
        from_keras(model, there, narrow)
    with pytest.raises(ValueError, match="no params predictions/kernel"):
        to_keras({"params": {**abstract["params"], "predictions": {}}}, there[-1:])
