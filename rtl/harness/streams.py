"""Plays a job on the unit: drives at the falling edge, samples just before the rising one, checks the protocol, records.

One coroutine does all of it. Sampling after ``RisingEdge`` would show old values in event-driven simulators and new ones
in Verilator; in ``ReadOnly`` after the falling edge both show what the rising edge is going to sample.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cocotb
import numpy as np
from cocotb.clock import Clock
from cocotb.triggers import FallingEdge, ReadOnly

from rtl.harness.bench import Bench, Job, Trace
from rtl.harness.cycle_model import MismatchError
from rtl.harness.unit import Beat

PERIOD_NS = 10
#: Edges without any transfer after which a job counts as stuck, and edges watched after the last output.
PATIENCE, LINGER = 600, 6


@dataclass(frozen=True)
class Rates:
    """Probability of valid per input stream and of ready per output stream (one number for all that are not named)."""

    valid: float = 1.0
    ready: float = 1.0
    of: Mapping[str, float] = field(default_factory=dict)

    def source(self, stream: str) -> float:
        return self.of.get(stream, self.valid)

    def sink(self, stream: str) -> float:
        return self.of.get(stream, self.ready)


class _Stream:
    """Handles of one stream."""

    def __init__(self, dut: Any, name: str, fields: Sequence[str]) -> None:
        self.name = name
        self.valid, self.ready = getattr(dut, f"{name}_valid"), getattr(dut, f"{name}_ready")
        self.fields = {f: getattr(dut, f"{name}_{f}") for f in fields}
        self.widths = {f: len(h) for f, h in self.fields.items()}


class Source(_Stream):
    """Offers beats; once offered, a beat stays until it is taken. Idle payload is X, or random where there is no X."""

    def __init__(self, dut: Any, name: str, fields: Sequence[str], has_x: bool) -> None:
        super().__init__(dut, name, fields)
        self.has_x = has_x
        self.queue: list[Beat] = []
        self.offered: Beat | None = None
        self.shown: Beat | None = {}

    def load(self, beats: Sequence[Beat]) -> None:
        self.queue, self.offered = list(reversed(beats)), None

    def drive(self, p: float, rng: np.random.Generator) -> None:
        if self.offered is None and self.queue and (p >= 1.0 or rng.random() < p):
            self.offered = self.queue.pop()
        if self.offered is self.shown:
            return
        self.valid.value = int(self.offered is not None)
        for f, handle in self.fields.items():
            handle.value = self.offered[f] if self.offered is not None else self._idle(self.widths[f], rng)
        self.shown = self.offered

    def _idle(self, width: int, rng: np.random.Generator) -> Any:
        if self.has_x:
            return cocotb.types.LogicArray("X" * width)
        return int.from_bytes(rng.bytes((width + 7) // 8), "little") & ((1 << width) - 1)

    def taken(self) -> Beat:
        beat = self.offered
        assert beat is not None
        self.offered = None
        return beat

    def silence(self, rng: np.random.Generator) -> None:
        self.load(())
        self.drive(0.0, rng)


class Sink(_Stream):
    """Takes beats with a probability; a waiting beat must stay as it is."""

    def __init__(self, dut: Any, name: str, fields: Sequence[str]) -> None:
        super().__init__(dut, name, fields)
        self.waiting: Beat | None = None
        self.shown = -1

    def drive(self, p: float, rng: np.random.Generator) -> bool:
        ready = int(p >= 1.0 or rng.random() < p)
        if ready != self.shown:
            self.ready.value = self.shown = ready
        return bool(ready)

    def sample(self, edge: int, valid: bool, ready: bool) -> Beat | None:
        """The beat on the stream if valid. Raises ``MismatchError`` if a stalled output changed or went away, or holds X."""
        if not valid:
            if self.waiting is not None:
                raise MismatchError(f"edge {edge}: {self.name}_valid was withdrawn before a transfer")
            return None
        beat = {f: number(h, f"edge {edge}: {self.name}_{f}") for f, h in self.fields.items()}
        if self.waiting is not None and beat != self.waiting:
            raise MismatchError(f"edge {edge}: {self.name} changed while stalled: {self.waiting} -> {beat}")
        self.waiting = None if ready else beat
        return beat


def number(handle: Any, what: str) -> int:
    """Value as an unsigned integer. Raises ``MismatchError`` if a bit is X or Z."""
    value = handle.value
    try:
        return int(value) if len(handle) == 1 else int(value.to_unsigned())
    except ValueError:
        raise MismatchError(f"{what} is {value}") from None


class Player:
    """The unit, its bench, and the streams between them."""

    def __init__(self, dut: Any, bench: Bench) -> None:
        self.dut, self.bench = dut, bench
        self.has_x = "verilator" not in cocotb.SIM_NAME.lower()
        self.sources = {s: Source(dut, s, fields, self.has_x) for s, fields in bench.inputs.items()}
        self.sinks = {s: Sink(dut, s, fields) for s, fields in bench.outputs.items()}
        self.edges = 0
        self.started = time.monotonic()

    async def start(self, rng: np.random.Generator) -> None:
        self.dut.clk.value = 0
        self.dut.rst.value = 1
        self.configure(dict.fromkeys(self.bench.cfg, 0))
        Clock(self.dut.clk, PERIOD_NS, unit="ns").start()
        await self.reset(rng)

    def configure(self, cfg: Mapping[str, int]) -> None:
        for name, value in cfg.items():
            getattr(self.dut, f"cfg_{name}").value = value

    async def reset(self, rng: np.random.Generator, edges: int = 2) -> None:
        """Reset; afterwards every valid output and every flag must be 0."""
        for source in self.sources.values():
            source.silence(rng)
        for sink in self.sinks.values():
            sink.waiting = None
            sink.drive(1.0, rng)
        self.dut.rst.value = 1
        for _ in range(edges):
            await FallingEdge(self.dut.clk)
        self.dut.rst.value = 0
        await ReadOnly()
        for s, sink in self.sinks.items():
            if number(sink.valid, f"after reset: {s}_valid"):
                raise MismatchError(f"after reset: {s}_valid is 1")
        for name, value in self.flags().items():
            if value:
                raise MismatchError(f"after reset: {name} is {value}")
        await FallingEdge(self.dut.clk)

    def flags(self) -> dict[str, int]:
        return {f: number(getattr(self.dut, f), f) for f in self.bench.flags}

    async def play(self, job: Job, rates: Rates, rng: np.random.Generator, *, stop_at: int | None = None) -> Trace:
        """Offer the job's beats, record every edge until all outputs were taken (or until ``stop_at``)."""
        self.configure(job.cfg)
        for s, source in self.sources.items():
            source.load(job.beats.get(s, ()))
        trace = Trace({s: [] for s in self.sources}, {s: [] for s in self.sinks}, {s: [] for s in (*self.sources, *self.sinks)},
                      {s: [] for s in (*self.sources, *self.sinks)})
        quiet, left, due = 0, LINGER, None
        while stop_at is None or trace.edges < stop_at:
            quiet = 0 if await self._edge(trace, rates, rng) else quiet + 1
            if due is None and not any(x.queue or x.offered for x in self.sources.values()):
                due = {s: len(b) for s, b in self.bench.predict(job.cfg, trace.seen(self.sources)).items()}
            if due is not None and all(len(trace.moved[s]) >= n for s, n in due.items()):
                left -= 1
            if left < 0:
                break
            if quiet > PATIENCE:
                raise MismatchError(f"stuck at edge {trace.edges}: " + ", ".join(
                    f"{s} {len(m)} beats" for s, m in trace.moved.items()) + (f", due {due}" if due else ""))
        trace.flags = self.flags()
        self.edges += trace.edges
        return trace

    async def _edge(self, trace: Trace, rates: Rates, rng: np.random.Generator) -> bool:
        """One rising edge; true if any beat moved."""
        edge, moved = trace.edges, False
        for s, source in self.sources.items():
            source.drive(rates.source(s), rng)
            trace.offers[s].append(source.offered)
        ready = {s: sink.drive(rates.sink(s), rng) for s, sink in self.sinks.items()}
        await ReadOnly()
        for s, source in self.sources.items():
            takes = bool(number(source.ready, f"edge {edge}: {s}_ready"))
            trace.ready[s].append(takes)
            if takes and source.offered is not None:
                trace.moved[s].append((edge, source.taken()))
                moved = True
        for s, sink in self.sinks.items():
            valid = bool(number(sink.valid, f"edge {edge}: {s}_valid"))
            beat = sink.sample(edge, valid, ready[s])
            trace.valid[s].append(valid)
            trace.ready[s].append(ready[s])
            if beat is not None and ready[s]:
                trace.moved[s].append((edge, beat))
                moved = True
        await FallingEdge(self.dut.clk)
        return moved
