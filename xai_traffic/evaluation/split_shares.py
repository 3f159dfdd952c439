"""Explain the verdicts on a split, and keep of every session what share each field and packet has.

Heat maps are let go of batch by batch; what stays of a session are some dozens of numbers.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy import sparse

from xai_traffic import explain
from xai_traffic.capture.fields import Field
from xai_traffic.capture.records import GRID
from xai_traffic.data.store import Dataset
from xai_traffic.evaluation.answers import UNKNOWN, answers, asks_unknown, needs_features
from xai_traffic.evaluation.explanations import (
    AT_ONCE,
    explain_images,
    images_and_fields,
    sessions_to_explain,
)
from xai_traffic.terminal import progress
from xai_traffic.training.run import Run


@dataclasses.dataclass(frozen=True, eq=False)
class MethodShares:
    """What one method attributes to the fields and packets of N sessions.

    A share is the sum of |attribution| over the part divided by that over all bytes of the session;
    a net share is the sum of the signed ones divided by the same. Sessions to whose bytes nothing
    at all is attributed have zeros.

    Args:
        fields: share of each of F fields, float64 [N, F], with an entry where the session has it.
        packets: share of each packet, float32 [N, 64].
        field_nets, packet_nets: the same of net shares; None where the method gives no signs.
        padding: part of all |attribution| that fell upon padding, float64 [N].
    """

    fields: sparse.csr_array
    packets: np.ndarray
    field_nets: sparse.csr_array | None
    packet_nets: np.ndarray | None
    padding: np.ndarray

    @property
    def explained(self) -> np.ndarray:
        """Tell to which sessions' bytes anything is attributed, bool [N]."""
        return self.packets.any(axis=1)


@dataclasses.dataclass(frozen=True, eq=False)
class SplitShares:
    """Verdicts on N sessions, and what they rest on.

    Args:
        rows: of the dataset's table, int64 [N].
        verdicts: classes, int32 [N].
        probabilities: of the verdicts, float32 [N].
        unknown: whether the run's rule, where it is on, calls them unknown, bool [N].
        truths: labels, None where there is none.
        names: of the F fields, sorted.
        sizes: the part of a session's bytes that a field has, float64 [N, F]; above zero where the
            session has the field.
        directions: of each packet, int8 [N, 64]: 0 initiator, 1 responder, -1 no packet.
        methods: by name, in the order that they were asked for.
    """

    rows: np.ndarray
    verdicts: np.ndarray
    probabilities: np.ndarray
    unknown: np.ndarray
    truths: list[str | None]
    names: list[str]
    sizes: sparse.csr_array
    directions: np.ndarray
    methods: dict[str, MethodShares]


def explain_split(
    run: Run,
    dataset: Dataset,
    split: str,
    methods: Sequence[str],
    *,
    limit: int | None = None,
    seed: int = 0,
) -> SplitShares:
    """Explain the verdicts on the sessions of a split by some methods.

    Args:
        run: a trained run whose layout is `tiles`.
        methods: names of `explain.METHODS` that suit the model.
        limit: most sessions, drawn at random; None for all.
        seed: of that draw, and of the sessions that baselines are drawn from.

    Raises:
        RunError: the data was read by other rules or not as tiles, the split is empty, the limit is
            less than 1, or a method cannot explain the model.
    """
    rng = np.random.Generator(np.random.Philox(seed))
    rows, references = sessions_to_explain(run, dataset, split, limit, rng)
    # Sessions of like length go together: short ones are explained at the cost of short ones.
    rows = np.sort(rows)
    rows = rows[np.argsort(dataset.tile_counts[rows], kind="stable")]

    names: dict[str, int] = {}
    verdicts, probabilities, unknown, directions = [], [], [], []
    rule = asks_unknown(run, None)
    further = needs_features(run, rule)
    sizes = _SparseRows()
    gathered = {name: _Gathered() for name in methods}
    for start in progress(range(0, len(rows), AT_ONCE), f"explain {split}"):
        part = rows[start : start + AT_ONCE]
        images, fields = images_and_fields(dataset, part)
        logits, features = (
            run.logits_and_features(images) if further else (run.logits(images), None)
        )
        chances = run.probabilities(logits)
        if rule:
            said = answers(run, logits, features, unknown=True)
            unknown.append([one["label"] == UNKNOWN for one in said])
        judged = np.argmax(chances, axis=-1).astype(np.int32)
        verdicts.append(judged)
        probabilities.append(chances.max(axis=-1))
        directions.append(_directions(dataset, part))
        places = [_places(own, names) for own in fields]
        for own, (columns, lengths) in zip(fields, places, strict=True):
            sizes.append(columns, lengths / max(sum(_length(parts) for parts in own), 1))
        found = explain_images(run, images, judged, methods, fields, references)
        for name, one in found.items():
            values = np.asarray(one.attributions)
            for own, (columns, _), each in zip(fields, places, values, strict=True):
                shares = explain.byte_shares(each, [_length(parts) for parts in own])
                gathered[name].add(shares, own, columns, names)

    order = np.argsort(list(names), kind="stable")
    back = np.argsort(rows)
    column = "label" if run.task == "multiclass" else "binary_label"
    kept = {
        name: one.shares(order, back, name in explain.PER_BYTE) for name, one in gathered.items()
    }
    return SplitShares(
        rows=rows[back],
        verdicts=np.concatenate(verdicts)[back],
        probabilities=np.concatenate(probabilities)[back],
        unknown=np.concatenate(unknown)[back] if rule else np.zeros(len(rows), bool),
        truths=dataset.table[column].take(rows[back]).to_pylist(),
        names=[list(names)[place] for place in order],
        sizes=sizes.matrix(order)[back],
        directions=np.concatenate(directions)[back],
        methods=kept,
    )


