"""A session with its verdict and the reasons for it: what every kind of report is made from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from xai_traffic import explain
from xai_traffic.capture.fields import Field, describe, dissect
from xai_traffic.capture.images import images_of
from xai_traffic.capture.masking import apply_mask, hidden
from xai_traffic.capture.records import TILE
from xai_traffic.capture.sessions import packet_rows_of
from xai_traffic.errors import RunError
from xai_traffic.evaluation.answers import nearest_class
from xai_traffic.evaluation.curves import Curve, curves_of_images
from xai_traffic.evaluation.explanations import explain_images, measure_images
from xai_traffic.explain.token_grid import TILE_SIDE
from xai_traffic.training.run import Run


@dataclasses.dataclass(frozen=True, eq=False)
class Explained:
    """One session, explained.

    Args:
        verdict: what `classify` says of it.
        truth: its label where it is known, else None.
        target: the class explained, the verdict's.
        packets: PACKET [n], its packets that have a tile.
        bytes: uint8 [n, 256], as captured (of a masked dataset: as it keeps them).
        hidden: bool [n, 256], bytes that the mask hid from the model.
        image: uint8 [128, 128], what the model saw.
        fields: of each packet, see `capture.fields.dissect`.
        words: of each packet, see `capture.fields.describe`; hostile text.
        attributions: float32 [128, 128] by method.
        shares: by method.
        completeness_error: in logits, by method that has one.
        metrics: of `explain.METRICS`, by method and name; NaN where there is none.
        curves: deletion and insertion by method and unit, see `evaluation.curves`.
        heads: attention of the class token, float32 [layers, heads, rows, columns], or None.
        extent: height and width of the part of the image that the model reads.
    """

    verdict: dict[str, Any]
    truth: str | None
    target: str
    packets: np.ndarray
    bytes: np.ndarray
    hidden: np.ndarray
    image: np.ndarray
    fields: list[list[Field]]
    words: list[str]
    attributions: dict[str, np.ndarray]
    shares: dict[str, explain.Shares]
    completeness_error: dict[str, float]
    metrics: dict[str, dict[str, float]]
    curves: dict[str, dict[str, Curve]]
    heads: np.ndarray | None
    extent: tuple[int, int]

    @property
    def read(self) -> int:
        """Tell how many of its packets, from the first on, the model reads."""
        height, width = self.extent
        return min(len(self.packets), height * width // TILE)

    @property
    def shown(self) -> tuple[int, int]:
        """Tell height and width of what pictures show: the rows of the grid that hold packets.

        At least one row, and nothing that the model does not read.
        """
        height, width = self.extent
        across = self.image.shape[1] // TILE_SIDE
        rows = max(1, -(-len(self.packets) // across))
        return min(height, rows * TILE_SIDE), width

    @property
    def held(self) -> np.ndarray:
        """Tell which pixels are bytes that the model reads, bool [128, 128]."""
        return explain.packet_groups(self.packets["length"][: self.read])[..., 0] >= 0

    def card(self, method: str | None = None) -> explain.Card:
        """Return the card of a method's explanation."""
        return explain.card(self.metrics[method or self.leading])

    @property
    def leading(self) -> str:
        """Name the method that the report's text follows: the first that tells bytes apart."""
        return next(name for name in explain.METHODS if name in self.shares)

    def ranked(self, method: str | None = None) -> list[int]:
        """Return its packets, those of the largest share first, without those of none."""
        shares = self.shares[method or self.leading].packets()
        return [int(row) for row in np.argsort(-shares, kind="stable") if shares[row] > 0]

    def top_fields(self, row: int, method: str | None = None) -> list[tuple[Field, float]]:
        """Return the fields of a packet with their shares in the session, largest first."""
        shares = self.shares[method or self.leading]
        sums = [
            (field, float(shares.share(shares.units[row, field.start : field.end].sum())))
            for field in self.fields[row]
        ]
        return sorted(
            (pair for pair in sums if pair[1] > 0), key=lambda pair: (-pair[1], pair[0].start)
        )


