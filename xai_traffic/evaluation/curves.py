"""Deletion and insertion curves of images: what the page draws beside a control by chance."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import jax.numpy as jnp
import numpy as np

from xai_traffic import explain
from xai_traffic.capture.fields import Field
from xai_traffic.training.run import Run

UNITS = ("packets", "fields")
"""What is removed and put in, one after another."""

STEPS, DRAWS = 10, 6
"""Points of a curve but the first, and random orders."""


@dataclasses.dataclass(frozen=True, eq=False)
class Curve:
    """The target's logit on the way between a session and nothing, of one session.

    Args:
        places: float [points], which part of the players has gone or come, 0 to 1.
        deletion, insertion: float [points], the highest attribution first.
        random_deletion, random_insertion: float [draws, points], in random orders.
    """

    places: np.ndarray
    deletion: np.ndarray
    insertion: np.ndarray
    random_deletion: np.ndarray
    random_insertion: np.ndarray


def curves_of_images(
    run: Run,
    images: np.ndarray,
    targets: np.ndarray,
    found: Mapping[str, explain.Attribution],
    fields: Sequence[Sequence[Sequence[Field]]],
) -> list[dict[str, dict[str, Curve]]]:
    """Remove and put in packets and fields as explanations rank them, and at random.

    The random orders of a session serve all its explanations.

    Args:
        images, targets, fields: as for `explain_images`.
        found: what it found.

    Returns:
        For each image the curves by method and unit. A session that has but one player of a unit
        has no curve of it: one order is as good as any.
    """
    x = jnp.asarray(images[..., None], jnp.float32)
    sessions = [explain.session_groups(parts[: run.model.packets]) for parts in fields]
    result: list[dict[str, dict[str, Curve]]] = [{name: {} for name in found} for _ in sessions]
    for unit in UNITS:
        groups = np.stack([own[unit] for own in sessions])
        control = None
        for name, one in found.items():
            values = explain.deletion_curves(
                run.model.apply,
                run.variables,
                x,
                groups,
                _worth(np.asarray(one.attributions, np.float64), groups),
                targets,
                draws=DRAWS if control is None else 1,
                steps=STEPS,
            )
            control = control or values
            for i, own in enumerate(result):
                if len(values.places[i]) > 2:
                    own[name][unit] = Curve(
                        places=values.places[i],
                        deletion=values.deletion[i],
                        insertion=values.insertion[i],
                        random_deletion=control.random_deletion[i],
                        random_insertion=control.random_insertion[i],
                    )
    return result


def _worth(values: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """Return what each player is given, float64 [B, P]."""
    players = int(groups.max()) + 1
    places = np.where(groups < 0, players, groups).reshape(len(groups), -1)
    rows = zip(places, values.reshape(len(values), -1), strict=True)
    return np.stack([np.bincount(own, row, players + 1)[:players] for own, row in rows])
