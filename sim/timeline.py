"""Timelines of a simulation: Chrome JSON and Perfetto traces, a track for each engine, memory and link."""

from __future__ import annotations

from pathlib import Path

from sim.simulate import Simulated


def write_timeline(result: Simulated, path: Path) -> None:
    raise NotImplementedError(path)
