"""Where and in which number format to compute; torch's errors as readable ones."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import torch

from ..errors import DeviceError, OutOfMemoryError


@dataclass(frozen=True)
class Compute:
    """A device and the number format of its convolutions.

    Attributes
    ----------
    device : torch.device
        Where tensors live.
    dtype : torch.dtype
        float32, or the type that autocast uses.
    """

    device: torch.device
    dtype: torch.dtype

    @property
    def precision(self) -> str:
        """The dtype's name, for example ``"bfloat16"``."""
        return str(self.dtype).removeprefix("torch.")

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Return the context in which the network runs in mixed precision."""
        if self.dtype == torch.float32:
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, self.dtype)


def available(device: str) -> bool:
    """Return whether the device can be used here."""
    if device == "cuda":
        return torch.cuda.is_available()
    if device == "mps":
        return torch.backends.mps.is_available()
    return device == "cpu"


def names() -> dict[str, str]:
    """Return the devices that can be used here, each with its name, fastest first."""
    return {device: _title(device) for device in ("cuda", "mps", "cpu") if available(device)}


def _title(device: str) -> str:
    """Return what a device is called."""
    if device == "cuda":
        return str(torch.cuda.get_device_name())
    return {"mps": "Apple GPU", "cpu": "processor"}[device]


def choose(device: str = "auto", precision: str = "auto") -> Compute:
    """Return where to compute.

    Parameters
    ----------
    device : str
        ``"auto"`` takes CUDA, then MPS, then the processor.
    precision : str
        ``"auto"`` takes bfloat16 where the processor or card has it, float16 on older cards.

    Raises
    ------
    DeviceError
        When the device is not there, or cannot compute in the precision.
    """
    if device == "auto":
        device = next(d for d in ("cuda", "mps", "cpu") if available(d))
    if not available(device):
        there = ", ".join(d for d in ("cuda", "mps", "cpu") if available(d))
        raise DeviceError(f"The device {device} is not available on this machine; take auto, or one of {there}.")
    if precision == "auto":
        precision = _fastest_precision(device)
    if precision == "float16" and device == "cpu":
        raise DeviceError("The processor does not compute in float16; take auto, bfloat16 or float32.")
    return Compute(torch.device(device), getattr(torch, precision))


def processor(precision: str) -> Compute:
    """Return the processor, to fall back to, in the wanted precision where it can compute in it."""
    return choose("cpu", "auto" if precision == "float16" else precision)


def _fastest_precision(device: str) -> str:
    """Return the fastest number format that loses no accuracy worth mentioning."""
    if device == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported(including_emulation=False) else "float16"
    if device == "cpu" and _cpu_has_bfloat16():
        return "bfloat16"
    return "float32"


def _cpu_has_bfloat16() -> bool:
    """Return whether the processor multiplies bfloat16 in hardware; emulated it is slower than float32."""
    check = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(check()) if check is not None else False


def free_memory(device: torch.device) -> int:
    """Return bytes that can still be taken on the device."""
    if device.type == "cuda":
        return int(torch.cuda.mem_get_info(device)[0])
    return int(psutil.virtual_memory().available)


@contextlib.contextmanager
def fixed_threads(count: int) -> Iterator[None]:
    """Let this thread's convolutions run as if the processor had so many cores, while the context lasts.

    They are cut up by this number, and other cuts round in other ways: with the same number a processor
    computes the same to the last bit, however many cores it really has.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


_NO_MEMORY = (
    "out of memory",
    "not enough memory",
    "can't allocate memory",
    "bad allocation",
    "could not create a memory",
)


@contextlib.contextmanager
def readable_errors(device: torch.device) -> Iterator[None]:
    """Turn torch's RuntimeErrors (out of memory is one) into the package's own errors.

    Raises
    ------
    OutOfMemoryError
        When the device has too little memory; its cache is freed first.
    DeviceError
        For any other failure of the device.
    """
    try:
        yield
    except MemoryError as error:
        raise OutOfMemoryError(f"Out of memory on {device}: {error}") from error
    except RuntimeError as error:
        if isinstance(error, torch.OutOfMemoryError) or any(words in str(error).lower() for words in _NO_MEMORY):
            if device.type == "cuda":
                torch.cuda.empty_cache()
            raise OutOfMemoryError(f"Out of memory on {device}: {str(error).splitlines()[0]}") from error
        raise DeviceError(f"The computation on {device} failed: {error}") from error
