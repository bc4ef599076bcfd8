"""How long a storage memory takes to deliver what a move asks for."""

from __future__ import annotations

from sim.plan.block import Move
from sim.plan.board import Tier


def read_seconds(tier: Tier, move: Move) -> float:
    """Time of one move out of a storage memory. [s]"""
    latency = tier.spec.latency.value if tier.spec.latency else 0.0
    return latency + move.nbytes / tier.bandwidth
