"""Functional bins of units with one input stream ``s`` (field ``last``) through a rigid pipeline of two stages."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from rtl.harness.bench import Trace

PIPE_BINS = ("one beat", "many beats", "stall: result waits, next in stage 1", "gap in a result")


def pipe_bins(trace: Trace) -> Iterator[str]:
    """Names out of ``PIPE_BINS`` that a trace reached."""
    length = 0
    for _, beat in trace.moved["s"]:
        length += 1
        if beat["last"]:
            yield PIPE_BINS[0] if length == 1 else PIPE_BINS[1]
            length = 0
    if any(s["stage 1"] and s["stage 2"] and not trace.ready["out"][t] for t, s in enumerate(trace.states)):
        yield PIPE_BINS[2]
    moved = trace.moved["s"]
    for (t, beat), (later, _) in pairwise(moved):
        if not beat["last"] and any(trace.offers["s"][e] is None and trace.ready["s"][e] for e in range(t + 1, later)):
            yield PIPE_BINS[3]
