"""Board power, clock and temperature while kernels run: NVML sampled by a thread; blank where there is no NVML."""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

_GRAPHICS, _MEMORY = 0, 2               # NVML_CLOCK_GRAPHICS, NVML_CLOCK_MEM
_GPU_TEMPERATURE = 0


class Reading(NamedTuple):
    """Board power [W], processor clock [Hz] and temperature [C] at one moment."""

    watts: float
    clock: float
    celsius: float


class Nvml:
    """One GPU through libnvidia-ml, by PCI address (``CUDA_VISIBLE_DEVICES`` renumbers devices, the address stays)."""

    def __init__(self, library: Any, pci_bus: str = "") -> None:
        self.lib = library
        self.handle = ctypes.c_void_p()
        self._check(library.nvmlInit_v2())
        if pci_bus:
            self._check(library.nvmlDeviceGetHandleByPciBusId_v2(pci_bus.encode(), ctypes.byref(self.handle)))
        else:
            self._check(library.nvmlDeviceGetHandleByIndex_v2(ctypes.c_uint(0), ctypes.byref(self.handle)))

    def read(self) -> Reading:
        return Reading(1e-3 * self._number("nvmlDeviceGetPowerUsage"),
                       1e6 * self._number("nvmlDeviceGetClockInfo", _GRAPHICS),
                       self._number("nvmlDeviceGetTemperature", _GPU_TEMPERATURE))

    def describe(self) -> dict[str, Any]:
        text = ctypes.create_string_buffer(96)
        self._check(self.lib.nvmlSystemGetDriverVersion(text, ctypes.c_uint(96)))
        now = self.read()
        return {"driver": text.value.decode(), "clock_hz": now.clock, "celsius": now.celsius,
                "clock_max_hz": 1e6 * self._number("nvmlDeviceGetMaxClockInfo", _GRAPHICS),
                "memory_clock_hz": 1e6 * self._number("nvmlDeviceGetClockInfo", _MEMORY),
                "power_limit_w": 1e-3 * self._number("nvmlDeviceGetEnforcedPowerLimit"), "idle_power_w": now.watts}

    def _number(self, function: str, *args: int) -> float:
        """One unsigned figure; NaN where this board does not tell."""
        out = ctypes.c_uint()
        code = getattr(self.lib, function)(self.handle, *(ctypes.c_uint(a) for a in args), ctypes.byref(out))
        return float(out.value) if code == 0 else float("nan")

    @staticmethod
    def _check(code: int) -> None:
        if code != 0:
            raise OSError(f"NVML: error {code}")


def open_nvml(pci_bus: str = "") -> Nvml | None:
    """NVML of the machine; None where there is none or it refuses."""
    try:
        return Nvml(ctypes.CDLL("libnvidia-ml.so.1"), pci_bus)
    except (OSError, AttributeError):
        return None


class Sampler:
    """Samples in the background while the ``with`` block runs; ``watts`` is then the mean, NaN without samples.

    The sensor averages over some 25 to 100 ms: readings of the first 50 ms still show what ran before and are left out
    as soon as later ones exist.
    """

    def __init__(self, read: Callable[[], Reading] | None, period: float = 0.02, settle: float = 0.05) -> None:
        self.read, self.period, self.skip = read, period, int(settle / period)
        self.samples: list[Reading] = []
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Sampler:
        if self.read is not None:
            self._thread = threading.Thread(target=self._run, daemon=True)
            self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        assert self.read is not None, "started only with a reader"
        while not self._stop.wait(self.period):
            self.samples.append(self.read())

    def mean(self, field: str) -> float:
        kept = self.samples[self.skip:] or self.samples
        values = np.array([getattr(s, field) for s in kept])
        return float(np.mean(values)) if len(values) and np.isfinite(values).all() else float("nan")
