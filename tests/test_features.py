"""What the last dense layer reads: the logits are its product with the layer's weights."""

import jax
import numpy as np
import pytest

from xai_traffic.models import build
from xai_traffic.models.model import HEADS
from xai_traffic.training.inference import compile_features, compile_judge, judge_images


@pytest.mark.parametrize("family", ["vit", "xception", "cnn"])
def test_logits_are_the_head_of_the_features(family):
    model = build(family, 3, variant="debug")
    variables = model.init(jax.random.key(0))
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (5, 128, 128, 1), np.uint8)
    images[:, 32:] = 0
    (head,) = (variables["params"][name] for name in HEADS if name in variables["params"])
    features = compile_features(model)
    logits, read = judge_images(features, model, variables, images)
    assert logits.dtype == read.dtype == np.float32 and len(read) == 5
    product = read @ np.asarray(head["kernel"]) + np.asarray(head["bias"])
    np.testing.assert_allclose(product, logits, atol=1e-4)
    plain = judge_images(compile_judge(model), model, variables, images)
    np.testing.assert_allclose(logits, plain, atol=1e-5)
    nothing = judge_images(features, model, variables, images[:0])
    assert [part.shape for part in nothing] == [(0, 3), (0, read.shape[1])]
