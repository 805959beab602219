from __future__ import annotations

import pytest
import torch

from napari_unet.core.errors import DeviceError, OutOfMemoryError, UNetError
from napari_unet.core.network import device
from napari_unet.core.network.device import Compute, available, choose, free_memory, processor, readable_errors

CPU = torch.device("cpu")


def test_the_fastest_device_comes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    for there, expected in (({"cpu"}, "cpu"), ({"cpu", "mps"}, "mps"), ({"cpu", "mps", "cuda"}, "cuda")):
        monkeypatch.setattr(device, "available", there.__contains__)
        monkeypatch.setattr(device, "_fastest_precision", lambda d: "float32")
        assert choose().device.type == expected


def test_a_missing_device_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(device, "available", lambda d: d == "cpu")
    with pytest.raises(DeviceError, match="cuda is not available on this machine; take auto, or one of cpu"):
        choose("cuda")
    assert not available("toaster")


def test_the_processor_has_no_float16() -> None:
    with pytest.raises(DeviceError, match="float16"):
        choose("cpu", "float16")
    assert processor("float16").dtype in (torch.float32, torch.bfloat16)
    assert processor("float32").dtype == torch.float32


@pytest.mark.parametrize("has", [True, False])
def test_bfloat16_where_the_processor_has_it(monkeypatch: pytest.MonkeyPatch, has: bool) -> None:
    monkeypatch.setattr(device, "_cpu_has_bfloat16", lambda: has)
    assert choose("cpu").precision == ("bfloat16" if has else "float32")
    assert choose("cpu", "float32").precision == "float32"


def test_autocast_is_on_in_mixed_precision_only() -> None:
    with Compute(CPU, torch.bfloat16).autocast():
        assert torch.is_autocast_enabled("cpu")
    with Compute(CPU, torch.float32).autocast():
        assert not torch.is_autocast_enabled("cpu")


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate"),
        RuntimeError("[enforce fail at alloc_cpu.cpp] . DefaultCPUAllocator: can't allocate memory: you tried"),
        RuntimeError("could not create a memory object"),
        RuntimeError("MPS backend out of memory"),
        MemoryError("Unable to allocate 8 GiB"),
    ],
)
def test_lack_of_memory_is_recognised(error: Exception) -> None:
    with pytest.raises(OutOfMemoryError, match="Out of memory on cpu"), readable_errors(CPU):
        raise error


def test_other_failures_are_the_devices_and_ours_pass_through() -> None:
    with pytest.raises(DeviceError, match="on cpu failed: no kernel") as caught, readable_errors(CPU):
        raise RuntimeError("no kernel")
    assert not isinstance(caught.value, OutOfMemoryError) and isinstance(caught.value.__cause__, RuntimeError)
    with pytest.raises(UNetError, match="^mine$"), readable_errors(CPU):
        raise UNetError("mine")


def test_a_real_allocation_that_cannot_succeed() -> None:
    with pytest.raises(OutOfMemoryError), readable_errors(CPU):
        torch.empty(2**50, dtype=torch.uint8)


def test_there_is_some_memory() -> None:
    assert free_memory(CPU) > 2**20
