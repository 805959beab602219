"""Which of the models of a training is kept."""

from __future__ import annotations

import math
from collections.abc import Callable

from ..network.model_io import Model
from .validation import Score

_CHANCE = 0.5
"""Standard error of the rank with one validation cell; scales with 1/sqrt(n)."""


class BestModel:
    """The best model so far.

    A model has to beat the one that training started from. Among those, the latest is kept unless an earlier one was
    better by more than chance: the luckiest of many validations on a few cells is no better model.

    Attributes
    ----------
    model, score : Model, Score or None
        What is kept, and its validation scores.
    step : int
        The step that it is from; -1 before there is any.
    since : int
        Validations since the best rank.
    """

    def __init__(self) -> None:
        self.model: Model | None = None
        self.score: Score | None = None
        self.step, self.since = -1, 0
        self._rank = self._start_rank = -math.inf

    def start_from(self, model: Model, score: Score) -> None:
        """Keep a model that all later ones have to beat."""
        self.model, self.score = model, score
        self._rank = self._start_rank = score.rank

    def clear(self) -> None:
        """Forget model and scores."""
        self.model, self.score = None, None
        self._rank = self._start_rank = -math.inf

    def offer(self, score: Score, step: int, cells: int, make: Callable[[Score], Model]) -> bool:
        """Keep a validated model if it may be the best.

        Parameters
        ----------
        score : Score
            Its validation scores.
        step : int
            The step that it is from; 0 is the start model.
        cells : int
            Number of validation cells.
        make : callable
            Returns the model, given its scores; called only if it is kept.

        Returns
        -------
        bool
            Whether it is kept.
        """
        self.since = 0 if score.rank > self._rank else self.since + 1
        self._rank = max(self._rank, score.rank)
        kept = self.model is None or (score.rank > self._start_rank and score.rank >= self._rank - self._chance(cells))
        if not step:
            self._start_rank = score.rank
        if kept:
            self.step, self.score = step, score
            self.model = make(score)
        return kept

    def _chance(self, cells: int) -> float:
        """Return the rank difference that may be chance; at most half of the best rank."""
        return min(_CHANCE / math.sqrt(max(1, cells)), max(0.0, self._rank / 2))
