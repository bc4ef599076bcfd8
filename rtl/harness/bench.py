"""What a unit's ``bench.py`` provides: jobs to play, and what the golden model makes of the beats that were seen."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtl.harness.unit import Beat, Params, Unit

Seen = Mapping[str, Sequence[Beat]]


@dataclass(frozen=True)
class Job:
    """One configuration and the beats of each input stream.

    ``work``: keyword arguments of the unit's ``cycles``; empty where the contract does not apply.
    ``expected``: outputs from an oracle other than ``Bench.predict`` (plain numpy on the operands), checked as well.
    """

    beats: Mapping[str, Sequence[Beat]]
    cfg: Mapping[str, int] = field(default_factory=dict)
    work: Mapping[str, int] = field(default_factory=dict)
    expected: Mapping[str, Sequence[Beat]] = field(default_factory=dict)
    name: str = ""


@dataclass
class Trace:
    """What happened at each rising edge from the first offer on (edge 0 is the first entry of each list)."""

    offers: dict[str, list[Beat | None]]      #: input stream -> beat offered at this edge
    valid: dict[str, list[bool]]              #: output stream -> its valid
    ready: dict[str, list[bool]]              #: every stream -> ready
    moved: dict[str, list[tuple[int, Beat]]]  #: every stream -> (edge, beat) of each transfer
    states: list[dict[str, int]] = field(default_factory=list)   #: state of the cycle model before each edge
    flags: dict[str, int] = field(default_factory=dict)          #: flag outputs at the end

    @property
    def edges(self) -> int:
        return max((len(v) for v in self.ready.values()), default=0)

    def seen(self, streams: Iterable[str]) -> dict[str, list[Beat]]:
        """Beats transferred on these streams, in order."""
        return {s: [b for _, b in self.moved[s]] for s in streams}

    def took(self) -> int:
        """T: edge of the last output transfer minus edge of the first input transfer."""
        last = max(self.moved[s][-1][0] for s in self.valid if self.moved[s])
        return last - min(self.moved[s][0][0] for s in self.offers if self.moved[s])

    def stalls(self) -> int:
        """S: edges at which an output was valid and not ready."""
        return sum(any(self.valid[s][t] and not self.ready[s][t] for s in self.valid) for t in range(self.edges))

    def bubbles(self) -> int:
        """B: edges between a stream's first and last input transfer at which the unit was ready and the source had nothing."""
        held: set[int] = set()
        for s in self.offers:
            if at := [t for t, _ in self.moved[s]]:
                held |= {t for t in range(at[0], at[-1]) if self.ready[s][t] and self.offers[s][t] is None}
        return len(held)


class Bench(ABC):
    """One unit under test with one set of parameters. Ports are named ``<stream>_<field>`` and ``cfg_<name>``."""

    unit: ClassVar[Unit]
    inputs: ClassVar[Mapping[str, tuple[str, ...]]]      #: stream -> payload fields
    outputs: ClassVar[Mapping[str, tuple[str, ...]]]
    cfg: ClassVar[tuple[str, ...]] = ()
    flags: ClassVar[tuple[str, ...]] = ()                #: outputs compared at the end of a job (err, counters)
    counters: ClassVar[tuple[str, ...]] = ()             #: flags that count events since reset (16 bits, wrap); others stick

    def __init__(self, params: Params) -> None:
        self.p = self.unit.resolve(params)

    @abstractmethod
    def random_job(self, rng: np.random.Generator) -> Job:
        """A small job (about 10 to 100 edges), constrained random."""

    @abstractmethod
    def sweep(self) -> Iterator[Job]:
        """Jobs over all sizes and configurations on which the cycle contract is asserted exactly."""

    @abstractmethod
    def corners(self) -> Iterator[Job]:
        """Directed jobs: extremes and all codes of the formats."""

    @abstractmethod
    def predict(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, list[Beat]]:
        """Golden model: outputs that the seen input beats must give. Incomplete results give none."""

    def predict_flags(self, cfg: Mapping[str, int], seen: Seen) -> dict[str, int]:
        """Flag outputs after these beats (sticky ones since reset are kept by the caller)."""
        return {}

    def cover(self, job: Job, trace: Trace) -> Iterable[str]:
        """Names of the functional bins that this trace reached."""
        return ()


def pack(values: ArrayLike, width: int) -> int:
    """Lanes of ``width`` bits into one integer, lane 0 in the least significant bits."""
    mask = (1 << width) - 1
    total = 0
    for i, v in enumerate(np.asarray(values).reshape(-1).tolist()):
        total |= (int(v) & mask) << (i * width)
    return total


def unpack(raw: int, width: int, lanes: int, *, signed: bool = True) -> NDArray[np.int64]:
    """Inverse of :func:`pack`: int64[lanes]."""
    mask, top = (1 << width) - 1, 1 << (width - 1)
    lane = [(raw >> (i * width)) & mask for i in range(lanes)]
    return np.array([v - (1 << width) if signed and v & top else v for v in lane], dtype=np.int64)


def wrap(value: int, width: int) -> int:
    """Raw bits of an integer in ``width`` bits."""
    return int(value) & ((1 << width) - 1)
