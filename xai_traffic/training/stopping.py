"""Early stopping on the whole validation split."""

from __future__ import annotations

import dataclasses
import math


@dataclasses.dataclass(frozen=True)
class Stopping:
    """What is known of the best epoch so far.

    Args:
        metric: accuracy, macro_f1 (higher is better) or loss (lower is).
        patience: epochs without a new best after which to stop; 0 never stops.
        best: scores of the best epoch, empty before the first.
        best_step: step behind that epoch, 0 before the first.
        best_epoch: that epoch, 1-based.
        waited: epochs since.
    """

    metric: str
    patience: int
    best: dict[str, float] = dataclasses.field(default_factory=dict)
    best_step: int = 0
    best_epoch: int = 0
    waited: int = 0

    def rank(self, scores: dict[str, float]) -> float:
        """Return a number that is higher for better scores, lowest where they are no numbers."""
        number = -scores["loss"] if self.metric == "loss" else scores[self.metric]
        return -math.inf if math.isnan(number) else number

    def after(self, step: int, epoch: int, scores: dict[str, float]) -> Stopping:
        """Return what is known after another epoch; a tie leaves the earlier one the best."""
        if self.best and self.rank(scores) <= self.rank(self.best):
            return dataclasses.replace(self, waited=self.waited + 1)
        return dataclasses.replace(self, best=scores, best_step=step, best_epoch=epoch, waited=0)

    @property
    def due(self) -> bool:
        """Whether to stop."""
        return 0 < self.patience <= self.waited
