"""Techniques by name, one line each."""

from __future__ import annotations

from sim.techniques.offload import Offload
from sim.techniques.technique import Technique

TECHNIQUES: dict[str, type[Technique]] = {
    Offload.name: Offload,
}