class _SparseRows:
    """Rows of a sparse matrix that come one by one, while its columns are still being found."""

    def __init__(self):
        self._ends, self._columns, self._values = [0], [], []

    def append(self, columns: np.ndarray, values: np.ndarray) -> None:
        self._columns.append(columns)
        self._values.append(values)
        self._ends.append(self._ends[-1] + len(columns))

    def matrix(self, order: np.ndarray) -> sparse.csr_array:
        """Return all of them, the columns put into an order; zeros among them stay entries."""
        columns = np.argsort(order)[np.concatenate(self._columns)]
        shape = (len(self._ends) - 1, len(order))
        values = np.concatenate(self._values)
        found = sparse.csr_array((values, columns, np.array(self._ends)), shape=shape)
        found.sort_indices()
        return found


class _Gathered:
    """Shares of one method, session by session."""

    def __init__(self):
        self._fields, self._nets = _SparseRows(), _SparseRows()
        self._packets, self._packet_nets, self._padding = [], [], []

    def add(
        self,
        shares: explain.Shares,
        fields: Sequence[Sequence[Field]],
        columns: np.ndarray,
        names: dict[str, int],
    ) -> None:
        units, signed = (np.zeros(len(names)) for _ in range(2))
        own = explain.field_units(shares, fields)
        for row, (parts, values) in enumerate(zip(fields, own, strict=True)):
            for part, value in zip(parts, values, strict=True):
                units[names[part.name]] += value
                signed[names[part.name]] += shares.signed[row, part.start : part.end].sum()
        whole = shares.total * shares.scale
        self._fields.append(columns, np.asarray(shares.share(units[columns])))
        self._nets.append(columns, signed[columns] / (whole or 1.0))
        packets, nets = (np.zeros(GRID, np.float32) for _ in range(2))
        packets[: len(fields)] = shares.packets()
        nets[: len(fields)] = shares.signed.sum(axis=1) / (whole or 1.0)
        self._packets.append(packets)
        self._packet_nets.append(nets)
        self._padding.append(shares.padding)

    def shares(self, order: np.ndarray, back: np.ndarray, has_signs: bool) -> MethodShares:
        return MethodShares(
            fields=self._fields.matrix(order)[back],
            packets=np.stack(self._packets)[back],
            field_nets=self._nets.matrix(order)[back] if has_signs else None,
            packet_nets=np.stack(self._packet_nets)[back] if has_signs else None,
            padding=np.array(self._padding)[back],
        )


def _length(parts: Sequence[Field]) -> int:
    return parts[-1].end if parts else 0


def _places(
    fields: Sequence[Sequence[Field]], names: dict[str, int]
) -> tuple[np.ndarray, np.ndarray]:
    """Return the columns of a session's fields and their bytes; new names get a column."""
    lengths: dict[int, int] = {}
    for parts in fields:
        for part in parts:
            column = names.setdefault(part.name, len(names))
            lengths[column] = lengths.get(column, 0) + part.end - part.start
    return np.array(list(lengths), np.int64), np.array(list(lengths.values()), np.float64)


def _directions(dataset: Dataset, rows: np.ndarray) -> np.ndarray:
    found = np.full((len(rows), GRID), -1, np.int8)
    for place, row in enumerate(rows):
        first, count = int(dataset.first_tiles[row]), int(dataset.tile_counts[row])
        found[place, :count] = dataset.packets["direction"].slice(first, count).to_numpy()
    return found
