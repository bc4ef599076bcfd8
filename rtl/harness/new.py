"""A user's own unit starts as a copy, under its new name, of one that is verified: the baseline dot product."""

from __future__ import annotations

import re
from pathlib import Path

from rtl.harness.figures import BEGIN, END
from rtl.harness.registry import COMPLETE, ROOT, names, taken

TEMPLATE = "base_mac_dp"
#: What makes the unit an engine of a device file; nothing of ``rtl`` reads it.
ENGINE = '''"""What an array of {name} does: ``[engine.matrix] kind`` of a device file names this folder.

Functions broadcast over the figures; see ``Kind`` in accel_models/units.py.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accel_models.units import Kind, Part, bits
from {package}.contract import gemm_cycles

UNIT = str(Path(__file__).resolve().parent)

ENGINE = Kind(
    # [engine.matrix.figure] of one array and their defaults; None: the device file must say it.
    figures={{"rows": None, "cols": 1.0, "lanes": 4.0}},
    # Turns of a product of formats (activations, weights): NaN where the unit does not take them.
    passes=lambda a, w, f: np.asarray(1.0 if a.kind == w.kind == "int" and max(bits(a), bits(w)) <= 8 else np.nan),
    # Edges of one array for a product [m, k] x [k, n]: the contract that the bench proves.
    cycles=lambda m, n, k, passes, f: passes * gemm_cycles(m, n, k, rows=f["rows"], cols=f["cols"], lanes=f["lanes"]),
    # Multiply-accumulates of one array a cycle and turn.
    macs=lambda f: f["rows"] * f["cols"] * f["lanes"],
    # Rows and columns of the result that an array works on at a time.
    tile=lambda f: (f["cols"], f["rows"]),
    # What an array is made of: builds of units (this one by its folder), and how many of each.
    parts=lambda f: [Part(UNIT, {{"L": f["lanes"]}}, f["rows"] * f["cols"])],
)
'''


def skeleton(name: str, folder: Path) -> list[Path]:
    """Write ``folder/name`` with Verilog, golden model, contract, bench and README. Raises ``ValueError``."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"unit name {name!r}: expected a Verilog and Python name in lower case, for instance my_unit")
    if name in names():
        raise ValueError(f"unit name {name!r}: there is one of that name already")
    if taken(name):
        raise ValueError(f"unit name {name!r}: Python has a module of that name; choose another")
    home = folder / name
    if home.exists():
        raise ValueError(f"{home}: exists already; choose another name or directory")
    package = f"rtl.{name}" if folder.resolve() == ROOT else name
    home.mkdir(parents=True)
    written = []
    for part in COMPLETE:
        text = (ROOT / TEMPLATE / part.format(name=TEMPLATE)).read_text(encoding="utf-8")
        text = text.replace(f"rtl.{TEMPLATE}", package).replace(TEMPLATE, name)
        if part == "contract.py":
            text = _own_contract(text)
        if part == "README.md":
            text = _own_readme(text, name)
        target = home / part.format(name=name)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    target = home / "engine.py"
    target.write_text(ENGINE.format(name=name, package=package), encoding="utf-8")
    return [*written, target]


def _own_readme(text: str, name: str) -> str:
    """The copy has the baseline's interface and none of its purpose and figures."""
    text = re.sub(r"^# .*", f"# {name}: a new unit", text)
    purpose = "## Purpose\n\nAt first an integer dot product with multipliers.\n\n## "
    text = re.sub(r"## Purpose\n.*?\n## ", purpose, text, flags=re.S)
    return re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n\n`perfboard rtl synth` gives the figures.\n\n{END}", text, flags=re.S)


def _own_contract(text: str) -> str:
    """Reference figures and builds belong to the baseline, not to the copy; it does products of 8 bits as it is."""
    text = re.sub(r'text="[^"]*"', 'text="a new unit: at first an integer dot product"', text)
    text = re.sub(r'    formats=\{.*?\},\n(?=    synth)', '    formats={"W8A8": ("default", {})},\n', text, flags=re.S)
    return re.sub(r'    synth=\{.*\n\)\n', '    synth={"default": {}},\n)\n', text, flags=re.S)
