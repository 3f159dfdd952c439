"""Gradients and the ground under all explainers, on functions whose gradient is known by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from xai_traffic import explain
from xai_traffic.explain.model_function import bytes_an_example, examples_at_once, map_batches

RNG = np.random.default_rng(0)


def quadratic(params, x):
    """Logits sum(w_k x^2): the gradient is 2 w_k x."""
    return jnp.einsum("khwc,bhwc->bk", params, x**2)


IMAGES = (RNG.normal(size=(5, 6, 4, 3)) ** 3).astype(np.float32)
WEIGHTS = RNG.normal(size=(3, 6, 4, 3)).astype(np.float32)


def test_gradient_is_the_one_by_hand():
    target = np.array([0, 2, 1, 1, 0], np.int32)
    expected = (2 * WEIGHTS[target] * IMAGES).sum(-1)
    result = explain.gradient(quadratic, WEIGHTS, IMAGES, target)
    assert result.dtype == jnp.float32
    np.testing.assert_allclose(result, expected, rtol=1e-5, atol=1e-6)
    times_input = (2 * WEIGHTS[target] * IMAGES**2).sum(-1)
    result = explain.gradient_x_input(quadratic, WEIGHTS, IMAGES, target)
    np.testing.assert_allclose(result, times_input, rtol=1e-5, atol=1e-6)


def test_no_target_means_the_highest_logit():
    # Each example strongest in another place, so that the classes differ.
    best = np.asarray(quadratic(WEIGHTS, IMAGES)).argmax(1)
    assert len(set(best)) > 1
    np.testing.assert_array_equal(
        explain.gradient(quadratic, WEIGHTS, IMAGES),
        explain.gradient(quadratic, WEIGHTS, IMAGES, best.astype(np.int32)),
    )


def test_one_target_serves_all_examples():
    np.testing.assert_array_equal(
        explain.gradient(quadratic, WEIGHTS, IMAGES, 1),
        explain.gradient(quadratic, WEIGHTS, IMAGES, np.full(5, 1, np.int32)),
    )


def test_other_shapes_keep_their_shape():
    linear = lambda params, x: x @ params  # noqa: E731
    params = RNG.normal(size=(7, 2)).astype(np.float32)
    x = RNG.normal(size=(3, 7)).astype(np.float32)
    result = explain.gradient(linear, params, x, 1)
    np.testing.assert_allclose(result, np.tile(params[:, 1], (3, 1)))


def test_whole_numbers_are_explained_as_such():
    bytes_ = RNG.integers(0, 256, (2, 6, 4, 3), dtype=np.uint8)
    np.testing.assert_array_equal(
        explain.gradient(quadratic, WEIGHTS, bytes_, 0),
        explain.gradient(quadratic, WEIGHTS, bytes_.astype(np.float32), 0),
    )


def test_small_memory_gives_the_same_values():
    whole = explain.gradient(quadratic, WEIGHTS, IMAGES, None)
    pieces = explain.gradient(quadratic, WEIGHTS, IMAGES, None, memory_budget=1)
    assert examples_at_once(quadratic, WEIGHTS, jnp.asarray(IMAGES), 1) == 1
    np.testing.assert_allclose(whole, pieces, rtol=1e-6)


def test_memory_of_an_example_leaves_the_parameters_out():
    # x and x**2 are of image size; the 3 weight images must not count.
    kept = bytes_an_example(quadratic, WEIGHTS, jnp.asarray(IMAGES))
    assert IMAGES[0].nbytes <= kept <= 3 * IMAGES[0].nbytes


def test_pieces_are_equal_and_joined_in_order():
    sizes = []

    def kernel(x):
        sizes.append(len(x))
        return {"double": 2 * x}

    result = map_batches(kernel, 4, jnp.arange(9.0))
    assert sizes == [3, 3, 3]
    np.testing.assert_array_equal(result["double"], 2 * np.arange(9.0))
    sizes.clear()
    assert map_batches(kernel, 3, jnp.arange(7.0))["double"].shape == (7,)
    assert sizes == [3, 3, 3]


def test_the_same_function_compiles_once():
    traced = 0

    def counted(params, x):
        nonlocal traced
        traced += 1
        return quadratic(params, x)

    explain.gradient(counted, WEIGHTS, IMAGES, 1)
    before = traced
    explain.gradient(counted, WEIGHTS + 1, IMAGES + 1, 2)
    # Only the count of classes is looked up again, by abstract evaluation.
    assert traced - before <= 1
    assert before > 1


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (3, r"0\.\.2"),
        (-1, r"0\.\.2"),
        (np.zeros(4, np.int32), "5 examples"),
        (np.zeros(5, np.float32), "integers"),
    ],
)
def test_wrong_targets_are_refused(target, message):
    with pytest.raises(ValueError, match=message):
        explain.gradient(quadratic, WEIGHTS, IMAGES, target)


def test_nothing_to_explain_is_refused():
    with pytest.raises(ValueError, match="no examples"):
        explain.gradient(quadratic, WEIGHTS, IMAGES[:0])
    with pytest.raises(ValueError, match="batch axis"):
        explain.gradient(quadratic, WEIGHTS, IMAGES[0, 0, 0])
    with pytest.raises(ValueError, match=r"\[B, K\]"):
        explain.gradient(lambda params, x: x, None, IMAGES, 0)


def test_methods_by_name_agree_with_the_functions():
    for name, function in (
        ("gradient", explain.gradient),
        ("gradient_x_input", explain.gradient_x_input),
    ):
        result = explain.attribute(name, quadratic, WEIGHTS, IMAGES, 1)
        assert result.completeness_error is None
        np.testing.assert_array_equal(result.attributions, function(quadratic, WEIGHTS, IMAGES, 1))
    with pytest.raises(ValueError, match="choose one of"):
        explain.attribute("lime", quadratic, WEIGHTS, IMAGES)


def test_explaining_inside_a_compiled_function_works():
    @jax.jit
    def total(x):
        return explain.gradient(quadratic, WEIGHTS, x, jnp.array([0, 1, 2, 0, 1])).sum()

    outside = explain.gradient(quadratic, WEIGHTS, IMAGES, np.array([0, 1, 2, 0, 1])).sum()
    np.testing.assert_allclose(total(IMAGES), outside, rtol=1e-4)
