"""Joules that a job takes, from the counters of the machine; where there are none, nothing is said.

Linux counts what processors take in /sys/class/powercap (Intel's and AMD's RAPL; often only root may read it), and
NVIDIA's driver what a GPU takes (from Volta on). Both count everything that runs there, so a job is measured only by
counters of parts that it has to itself: processors where one job runs at a time, GPUs that are its own.
"""

from __future__ import annotations

import ctypes
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

POWERCAP = Path("/sys/class/powercap")
PROCESSORS, GPUS = "processors", "GPUs"
_EVERY = 20.0  # seconds between looks; a processor's counter starts again from 0 after minutes
_MICRO, _MILLI = 1e-6, 1e-3

# What a counter reads, in joules, and where it starts again from 0 (infinity: never).
Counter = tuple[Callable[[], float], float]


class Meter:
    """Adds up what counters count from now on.

    Args:
        counters: part of the machine -> its counters; a part without any is not measured.
    """

    def __init__(self, counters: Mapping[str, Sequence[Counter]]) -> None:
        self._counters = {part: list(own) for part, own in counters.items() if own}
        self._spent = dict.fromkeys(self._counters, 0.0)
        self._last: dict[str, list[float]] = {}
        self._looked = 0.0
        self.look()

    def look(self, now: bool = True) -> None:
        """Read the counters; with `now` False only if the last look is long ago. A part that fails is given up."""
        if not now and time.monotonic() - self._looked < _EVERY:
            return
        self._looked = time.monotonic()
        for part, own in list(self._counters.items()):
            try:
                read = [counter() for counter, _ in own]
            except (OSError, ValueError):
                del self._counters[part], self._spent[part]
                continue
            for (_, limit), before, after in zip(own, self._last.get(part, read), read, strict=True):
                self._spent[part] += after - before + (limit if after < before else 0.0)
            self._last[part] = read

    def joules(self) -> dict[str, float]:
        """Part of the machine -> joules so far; empty where nothing can be measured."""
        self.look()
        return {part: round(spent, 1) for part, spent in self._spent.items()}


def counters(processors: bool, gpus: Sequence[str]) -> dict[str, list[Counter]]:
    """The counters of this machine's processors with their memory, and of the GPUs of these numbers."""
    return {PROCESSORS: _of_processors(POWERCAP) if processors else [], GPUS: _of_gpus(gpus)}


def _of_processors(powercap: Path) -> list[Counter]:
    """One for each processor, and for memory that is counted apart; none if one of them cannot be read."""
    found: list[Counter] = []
    try:
        for zone in sorted(powercap.glob("*rapl:*")):
            if (zone / "name").read_text().strip().startswith(("package", "dram")):
                file = zone / "energy_uj"
                limit = float((zone / "max_energy_range_uj").read_text()) * _MICRO
                found.append((lambda file=file: float(file.read_text()) * _MICRO, limit))  # type: ignore[misc]
                found[-1][0]()
    except (OSError, ValueError):
        return []
    return found


def _of_gpus(gpus: Sequence[str]) -> list[Counter]:
    """By NVIDIA's management library; none without it, or if it does not know one of the GPUs."""
    if not gpus or not all(gpu.isdecimal() for gpu in gpus):
        return []
    try:
        library = ctypes.CDLL("libnvidia-ml.so.1")
        if library.nvmlInit_v2() or not _alike(library):
            return []
        found = [_of_gpu(library, int(gpu)) for gpu in gpus]
        for counter, _ in found:
            counter()
    except (OSError, AttributeError):
        return []
    return found


def _alike(library: ctypes.CDLL) -> bool:
    """Whether all GPUs are of one kind: else CUDA may number them by speed, and the library's numbers are others."""
    count, names = ctypes.c_uint(), set()
    library.nvmlDeviceGetCount_v2(ctypes.byref(count))
    for index in range(count.value):
        name = ctypes.create_string_buffer(96)
        library.nvmlDeviceGetName(_handle(library, index), name, len(name))
        names.add(name.value)
    return len(names) == 1


def _handle(library: ctypes.CDLL, index: int) -> ctypes.c_void_p:
    handle = ctypes.c_void_p()
    if library.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(handle)):
        raise OSError(f"NVML knows no GPU {index}")
    return handle


def _of_gpu(library: ctypes.CDLL, index: int) -> Counter:
    handle = _handle(library, index)

    def read() -> float:
        value = ctypes.c_ulonglong()
        if library.nvmlDeviceGetTotalEnergyConsumption(handle, ctypes.byref(value)):
            raise OSError(f"NVML does not tell what GPU {index} takes")
        return value.value * _MILLI

    return read, float("inf")
