"""Checks of a recorded trace: the handshake-level model edge by edge, the protocol, the laws of T, S and B."""

from __future__ import annotations

from collections.abc import Mapping

from rtl.harness.bench import Trace
from rtl.harness.unit import Model


class MismatchError(AssertionError):
    """The unit did something else than its specification; the text says where."""


def replay(model: Model, cfg: Mapping[str, int], trace: Trace) -> None:
    """Run the cycle model along a trace; fills ``trace.states``.

    Raises ``MismatchError`` at the first edge at which ready of an offered input or valid of an output differs.
    """
    for t in range(trace.edges):
        trace.states.append(model.state())
        offers = {s: trace.offers[s][t] for s in trace.offers}
        says = model.step(cfg, offers, {s: trace.ready[s][t] for s in trace.valid})
        for s in trace.valid:
            if says[s] != trace.valid[s][t]:
                raise MismatchError(f"edge {t}: {s}_valid is {int(trace.valid[s][t])}, the cycle model says {int(says[s])}")
        for s, beat in offers.items():
            if beat is not None and says[s] != trace.ready[s][t]:
                raise MismatchError(f"edge {t}: {s}_ready is {int(trace.ready[s][t])}, the cycle model says {int(says[s])}")


def assert_contract(trace: Trace, cycles: int, what: object = "") -> None:
    """T equals the contract."""
    if (took := trace.took()) != cycles:
        raise MismatchError(f"T = {took} edges, the contract says {cycles} {what}")


def assert_law(trace: Trace, cycles: int, law: str, *, steady: bool) -> None:
    """T under stalls. ``steady``: sources were always valid, or there is one input stream, so that B counts exactly."""
    took, stalls, bubbles = trace.took(), trace.stalls(), trace.bubbles()
    most = cycles + stalls + bubbles
    exact = law.startswith("R") and steady
    if (took != most) if exact else not cycles <= took <= most:
        raise MismatchError(f"T = {took} edges with S = {stalls}, B = {bubbles}; class {law} allows "
                       + (f"{most} exactly" if exact else f"{cycles} to {most}"))
