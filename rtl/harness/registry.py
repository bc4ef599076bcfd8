"""Finds units by folder: every folder of ``rtl/`` that has a ``contract.py`` is one."""

from __future__ import annotations

import difflib
import hashlib
import importlib.util
import inspect
import re
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

from rtl.harness.unit import Unit

ROOT = Path(__file__).resolve().parents[1]
#: Figures of synthesis of all units of the package.
FIGURES = ROOT / "figures.json"
#: Files that make a unit complete; ``{name}`` is the folder's name.
COMPLETE = ("__init__.py", "{name}.v", "golden.py", "contract.py", "bench.py", "README.md")


def names() -> list[str]:
    """Names of all units, sorted."""
    return sorted(p.parent.name for p in ROOT.glob("*/contract.py"))


def load(name: str) -> Unit:
    """The unit of this name, or of a folder given as a path. Raises ``ValueError`` if there is none."""
    if "/" in name or name == ".":
        return _load_folder(Path(name).resolve())
    if not (ROOT / name / "contract.py").is_file():
        near = difflib.get_close_matches(name, names(), n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(names())}, or give the path of a folder"
        raise ValueError(f"no unit {name!r}; {hint}")
    unit: Unit = import_module(f"rtl.{name}.contract").UNIT
    return unit


def _load_folder(folder: Path) -> Unit:
    """A user's own unit: its folder is a package."""
    missing = [f for f in (part.format(name=folder.name) for part in COMPLETE) if not (folder / f).is_file()]
    if missing:
        raise ValueError(f"{folder}: no {missing[0]}; a unit's folder holds {', '.join(COMPLETE).format(name=folder.name)}")
    if folder.parent == ROOT:
        return load(folder.name)
    unit: Unit = own_module(folder, "contract").UNIT
    return unit


def taken(name: str) -> bool:
    """Whether Python has a module of this name that is no unit."""
    place = _place(name)
    return place is not None and not (place / "contract.py").is_file()


def _place(name: str) -> Path | None:
    """The folder of the module that Python has or finds under a name."""
    known = sys.modules.get(name) or importlib.util.find_spec(name)
    file = getattr(known, "__file__", None) or getattr(known, "origin", None)
    return Path(file).parent if file else Path() if known else None


def own_module(folder: Path, part: str) -> ModuleType:
    """A module of a unit outside the package: its folder is a package itself. One of the same name elsewhere is forgotten.

    Raises ``ValueError`` if the name is that of something else that is installed.
    """
    if taken(folder.name):
        raise ValueError(f"{folder}: Python has a module {folder.name!r} already; give the unit another name")
    if _place(folder.name) != folder:
        for name in [n for n in sys.modules if n == folder.name or n.startswith(f"{folder.name}.")]:
            del sys.modules[name]
    if str(folder.parent) in sys.path:
        sys.path.remove(str(folder.parent))
    sys.path.insert(0, str(folder.parent))
    return import_module(f"{folder.name}.{part}")


def home(unit: Unit) -> Path:
    """The folder of a unit: where its contract is."""
    return Path(inspect.getfile(unit.cycles)).parent


def kept_in(unit: Unit) -> Path:
    """The file that holds a unit's figures: one for all units of the package, one in the folder of each other."""
    return FIGURES if home(unit).parent == ROOT else home(unit) / FIGURES.name


def bench_module(unit: Unit) -> str:
    return unit.cycles.__module__.rpartition(".")[0] + ".bench"


def sources(unit: Unit) -> list[Path]:
    """Verilog files of a unit: those it uses from elsewhere, sub-modules in its folder, its own last."""
    own = home(unit)
    parts = sorted(p for p in own.glob("*.v") if p.stem != unit.name)
    return [*(ROOT / used for used in unit.uses), *parts, own / f"{unit.name}.v"]


def fingerprint(unit: Unit) -> str:
    """Of the Verilog of a unit without comments and white space: what was found out about it holds for this text alone."""
    text = "".join(re.sub(r"//.*|\s+", "", p.read_text(encoding="utf-8")) for p in sources(unit))
    return hashlib.sha256(text.encode()).hexdigest()[:12]
