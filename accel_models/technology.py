"""Technology factors by process node: ``technology.toml`` as numbers, and the node that a vendor's name means."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Any

import numpy as np


@cache
def raw() -> dict[str, Any]:
    """The file as it stands: each number a table with value, kind and source or note."""
    return tomllib.loads(resources.files("accel_models").joinpath("technology.toml").read_text(encoding="utf-8"))


@cache
def nodes() -> tuple[str, ...]:
    """Nodes of the table, as vendors name them in nanometres."""
    return tuple(raw()["node"])


@cache
def node(name: str | float) -> Mapping[str, float]:
    """Factors of the nearest node for ``"28"``, ``"28 nm"``, ``"TSMC 4N"`` or a number of nanometres."""
    return {k: float(q["value"]) for k, q in raw()["node"][node_of(str(name))].items()}


@cache
def common() -> Mapping[str, float]:
    """Factors that do not go by node."""
    return {k: float(q["value"]) for k, q in raw()["common"].items()}


def assumptions(*names: str) -> list[str]:
    """What areas, energies and prices rest on without being known, one a line, as the table says it; all, or those named."""
    return [f"{k} = {q['value']:g} ({q.get('note') or q.get('source', '')})" for k, q in raw()["common"].items()
            if q["kind"] == "assumed" and (not names or k in names)]


def node_of(process: str) -> str:
    """Nearest node of the table for a text such as "TSMC 4N", "12 nm" or "28". Raises ``ValueError`` where it names none."""
    found = re.search(r"(\d+(?:\.\d+)?)\s*(?:nm|N\b|FFN|LPP)|N\s*(\d+)|^(\d+(?:\.\d+)?)$", process)
    if not found or not float(found[1] or found[2] or found[3]):
        raise ValueError(f"area.process: no node in {process!r}; write it as '7 nm'")
    nm = float(found[1] or found[2] or found[3])
    return min(nodes(), key=lambda n: abs(np.log(float(n) / nm)))
