"""Bounded proofs of the handshake: no input sequence of so many edges from reset breaks an assertion of ``formal.sv``.

A unit may have ``formal.sv`` in its folder: a module ``<unit>_formal`` with the unit in a small configuration, free inputs
and assertions. Yosys's own SAT solver does it, so nothing beyond the extra is needed.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from rtl.harness.registry import home, sources
from rtl.harness.synth import yosys
from rtl.harness.unit import Unit

#: Edges from reset that every proof covers: several results pass through the units' small configurations.
DEPTH = 14
PROOF = """{read}
prep -top {top} -flatten
memory_map
chformal -lower
sat -verify -prove-asserts -set-assumes -seq DEPTH -set-at 1 rst 1 -prove-skip 1 {top}
"""


def has_proof(unit: Unit) -> bool:
    return (home(unit) / "formal.sv").is_file()


def prove(unit: Unit, *, depth: int = DEPTH, files: Sequence[Path] | None = None) -> str:
    """Empty if the assertions hold for ``depth`` edges, else Yosys's line. Raises ``ValueError`` if there is no proof."""
    if not has_proof(unit):
        raise ValueError(f"{home(unit)}: no formal.sv; expected a module {unit.name}_formal with assertions in it")
    try:
        script = PROOF.replace("DEPTH", str(depth))
        yosys(script, f"{unit.name}_formal", {}, [*(files or sources(unit)), home(unit) / "formal.sv"])
    except ValueError as e:
        if "proof did fail" not in str(e):
            raise
        return str(e)
    return ""
