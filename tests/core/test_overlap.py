from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from napari_unet.core.data.prefetch import OrderedWorker, ahead, cores
from napari_unet.core.errors import StoreError


@pytest.mark.parametrize(("workers", "most"), [(1, None), (1, 3), (4, None), (3, 8)])
def test_items_come_in_order_and_few_are_under_way(workers: int, most: int | None) -> None:
    begun: list[int] = []

    def work(item: int) -> int:
        begun.append(item)
        time.sleep(0.002 * (item % 3))
        return item * 2

    found = []
    for item, result in ahead(work, range(40), workers, most):
        found.append((item, result))
        assert len(begun) <= len(found) + (most or workers) + 1
    assert found == [(n, 2 * n) for n in range(40)] and sorted(begun) == list(range(40))
    assert list(ahead(work, [], workers, most)) == []


def test_items_are_asked_for_when_there_is_room() -> None:
    asked: list[int] = []

    def items() -> Iterator[int]:
        for n in range(10):
            asked.append(n)
            yield n

    found = ahead(str, items(), 1, 2)
    assert next(found) == (0, "0") and len(asked) <= 3


def test_one_works_while_the_other_does() -> None:
    both = threading.Barrier(2, timeout=30)
    # Each item needs the caller to be at work at the same time: without a thread the barrier breaks.
    background = OrderedWorker(lambda _: both.wait(), 1)
    with background:
        assert list(background.put("a")) == []
        both.wait()
        assert [item for item, _ in background.rest()] == ["a"]


def test_an_error_is_raised_in_its_place_as_it_is_and_what_waits_is_dropped() -> None:
    done: list[int] = []

    def work(item: int) -> int:
        if item == 3:
            raise StoreError("page 3 is cut off")
        done.append(item)
        return item

    found = []
    with pytest.raises(StoreError, match="page 3 is cut off"):
        for item, _ in ahead(work, range(1000), 2):
            found.append(item)
    assert found == [0, 1, 2] and len(done) < 20


def test_when_items_fail_what_was_begun_is_done() -> None:
    def items() -> Iterator[int]:
        yield from range(5)
        raise StoreError("no more")

    found = []
    with pytest.raises(StoreError, match="no more"):
        for item, _ in ahead(str, items(), 1, 4):
            found.append(item)
    assert found == [0, 1, 2, 3, 4]


def test_nothing_runs_any_more_when_it_is_closed() -> None:
    before, done = threading.active_count(), []

    def work(item: int) -> None:
        time.sleep(0.01)
        done.append(item)

    steps = ahead(work, range(100), 2)
    next(steps)
    steps.close()  # type: ignore[attr-defined]
    assert threading.active_count() == before and 0 < len(done) < 10


def test_cores_are_at_least_one() -> None:
    assert cores() >= 1
