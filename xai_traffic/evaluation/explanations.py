"""How far the explanations of a run may be believed: metrics of images, and means over a split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from xai_traffic import explain
from xai_traffic.capture.fields import Field
from xai_traffic.errors import RunError
from xai_traffic.training.run import Run


def explain_images(
    run: Run, images: np.ndarray, targets: np.ndarray, methods: Sequence[str]
) -> dict[str, explain.Attribution]:
    """Explain the targets of images by some methods.

    Args:
        images: uint8 [N, 128, 128], as the model sees them.
        targets: classes, int32 [N].
        methods: names of `explain.METHODS`.

    Raises:
        RunError: a method cannot explain this model.
    """
    again = _explainer(run, targets)
    found = {}
    for name in methods:
        try:
            found[name] = again(name, run.variables, _batch(images))
        except ValueError as error:
            raise RunError(f"{name} cannot explain {run.model.name}: {error}") from error
    return found


def measure_images(
    run: Run,
    images: np.ndarray,
    targets: np.ndarray,
    found: Mapping[str, explain.Attribution],
    fields: Sequence[Sequence[Sequence[Field]]],
    names: Sequence[str],
) -> dict[str, dict[str, np.ndarray]]:
    """Measure what `explain_images` found, see `explain.measure`.

    Args:
        fields: of each packet of each session, see `capture.fields.dissect`.
        names: of `explain.METRICS`.
    """
    sessions = [explain.session_groups(parts[: run.model.packets]) for parts in fields]
    groups = {unit: np.stack([own[unit] for own in sessions]) for unit in sessions[0]}
    return explain.measure(
        run.model.apply,
        run.variables,
        _batch(images),
        targets,
        found,
        groups,
        again=_explainer(run, targets, steps=explain.STEPS_AGAIN),
        names=names,
    )


def _batch(images: np.ndarray):
    return jnp.asarray(images[..., None], jnp.float32)


def _explainer(run: Run, targets: np.ndarray, steps: int | None = None) -> explain.Explainer:
    def explain_again(method: str, variables: Any, x) -> explain.Attribution:
        options = {"steps": steps} if steps and method == "integrated_gradients" else {}
        return explain.attribute(
            method, run.model.apply, variables, x, targets, extent=run.model.extent, **options
        )

    return explain_again
