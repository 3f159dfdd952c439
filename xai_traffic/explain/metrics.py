"""Metrics of explanations by name, with one signature: what `explain` and `evaluate` call."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from xai_traffic.explain.agreement import spearman
from xai_traffic.explain.comprehensiveness import comprehensiveness
from xai_traffic.explain.faithfulness import faithfulness
from xai_traffic.explain.integrated_gradients import FLOOR
from xai_traffic.explain.methods import Attribution
from xai_traffic.explain.model_function import ModelFunction, as_float
from xai_traffic.explain.players import field_groups, packet_groups, window_groups
from xai_traffic.explain.randomisation import randomised
from xai_traffic.explain.road import road
from xai_traffic.explain.sensitivity_n import sensitivity_n
from xai_traffic.explain.sparseness import gini
from xai_traffic.explain.stability import infidelity, max_sensitivity
from xai_traffic.explain.sufficiency import sufficiency

UNITS = {"bytes": "", "fields": "_fields", "packets": "_packets"}
"""Players, and how metrics by them are called."""

METRICS = {
    "faithfulness": "chance that random bytes, ranked first, hold the logit as well",
    "gain": "logits between keeping the first bytes and keeping the last",
    "completeness": "part of the logit's rise that the attributions miss",
    "padding": "part of |attribution| on padding",
    "sparseness": "Gini index of |attribution|",
    "input_dependence": "correlation with the maps of other verdicts' sessions",
    "faithfulness_fields": "chance that random fields hold the logit as well",
    "gain_fields": "logits between keeping the first fields and keeping the last",
    "faithfulness_packets": "chance that random packets hold the logit as well",
    "gain_packets": "logits between keeping the first packets and keeping the last",
    "road": "logits between imputing the last bytes and imputing the first",
    "sensitivity_n": "correlation of what random fields are given with what they hold",
    "comprehensiveness": "probability that is lost without the first fields",
    "sufficiency": "probability that is lost with nothing but the first fields",
    "infidelity": "part of what removed bytes do to the logit that is not claimed",
    "agreement": "mean rank correlation of |attribution| with the other methods",
    "stability": "largest relative change when every byte moves by up to one",
    "randomisation": "rank correlation with the same of a model with shuffled weights",
    "smooth_randomisation": "the same of maps that are means over noisy inputs",
}
"""Names, and what they tell."""

QUICK = ("faithfulness", "gain", "completeness", "padding", "sparseness", "input_dependence")
"""Those that need no second explanation and few passes."""

AGAIN = ("stability", "randomisation", "smooth_randomisation")
"""Those that explain every example again, many times."""

SUBSET, REMOVED, DRAWS = 0.25, 0.25, 16
"""Part of the fields in a subset of sensitivity-n; chance of a byte to be removed for infidelity,
and how often."""

RADIUS, MOVES = 1.0, 4
"""Stability: by how much bytes move, and how often."""

NOISE, NOISY = 8.0, 4
"""Smooth randomisation: standard deviation of the noise in bytes, and how many inputs."""

CHEAPER = {
    "integrated_gradients": {"steps": 50},
    "smooth_grad": {"samples": 12},
    "var_grad": {"samples": 12},
    "expected_gradients": {"samples": 50},
    "guided_ig": {"steps": 25},
    "owen_values": {"samples": 256},
    "rise": {"samples": 256},
}
"""With what methods explain again: both that are compared are made so, from the same draws."""

Explainer = Callable[[str, object, jax.Array], Attribution]
"""From a method's name, parameters and inputs to what it attributes to the same targets."""


def session_groups(fields: Sequence[Sequence]) -> dict[str, np.ndarray]:
    """Return the players of a session by unit, "bytes", "fields" and "packets".

    Args:
        fields: for each packet that the model reads what `capture.fields.dissect` returns.

    Returns:
        int32 [128, 128, 1] each, -1 on padding and on what the model does not read.
    """
    lengths = [parts[-1].end if parts else 0 for parts in fields]
    return {
        "bytes": window_groups(lengths, 1)[0],
        "fields": field_groups(fields)[0],
        "packets": packet_groups(lengths),
    }


