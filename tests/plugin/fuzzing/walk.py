"""A walk through the vocabulary: draws actions from a seed, does them one by one, and tells what was wrong."""

from __future__ import annotations

import faulthandler
import gc
import json
import random
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from napari_unet.plugin.runtime.engine import Engine

from .account import Labels
from .desk import Desk, own_folder, run_loop
from .vocabulary import KINDS, REOPEN, add_controls, draw
from .witness import (
    Errors,
    Gap,
    Heart,
    Trouble,
    forget_last_error,
    is_bad,
    own_objects,
    own_widgets,
    words_of,
)

Action = tuple[str, dict[str, Any]]
_SETTLE_MS = 20
_END = 30.0
"""Seconds within which processes have to be gone after the viewer."""


@dataclass
class Report:
    """What came of a walk.

    Attributes
    ----------
    seed : int
        That its actions were drawn from.
    actions : list
        All of them; those after ``done`` were not reached.
    done : int
        How many were done.
    reached : Counter
        By name: how often it could be done.
    troubles : list of Trouble
        What must not be, in which code of this package had a part.
    foreign : Counter
        By signature: errors of napari alone.
    gaps : list of Gap
        Times without an answer.
    warnings : Counter
        What Qt has warned of.
    said : Counter
        What the docks have said, with # for numbers.
    """

    seed: int
    actions: list[Action]
    done: int = 0
    reached: Counter[str] = field(default_factory=Counter)
    troubles: list[Trouble] = field(default_factory=list)
    foreign: Counter[str] = field(default_factory=Counter)
    gaps: list[Gap] = field(default_factory=list)
    warnings: Counter[str] = field(default_factory=Counter)
    said: Counter[str] = field(default_factory=Counter)

    def script(self) -> str:
        """Return the actions that were done as lines that can be walked again."""
        return lines_of(self.actions[: self.done])

    def words(self) -> str:
        """Return the troubles, the seed and the last actions."""
        parts = [f"seed {self.seed}, {self.done} actions, {len(self.troubles)} troubles"]
        for trouble in self.troubles:
            parts.append(f"--- {trouble.kind} after action {trouble.at}: {trouble.words}\n{trouble.trace}".rstrip())
        parts += [
            f"--- without a part of this package, {count} times: {words}" for words, count in self.foreign.items()
        ]
        return "\n".join([*parts, "--- the actions:", self.script()])


def lines_of(actions: Sequence[Action]) -> str:
    """Return actions as text, one JSON list per line."""
    return "\n".join(json.dumps(action) for action in actions)


def read_lines(text: str) -> list[Action]:
    """Return the actions of a text from :func:`lines_of`."""
    return [(name, values) for name, values in map(json.loads, text.splitlines())]


