"""How much of a training's time or steps is spent."""

from __future__ import annotations

import time

from ..settings import TrainingSettings


class Budget:
    """The clock of a training, whose time and steps count anew from each round of annotations.

    Parameters
    ----------
    settings : TrainingSettings
        ``seconds`` and ``steps``; 0 sets no limit.
    """

    def __init__(self, settings: TrainingSettings) -> None:
        self._settings = settings
        self._begin = time.perf_counter()
        self._round_begin, self._round_step = 0.0, 0

    @property
    def elapsed(self) -> float:
        """Seconds since the start of the training."""
        return time.perf_counter() - self._begin

    def restart(self, steps: int) -> None:
        """Start another round after this many steps."""
        self._round_begin, self._round_step = self.elapsed, steps

    def progress(self, steps: int) -> float:
        """Return the spent fraction of this round, 0 to 1, after this many steps; 0 without a limit."""
        shares = [0.0]
        if self._settings.steps:
            shares.append((steps - self._round_step) / self._settings.steps)
        if self._settings.seconds:
            shares.append((self.elapsed - self._round_begin) / self._settings.seconds)
        return min(1.0, max(shares))

    def remaining(self, steps: int) -> float | None:
        """Estimate the seconds to the end of this round; None without a limit or before the first step."""
        done = self.progress(steps)
        return (self.elapsed - self._round_begin) * (1 - done) / done if done else None