def measure(
    f: ModelFunction,
    params,
    x,
    target,
    found: Mapping[str, Attribution],
    groups: Mapping[str, np.ndarray],
    *,
    again: Explainer | None = None,
    names: Sequence[str] = QUICK,
    seed: int = 0,
    memory_budget: int | None = None,
) -> dict[str, dict[str, np.ndarray]]:
    """Measure explanations of the same examples, one by one; padding is left out throughout.

    Args:
        f, params, memory_budget: as for `occlusion`.
        x: images [B, H, W, 1], bytes.
        target: the classes explained, int32 [B].
        found: by method.
        groups: for each unit of `session_groups`, int32 [B, H, W, 1].
        again: explains other inputs by other parameters; None leaves out stability and
            randomisation, and a method for which it raises KeyError is left out of them.
        names: of METRICS; `input_dependence`, which compares examples of more batches than this
            one, is not measured here, and `agreement` only of several methods.
        seed: of everything that is drawn.

    Returns:
        By method, by metric: float64 [B].
    """
    x = as_float(x)
    held = groups["bytes"][..., 0] >= 0
    maps = {method: np.asarray(one.attributions, np.float64) for method, one in found.items()}
    sizes = {method: np.abs(one) for method, one in maps.items()}
    result: dict[str, dict[str, np.ndarray]] = {method: {} for method in found}
    common = {"seed": seed, "memory_budget": memory_budget}

    for unit, ending in UNITS.items():
        wanted = [f"gain{ending}", f"faithfulness{ending}"]
        if set(wanted) & set(names):
            pairs = faithfulness(f, params, x, groups[unit], list(maps.values()), target, **common)
            for name, values in zip(wanted, pairs, strict=True):
                for method, own in zip(maps, values, strict=True):
                    result[method][name] = own

    kinds = {
        "completeness": lambda method: _completeness(found[method], maps[method]),
        "padding": lambda method: _padding(sizes[method], held),
        "sparseness": lambda method: gini(maps[method], held),
        "agreement": lambda method: _agreement(sizes, method, held),
        "road": lambda method: road(
            f, params, x, maps[method], target, cells=groups["packets"], **common
        ).gain(),
        "infidelity": lambda method: _infidelity(
            f, params, x, maps[method], target, seed, memory_budget
        ),
    }
    if {"sensitivity_n", "comprehensiveness", "sufficiency"} & set(names):
        worth = {method: _worth(one, groups["fields"]) for method, one in maps.items()}
        places = (f, params, x, groups["fields"])
        kinds["sensitivity_n"] = lambda method: sensitivity_n(
            *places, worth[method], (SUBSET,), target, **common
        )[:, 0]
        for name, metric in (
            ("comprehensiveness", comprehensiveness),
            ("sufficiency", sufficiency),
        ):
            kinds[name] = lambda method, metric=metric: metric(
                *places, worth[method], target, memory_budget=memory_budget
            )[0]
    if again is not None:
        rng = jax.random.key(seed)
        for name, metric in (
            ("stability", _stability),
            ("randomisation", _randomisation),
            ("smooth_randomisation", functools.partial(_randomisation, noise=NOISE, draws=NOISY)),
        ):
            kinds[name] = lambda method, metric=metric: metric(
                lambda p, v: again(method, p, v).attributions, params, x, held, rng
            )
    for name in (name for name in names if name in kinds):
        for method in found:
            try:
                values = kinds[name](method)
            except KeyError:
                continue
            if values is not None:
                result[method][name] = np.asarray(values, np.float64)
    return result


def _completeness(found: Attribution, values: np.ndarray) -> np.ndarray | None:
    if found.completeness_error is None:
        return None
    rise = np.abs(values.reshape(len(values), -1).sum(1))
    return np.asarray(found.completeness_error) / np.maximum(rise, FLOOR)


def _padding(sizes: np.ndarray, held: np.ndarray) -> np.ndarray:
    total = sizes.reshape(len(sizes), -1).sum(1)
    outside = np.where(held, 0.0, sizes).reshape(len(sizes), -1).sum(1)
    return np.divide(outside, total, out=np.zeros(len(total)), where=total > 0)


def _agreement(sizes: dict[str, np.ndarray], method: str, held: np.ndarray) -> np.ndarray | None:
    others = [spearman(sizes[method], sizes[name], held) for name in sizes if name != method]
    if not others:
        return None
    counted = np.isfinite(others)
    total = np.where(counted, others, 0.0).sum(0)
    count = counted.sum(0)
    return np.divide(total, count, out=np.full(len(total), np.nan), where=count > 0)


def _worth(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return what the players are given, float64 [B, P]."""
    players = int(groups.max()) + 1
    places = np.where(groups < 0, players, groups).reshape(len(groups), -1)
    flat = values.reshape(len(values), -1)
    rows = zip(places, flat, strict=True)
    return np.stack([np.bincount(own, row, players + 1)[:players] for own, row in rows])


def _infidelity(f, params, x, values, target, seed, memory_budget) -> np.ndarray:
    """Return the infidelity of the best scaled map as part of that of a map of zeros."""
    there = np.asarray(x)[..., 0]
    claims = np.divide(values, there, out=np.zeros_like(values), where=there > 0)
    options = {
        "rng": jax.random.key(seed),
        "perturbation": _some_bytes,
        "draws": DRAWS,
        "memory_budget": memory_budget,
    }
    missed = infidelity(f, params, x, claims, target, scaled=True, **options)
    whole = infidelity(f, params, x, np.zeros_like(claims), target, **options)
    return np.divide(missed, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _some_bytes(rng: jax.Array, x: jax.Array) -> jax.Array:
    return x * jax.random.bernoulli(rng, REMOVED, x.shape)


def _stability(explain, params, x, held, rng) -> np.ndarray:
    def of_bytes(parameters, moved: jax.Array):
        return explain(parameters, _as_bytes(moved, x, held))

    return max_sensitivity(of_bytes, params, x, rng=rng, radius=RADIUS, draws=MOVES, keep=held)


def _randomisation(explain, params, x, held, rng, noise=0.0, draws=1) -> np.ndarray:
    """Compare with all weights shuffled, or of mean maps over inputs with the same noise.

    With their signs: where the input takes part in an attribution, its size stays when nothing of
    the model does.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    names = {jax.tree_util.keystr(path[:1], simple=True) for path, _ in leaves}
    shuffle, shake = jax.random.split(rng)

    def mean_map(parameters) -> np.ndarray:
        total = 0.0
        for key in jax.random.split(shake, draws):
            shaken = x + noise * jax.random.normal(key, x.shape) if noise else x
            total = total + np.asarray(explain(parameters, _as_bytes(shaken, x, held)), np.float64)
        return total / draws

    return spearman(mean_map(params), mean_map(randomised(params, sorted(names), shuffle)), held)


def _as_bytes(moved: jax.Array, x: jax.Array, held: np.ndarray) -> jax.Array:
    """Keep what was moved within 0..255, and padding as it is."""
    return jnp.where(held[..., None], jnp.clip(moved, 0.0, 255.0), x)