class Walk:
    """Does actions in a viewer.

    Parameters
    ----------
    make_viewer : callable
        Opens a viewer.
    report : Report
        Takes what is found; its actions are drawn from its seed when there are none.
    count : int
        How many to draw.
    go_on : bool
        Whether the walk goes on after a trouble.
    tell : callable, optional
        Called with each action before it is done, for a walk that crashes.
    hang : float
        Seconds without an answer that count as a trouble; where Python is then goes to stderr. 0 for never.
    """

    def __init__(
        self,
        make_viewer: Callable[[], Any],
        report: Report,
        count: int = 0,
        go_on: bool = False,
        tell: Callable[[Action], None] = lambda action: None,
        hang: float = 0.0,
    ) -> None:
        self._make_viewer, self._report, self._count, self._go_on = make_viewer, report, count, go_on
        self._tell, self._hang = tell, hang
        self._errors = Errors()
        self._last_said: set[str] = set()

    def run(self) -> Report:
        """Walk, close the viewer, and return the report."""
        with own_folder() as folder, self._errors.watching():
            self._desk = Desk(Path(folder))
            self._labels, self._heart = Labels(self._desk), Heart()
            self._widgets = {id(widget) for widget in own_widgets()}
            try:
                with self._labels.watching():
                    self._open()
                    self._walk()
                    self._close()
            finally:
                if self._hang:
                    faulthandler.cancel_dump_traceback_later()
                self._heart.stop()
                self._desk.put_away()
        self._report.gaps, self._report.warnings = self._heart.gaps, self._errors.warnings
        return self._report

    def _open(self) -> None:
        run_loop(200, lambda: self._desk.open(self._make_viewer()))
        if not self._report.actions:
            add_controls(self._desk)
            self._report.actions = draw(random.Random(self._report.seed), self._count)
        elif not any(":" in name for name in KINDS):
            add_controls(self._desk)
        # What it takes to open a viewer with all docks is not what this is about.
        self._heart.rest()

    def _walk(self) -> None:
        for at, (name, values) in enumerate(self._report.actions):
            self._heart.at = self._errors.at = at
            self._tell((name, values))
            if self._hang:
                faulthandler.dump_traceback_later(2 * self._hang, exit=False, file=sys.__stderr__)
            if name == REOPEN:
                self._close()
                self._open()
                self._labels.forget()
            else:
                self._do(name, values)
            for gap in self._heart.gaps:
                if gap.at == at and gap.seconds > self._hang > 0:
                    self._errors.add("hang", f"no answer for {gap.seconds:.0f} s in {name}: {gap.stack}")
            self._report.done = at + 1
            if self._collect() and not self._go_on:
                return

    def _do(self, name: str, values: dict[str, Any]) -> None:
        """Do one action in the event loop, and look at what has come of it."""
        kind = KINDS[name]

        def act() -> None:
            try:
                reached = kind.do(self._desk, **values) is not False
            except Exception as error:
                self._errors.add_exception(f"exception in {name}", error)
            else:
                self._report.reached[name] += reached

        self._labels.prepare(kind)
        run_loop(_SETTLE_MS + int(1000 * values.get("seconds", 0)), act)
        begin = time.thread_time()
        for what, words in self._labels.look():
            self._errors.add(what, f"{words} (by {name})")
        self._listen()
        if time.thread_time() - begin > 0.02:
            self._heart.rest()

    def _listen(self) -> None:
        """Read what the docks say."""
        said = set(words_of(self._desk))
        for words in said - self._last_said:
            self._report.said[re.sub(r"[0-9.]+", "#", words)[:120]] += 1
            if is_bad(words):
                self._errors.add("words of a dock", words)
        self._last_said = said

    def _collect(self) -> bool:
        """Move what was found into the report; return whether this package had a part in any of it."""
        found, self._errors.found = self._errors.found, []
        self._report.foreign.update(trouble.signature for trouble in found if not trouble.ours)
        self._report.troubles += [trouble for trouble in found if trouble.ours]
        return any(trouble.ours for trouble in found)

    def _close(self) -> None:
        """Close the viewer in whatever it is doing, and look for what it leaves behind."""
        try:
            run_loop(50, self._desk.close)
        except Exception as error:
            self._errors.add_exception("exception while the viewer closes", error)
            # napari closes the window after the layers, which it could not remove.
            run_loop(50, self._desk.viewer.window.close)
        end = time.perf_counter() + _END
        while time.perf_counter() < end and (self._desk.children() or Engine.shared().state not in ("stopped", "dead")):
            run_loop(50)
        for process in self._desk.children():
            self._errors.add("orphan", f"{process.pid}: {' '.join(process.cmdline())[:200]}")
        forget_last_error()
        for _ in range(3):
            gc.collect()
            run_loop(50)
        self._desk.viewer = None
        left = [widget for widget in own_widgets() if id(widget) not in self._widgets]
        if left:
            self._errors.add("leaked widgets", str(Counter(type(widget).__name__ for widget in left)))
        if objects := own_objects():
            self._errors.add("leaked objects", str(objects))
        self._collect()
        self._heart.rest()
