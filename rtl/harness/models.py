"""Handshake-level models that several units share. Pure Python: contracts import them."""

from __future__ import annotations

from collections.abc import Mapping

from rtl.harness.unit import Beat


class RigidPipe:
    """One input stream through ``depth`` registers that move together; an output where a beat's ``last`` is set.

    ``depth`` counts the output register, so that L = ``depth``. Without a field ``last`` every beat gives an output.
    """

    def __init__(self, depth: int, stream: str = "s", last: str = "last", out: str = "out") -> None:
        self.stream, self.last, self.out = stream, last, out
        self.stages = [False] * depth      #: stage holds a beat (the last one: an output)
        self.lasts = [False] * depth

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        adv = not self.stages[-1] or sinks[self.out]
        says = {self.stream: adv, self.out: self.stages[-1]}
        if adv:
            beat = offers[self.stream]
            self.stages = [beat is not None, *self.stages[:-1]]
            self.lasts = [beat is not None and bool(beat.get(self.last, 1)), *self.lasts[:-1]]
            self.stages[-1] = self.stages[-1] and self.lasts[-1]
        return says

    def state(self) -> dict[str, int]:
        return {f"stage {i + 1}": int(v) for i, v in enumerate(self.stages)}


class ElasticPipe:
    """One input stream through ``depth`` registers, each of which moves as soon as the next is free."""

    def __init__(self, depth: int, stream: str = "s", out: str = "out") -> None:
        self.stream, self.out = stream, out
        self.stages = [False] * depth

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]:
        free = [False] * len(self.stages) + [sinks[self.out]]
        for i in reversed(range(len(self.stages))):
            free[i] = not self.stages[i] or free[i + 1]
        says = {self.stream: free[0], self.out: self.stages[-1]}
        feed = [offers[self.stream] is not None, *self.stages[:-1]]
        self.stages = [feed[i] if free[i] else self.stages[i] for i in range(len(self.stages))]
        return says

    def state(self) -> dict[str, int]:
        return {f"stage {i + 1}": int(v) for i, v in enumerate(self.stages)}
