"""Work in the background: what is read, computed and written at the same time, a few pieces at once and in order.

A job is a chain of stages, each of which takes its items from the one before. Reading and writing run in threads
of their own, the network in the thread that asks for the results::

    read 3      read 4        read 5        a thread: files, decompression, grey values to numbers
    network 2   network 3     network 4     the caller
    write 1     write 2       write 3       a thread: compression, files

No stage is more than a few items ahead of the next one, which bounds the memory. An error is raised where its
result is asked for, as it is; the items before it have been handed out by then.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from types import TracebackType
from typing import Generic, TypeVar

T = TypeVar("T")
R = TypeVar("R")


class OrderedWorker(Generic[T, R]):
    """Work on items in the background, in order.

    Use it as a context: at its end nothing runs any more, and what was not begun is dropped.

    Parameters
    ----------
    work : callable
        What is done with each item; with several workers it has to leave everything else as it is.
    workers : int
        Items that are worked on at once.
    most : int, optional
        Items that may wait or be worked on, before :meth:`put` waits for the oldest; ``workers`` by default.
    """

    def __init__(self, work: Callable[[T], R], workers: int = 1, most: int | None = None) -> None:
        self._work, self._most = work, most or workers
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="napari-unet")
        self._waiting: deque[tuple[T, Future[R]]] = deque()

    def __enter__(self) -> OrderedWorker[T, R]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(cancel_futures=True)

    def put(self, item: T) -> Iterator[tuple[T, R]]:
        """Begin with an item; yield those that are done, and wait for the oldest while too many are under way."""
        self._waiting.append((item, self._pool.submit(self._work, item)))
        while len(self._waiting) > self._most or self._oldest_is_done():
            yield self._take()

    def rest(self) -> Iterator[tuple[T, R]]:
        """Yield all others as they get done."""
        while self._waiting:
            yield self._take()

    def _oldest_is_done(self) -> bool:
        return bool(self._waiting) and self._waiting[0][1].done()

    def _take(self) -> tuple[T, R]:
        """Return the oldest item with its result, or raise its error."""
        item, future = self._waiting.popleft()
        return item, future.result()


def ahead(
    work: Callable[[T], R], every: Iterable[T], workers: int = 1, most: int | None = None
) -> Iterator[tuple[T, R]]:
    """Yield each item and what some work makes of it, in order, while the next ones are worked on.

    Parameters
    ----------
    work, workers, most
        See :class:`OrderedWorker`.
    every : iterable
        The items; the next one is asked for in the caller's thread, when there is room for it. When that
        fails, what was begun is still done and handed out, and the error raised then.

    Examples
    --------
    >>> list(ahead(str, [1, 2, 3]))
    [(1, '1'), (2, '2'), (3, '3')]
    """
    items = iter(every)
    with OrderedWorker(work, workers, most) as background:
        while True:
            try:
                item = next(items)
            except StopIteration:
                break
            except Exception:
                yield from background.rest()
                raise
            yield from background.put(item)
        yield from background.rest()


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


__all__ = ["OrderedWorker", "ahead", "cores"]
