"""Explanations of a model whose parameters are drawn anew: they must not stay what they were.

Source: Adebayo et al., Sanity Checks for Saliency Maps, 2018. With sparse inputs gradient x input
stays alike whatever the model, since the input dominates it: look at plain gradients too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from scipy.stats import entropy

from xai_traffic.explain.agreement import spearman

Explainer = Callable[[Any, jax.Array], Any]
"""From parameters and inputs [B, ...] to attributions [B, ...]."""


def randomised(params: Any, names: Sequence[str], rng: jax.Array) -> Any:
    """Return the parameters with those of some layers shuffled, each within itself.

    Shuffling keeps what a layer's values are and loses where they stand: no initialiser of the
    model has to be known, and scales and biases keep their range.

    Args:
        params: tree of arrays.
        names: beginnings of the paths "params/block14/..." of what is shuffled.
        rng: key of `jax.random.key`; the draw for an array depends on its path's place alone.

    Raises:
        ValueError: a name begins no path.
    """
    leaves, structure = jax.tree_util.tree_flatten_with_path(params)
    paths = [jax.tree_util.keystr(path, simple=True, separator="/") for path, _ in leaves]
    missing = [name for name in names if not any(_begins(path, name) for path in paths)]
    if missing:
        raise ValueError(f"no parameter begins with {', '.join(missing)}")
    drawn = [
        jax.random.permutation(jax.random.fold_in(rng, place), jnp.ravel(leaf)).reshape(leaf.shape)
        if any(_begins(path, name) for name in names)
        else leaf
        for place, (path, (_, leaf)) in enumerate(zip(paths, leaves, strict=True))
    ]
    return jax.tree.unflatten(structure, drawn)


def cascading_randomisation(
    explain: Explainer,
    params: Any,
    x: jax.Array,
    layers: Sequence[str],
    rng: jax.Array,
    *,
    keep: np.ndarray | None = None,
    noise: float = 0.0,
    draws: int = 1,
) -> Iterator[tuple[str, np.ndarray]]:
    """Shuffle layer after layer and yield how like the first the explanations still are.

    With `noise` it is the smooth form (Hedström et al., Sanity Checks Revisited, 2024): maps are
    means over inputs with a little noise, so that shattered gradients do not pass for a loss of
    likeness.

    Args:
        explain: called with each set of parameters; close over model function and targets.
        params: of the model as it was trained.
        x: float [B, ...].
        layers: names as for `randomised`, the one nearest to the logits first.
        rng: key of `jax.random.key`.
        keep: bool, of the shape that `explain` returns: what is no padding; None for all.
        noise: standard deviation that is added to x.
        draws: of the noise, at least 1; one without noise is enough.

    Yields:
        (layer, float64 [B]): Spearman's correlation of |attribution| before and behind shuffling
        this layer and all those in front of it in `layers`.

    Raises:
        ValueError: see `randomised`; `draws` is less than 1.
    """
    if draws < 1:
        raise ValueError(f"draws is {draws}: at least one is needed")
    shuffle, shake = jax.random.split(rng)

    def mean_map(parameters: Any) -> np.ndarray:
        total = 0.0
        for draw in range(draws):
            # The same noise for all parameters: what differs is the model alone.
            key = jax.random.fold_in(shake, draw)
            shaken = x + noise * jax.random.normal(key, x.shape, x.dtype) if noise else x
            total = total + np.asarray(explain(parameters, shaken), np.float64)
        return np.abs(total / draws)

    before = mean_map(params)
    for count, layer in enumerate(layers, start=1):
        found = mean_map(randomised(params, layers[:count], shuffle))
        yield layer, spearman(before, found, keep)


def complexity_rise(
    explain: Explainer,
    params: Any,
    x: jax.Array,
    layers: Sequence[str],
    rng: jax.Array,
    *,
    keep: np.ndarray | None = None,
    bins: int = 100,
) -> np.ndarray:
    """Return by what part an explanation's entropy rises when all layers are shuffled.

    Source: Hedström et al., Sanity Checks Revisited, 2024, the efficient form: a model that knows
    nothing must be explained by maps that say less. It compares no two maps, so noise in both does
    not pass for a loss of likeness. Above 0 is as it should be.

    Args:
        explain, params, x, rng, keep: as for `cascading_randomisation`.
        layers: all that is shuffled, names as for `randomised`.
        bins: of the histogram of an explanation's values, signed, whose entropy it is.

    Returns:
        float64 [B], (after - before) / before; NaN where the entropy was 0.

    Raises:
        ValueError: see `randomised`; bins are fewer than 2.
    """
    if bins < 2:
        raise ValueError(f"{bins} bins have no entropy: at least 2 are needed")
    shuffle, _ = jax.random.split(rng)  # as in `cascading_randomisation`: of one key, one model
    before, after = (
        _entropies(explain(each, x), keep, bins)
        for each in (params, randomised(params, layers, shuffle))
    )
    found = np.full(len(before), np.nan)
    return np.divide(after - before, before, out=found, where=before > 0)


def label_randomisation(
    explain: Explainer,
    params: Any,
    permuted: Any,
    x: jax.Array,
    *,
    keep: np.ndarray | None = None,
) -> np.ndarray:
    """Return how like explanations are to those of a model that learned permuted labels.

    The data randomisation test of the same paper: a model that fits labels without meaning has
    learned nothing of the data, and an explanation that looks the same for both shows the input.

    Args:
        explain: called with both sets of parameters; close over model function and targets.
        params: of the model as it was trained.
        permuted: of the same model trained on permuted labels, to a like training accuracy.
        x: float [B, ...].
        keep: bool, of the shape that `explain` returns: what is no padding; None for all.

    Returns:
        float64 [B]: Spearman's correlation of |attribution|.

    Raises:
        ValueError: the two sets of parameters are not of one model.
    """
    shapes = [jax.tree.map(np.shape, each) for each in (params, permuted)]
    if shapes[0] != shapes[1]:
        raise ValueError("the two sets of parameters differ in names or shapes: not of one model")
    found = [np.abs(np.asarray(explain(each, x), np.float64)) for each in (params, permuted)]
    return spearman(*found, keep)


def _entropies(maps: Any, keep: np.ndarray | None, bins: int) -> np.ndarray:
    maps = np.asarray(maps, np.float64)
    held = np.ones(maps.shape, bool) if keep is None else np.asarray(keep, bool)
    counts = [np.histogram(own[at], bins)[0] for own, at in zip(maps, held, strict=True)]
    return np.array([entropy(each) if each.any() else np.nan for each in counts])


def _begins(path: str, name: str) -> bool:
    return path == name or path.startswith(f"{name}/")
