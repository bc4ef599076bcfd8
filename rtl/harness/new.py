"""A user's own unit starts as a copy, under its new name, of one that is verified: the baseline dot product."""

from __future__ import annotations

import re
from pathlib import Path

from rtl.harness.interface import BEGIN, END
from rtl.harness.registry import COMPLETE, ROOT, names

TEMPLATE = "base_mac_dp"


def skeleton(name: str, folder: Path) -> list[Path]:
    """Write ``folder/name`` with Verilog, golden model, contract, bench and README. Raises ``ValueError``."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise ValueError(f"unit name {name!r}: expected a Verilog and Python name in lower case, for instance my_unit")
    if name in names():
        raise ValueError(f"unit name {name!r}: there is one of that name already")
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
            text = re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n{END}", text, flags=re.S)
        target = home / part.format(name=name)
        target.write_text(text, encoding="utf-8")
        written.append(target)
    return written


def _own_contract(text: str) -> str:
    """Reference figures and formats belong to the baseline, not to the copy."""
    text = re.sub(r'text="[^"]*"', 'text="a new unit: at first an integer dot product"', text)
    text = re.sub(r'    formats=\{.*?\},\n(?=    synth)', "", text, flags=re.S)
    return re.sub(r'    synth=\{.*\n\)\n', '    synth={"default": {}},\n)\n', text, flags=re.S)