def methods_for(run: Run, asked: tuple[str, ...] | None) -> tuple[str, ...]:
    """Return the methods to run: those asked for, by default all that suit the model.

    Raises:
        RunError: one is unknown, or needs attention and the model has none.
    """
    has_attention = bool(_attention_layers(run))
    if not asked:
        return ("integrated_gradients", "grad_cam") + ("attention",) * has_attention
    for name in asked:
        if name not in explain.METHODS:
            raise RunError(f"method {name!r} is unknown: choose from {', '.join(explain.METHODS)}")
    refused = [name for name in asked if name in explain.ATTENTIVE and not has_attention]
    if refused:
        raise RunError(
            f"method {refused[0]!r} explains transformers, and this run's model is "
            f"{run.model.name}: leave it out"
        )
    return tuple(name for name in explain.METHODS if name in asked)


def explain_sessions(
    run: Run,
    verdicts: list[dict[str, Any]],
    truths: list[str | None],
    tiles: list[np.ndarray],
    packets: list[Any],
    methods: tuple[str, ...],
    *,
    masked: bool,
    metrics: Sequence[str] = explain.QUICK,
) -> list[Explained]:
    """Explain the verdicts on some sessions.

    Args:
        verdicts: of the sessions, as `evaluation.classify.verdicts` yields them.
        truths: their labels, None where unknown.
        tiles: uint8 [n, 256] of each.
        packets: packet rows of each, a pyarrow table.
        methods: as `methods_for` returns them.
        masked: the tiles are masked already; else the run's mask is applied for the model.
        metrics: names of `explain.METRICS`, see `compare_sessions` for the input dependence.
    """
    mask = run.rules.mask
    rows = [packet_rows_of(table) for table in packets]
    seen = tiles if masked else [apply_mask(t, r, mask) for t, r in zip(tiles, rows, strict=True)]
    counts = np.array([len(part) for part in seen], np.int64)
    images = images_of(np.concatenate(seen), np.cumsum(counts) - counts, counts)
    nearest = [nearest_class(verdict) for verdict in verdicts]
    targets = np.array([run.classes.index(name) for name in nearest], np.int32)
    fields = [
        [dissect(tile, row) for tile, row in zip(part, own, strict=True)]
        for part, own in zip(tiles, rows, strict=True)
    ]
    model = run.model
    found = explain_images(run, images, targets, methods, fields)
    measured = measure_images(run, images, targets, found, fields, metrics)
    curves = curves_of_images(run, images, targets, found, fields)
    values = {name: np.asarray(part.attributions) for name, part in found.items()}
    errors = {
        name: np.asarray(part.completeness_error)
        for name, part in found.items()
        if part.completeness_error is not None
    }
    heads = None
    if "attention" in methods:
        x = jnp.asarray(images[..., None], jnp.float32)
        heads = np.asarray(explain.attention(model.apply, run.variables, x, extent=model.extent))

    result = []
    for i, (verdict, own) in enumerate(zip(verdicts, rows, strict=True)):
        result.append(
            Explained(
                verdict=verdict,
                truth=truths[i],
                target=nearest[i],
                packets=own,
                bytes=np.asarray(tiles[i]),
                hidden=hidden(tiles[i], own, mask),
                image=images[i],
                fields=fields[i],
                words=[describe(tile, row) for tile, row in zip(tiles[i], own, strict=True)],
                attributions={name: part[i] for name, part in values.items()},
                shares={
                    name: explain.byte_shares(part[i], own["length"])
                    for name, part in values.items()
                },
                completeness_error={name: float(part[i]) for name, part in errors.items()},
                metrics={
                    name: {metric: float(part[i]) for metric, part in own_metrics.items()}
                    for name, own_metrics in measured.items()
                },
                curves=curves[i],
                heads=None if heads is None else heads[i],
                extent=model.extent,
            )
        )
    return result


def compare_sessions(sessions: list[Explained]) -> list[Explained]:
    """Add to the metrics of each session how like its maps are to those of other verdicts."""
    if not sessions:
        return sessions
    verdicts = [explained.target for explained in sessions]
    held = np.stack([explained.held for explained in sessions])
    found: list[dict[str, dict[str, float]]] = [{} for _ in sessions]
    for name in sessions[0].attributions:
        maps = np.stack([explained.attributions[name] for explained in sessions])
        for own, alike in zip(found, explain.input_dependence(maps, held, verdicts), strict=True):
            own[name] = {"input_dependence": float(alike)}
    return [
        dataclasses.replace(
            explained,
            metrics={name: {**explained.metrics[name], **own[name]} for name in own},
        )
        for explained, own in zip(sessions, found, strict=True)
    ]


def _attention_layers(run: Run) -> tuple[str, ...]:
    image = np.zeros((1, 128, 128, 1), np.float32)
    return explain.attention_layers(run.model.apply, run.variables, image)
