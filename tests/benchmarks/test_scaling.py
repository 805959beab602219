import pytest

import scaling


def test_what_is_touched_is_whole_chunks():
    # One task, nothing around it: each pixel once.
    assert scaling.touched(1024, 1024, 90, 256) == 1
    # Two tasks per axis, each with one chunk of its neighbour.
    assert scaling.touched(2048, 1024, 90, 256) == pytest.approx(((1024 + 256) * 2 / 2048) ** 2)
    # The last chunk is cut off by the plane.
    assert scaling.touched(1500, 1024, 90, 1024) == pytest.approx(((1500 + 1500) / 1500) ** 2)


def test_traffic_names_every_step():
    steps = scaling.traffic(8192, 256, 2, 92, 2)
    assert [s.name for s in steps] == ["network", "pieces", "regions", "numbers", "smaller versions"]
    assert steps[0].written == 4 and steps[0].read == pytest.approx(2 * 2.07, abs=0.02)


def test_the_slowest_of_workers_scheduler_and_files_counts():
    free = scaling.many(1.0, 0.0, 0.0, 0.0, 1000.0)
    assert free == [1.0] * len(scaling.WORKERS)
    # 1 GB/s carries 100 Mpx/s of 10 bytes: 128 workers share them.
    files = dict(zip(scaling.WORKERS, scaling.many(1.0, 0.0, 0.0, 10.0, 1000.0), strict=True))
    assert files[64] == 1.0 and files[128] == pytest.approx(100 / 128)
    joining = dict(zip(scaling.WORKERS, scaling.many(1.0, 0.0, 1 / 64, 0.0, 1000.0), strict=True))
    assert joining[64] == pytest.approx(0.5)
