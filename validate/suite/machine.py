"""Which device file describes the measured machine; for one that no file describes, a first file from measured rows."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from accel_models.registry import list_devices, load_device
from validate.measured import Table, read

#: FLOP per core and clock in fp32, by what /proc/cpuinfo lists: two 256-bit FMA pipes (Haswell to Zen 4), two 512-bit
#: ones on Intel's servers with AVX-512; one 128-bit pipe is the floor.
_FLOP_PER_CLOCK = {"avx2": 32, "avx512_intel": 64, "": 8}


def known_name(reported: str) -> str:
    """Shipped device whose title is what the driver reports ("NVIDIA H200" -> h200_sxm); "" if none or several fit."""
    wanted = _plain(reported)
    exact = [d for d in list_devices() if wanted in {_plain(t) for t in (load_device(d).title, d, *load_device(d).aliases)}]
    return exact[0] if len(exact) == 1 else ""


def slug(reported: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", re.sub(r"\((r|tm)\)|\bcpu\b|processor|@.*", "", reported.lower())).strip("_") or "machine"


def _plain(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "", text.lower().replace("nvidia", "").replace("geforce", "").replace("amd", ""))


def device_toml(directory: Path, device: str, facts: Mapping[str, Any]) -> str:
    """A device file for a measured CPU. Rates and bandwidths are the best that the suite saw; they are marked measured.

    The peak rate is that of the cores where their clock is known (assumed: two 256-bit FMA pipes), else the best product.
    """
    micro, gemm = _own(read("micro", directory), device), _own(read("gemm", directory), device)
    cores, clock = int(facts.get("cores") or 1), float(facts.get("clock_hz") or 0.0)
    best = float((2.0 * gemm["m"] * gemm["n"] * gemm["k"] * gemm["batch"] / gemm["time_s"]).max())
    nominal = cores * clock * _FLOP_PER_CLOCK[flop_class()]
    rate, kind = nominal, "derived"
    why = f"{cores} cores x {clock / 1e9:.2f} GHz x {_FLOP_PER_CLOCK[flop_class()]} FLOP/cycle"
    if nominal < best:
        rate, kind, why = best, "measured", "best matrix product of the suite"
    copies = micro.where(micro["op"] == "copy")
    bandwidth = copies["bytes"] / copies["time_s"]
    cold = (copies["cache"] == "cold") if (copies["cache"] == "cold").any() else copies["bytes"] == copies["bytes"].max()
    source = 'kind = "measured", source = "perfboard calibrate measure"'
    return "\n".join([
        f'name = "{device}"', f'title = "{facts["device_name"]}"', 'vendor = "measured"', 'kind = "cpu"',
        f'generation = "{device}"', 'main_memory = "ddr"',
        'notes = "From rows of this machine (perfboard calibrate measure): replace by datasheet figures where known."',
        "", "[engine.vector]", 'kind = "cpu_simd"',
        f'units = {{ value = {cores}, {source} }}',
        *([f'clock = {{ value = "{clock / 1e9:.4g} GHz", {source}, note = "at the time of measuring" }}'] if clock else []),
        f'rate.fp32 = {{ value = "{rate / 1e9:.4g} GFLOP/s", kind = "{kind}", note = "{why}" }}',
        "", "[memory.ddr]", 'level = "dram"',
        f'capacity = {{ value = "{float(facts["memory_bytes"]) / 2 ** 30:.4g} GiB", {source} }}',
        f'bandwidth = {{ value = "{float(bandwidth[cold].max()) / 1e9:.4g} GB/s", {source}, note = "best cold copy" }}',
        "", "[memory.l2]", 'level = "cache"',
        f'capacity = {{ value = "{float(facts["cache_bytes"]) / 2 ** 20:.4g} MiB", {source}, note = "last-level cache" }}',
        f'bandwidth = {{ value = "{float(bandwidth.max()) / 1e9:.4g} GB/s", {source}, note = "best copy from any cache" }}',
    ]) + "\n"


def flop_class() -> str:
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    if "avx512f" in text and "GenuineIntel" in text:
        return "avx512_intel"
    return "avx2" if "avx2" in text else ""


def _own(t: Table, device: str) -> Table:
    return t.where(t["device"] == device)
