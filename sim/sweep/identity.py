"""What a point's result depends on: its parameters, the rules of the sweep, the files of model and device, the code."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accel_models.registry import load_system
from accel_models.units import own_files
from sim.sweep import parameters as par
from sim.sweep.evaluate import stored
from sim.sweep.space import Columns, Space
from workloads.registry import load_config

Keys = NDArray[np.int64]
_SQL = {int: "INTEGER", float: "REAL", str: "TEXT"}


@dataclass(frozen=True)
class Identity:
    """What makes a sweep this sweep (``sweep`` is a hash of it): the values that no axis changes, the names of its
    columns. The values on its axes may grow."""

    sweep: str
    space: str                             # that, and the points themselves
    base: dict[str, Any]
    parameters: dict[str, str]             # name -> SQL type
    figures: list[str]
    objectives: dict[str, str]


def identity(space: Space) -> Identity:
    e = space.experiment
    base: dict[str, Any] = {k: v for k, v in {**space.base, **{f"slo.{k}": v for k, v in e.slo}}.items()
                            if k not in {a.name for a in space.axes}}
    base |= {"evaluator": e.sweep.evaluator, "when": e.sweep.when, "derived": e.sweep.derived,
             "constraints": [x.text for x in space.outcomes]}
    if e.sweep.evaluator == "events":
        base |= {"techniques": e.techniques, "simulation": e.simulation.model_dump()}
    parameters = {n: _type(n, space) for n in space.parameters}
    whole = [base, parameters, sorted(stored(space))]
    points = e.sweep.model_dump(mode="json", exclude={"objectives", "keep"})
    return Identity(digest(whole), digest([whole, points]), base, parameters, stored(space), dict(e.sweep.objectives))


def _type(name: str, space: Space) -> str:
    kind = par.kind(name, space.devices, space.file).type
    if kind is not object:
        return _SQL[kind]
    values = next((a.values for a in space.axes if a.name == name), np.array([0.0]))
    return {"i": "INTEGER", "f": "REAL"}.get(values.dtype.kind, "TEXT")


def digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def contents(space: Space) -> dict[tuple[str, str], dict[str, str]]:
    """Hashes of what each pair of model and device of the space rests on."""
    models = {m: _model(m, _changed(m)) for m in space.models}
    devices = {d: _device(d) for d in space.devices}
    code = code_version() + (simulated_version() if space.experiment.sweep.evaluator == "events" else "")
    return {(m, d): {"model": f"{m} {mh}", "device": f"{d} {dh}", "code": code}
            for m, mh in models.items() for d, dh in devices.items()}


def _device(name: str) -> str:
    """Of the files of a system, and of a user's own units that its engines are made of."""
    system = load_system(name)
    whole: Any = system.model_dump(mode="json")
    files = [f for d in system.devices for e in d.engine.values() for f in own_files(e.kind)]
    return digest([whole, [hashlib.sha256(f.read_bytes()).hexdigest() for f in files]] if files else whole)


def _changed(model: str) -> float:
    """When a file of the user's was last changed; bundled models do not change while we run."""
    path = Path(model)
    path = path / "config.json" if path.is_dir() else path
    return path.stat().st_mtime if path.is_file() else 0.0


@lru_cache(maxsize=64)
def _model(name: str, changed: float) -> str:
    raw = load_config(name)
    return digest([raw.config, raw.quantization_config, raw.hf_quant_config])


#: Modules of ``sim`` that a closed-form result passes through.
_PASSED = ("estimate.py", "pieces.py", "query.py", "sweep/evaluate.py", "sweep/expression.py", "sweep/figures.py",
           "sweep/hardware.py", "sweep/parameters.py", "sweep/silicon.py")


@cache
def code_version() -> str:
    """Hash of all code and fitted parameters that an estimate rests on, contracts and cells of units among them; device and
    model files count by themselves."""
    root = {p: Path(str(resources.files(p))) for p in ("rtl", "workloads", "accel_models", "sim")}
    files = [f for p in ("workloads", "accel_models") for f in root[p].rglob("*")
             if f.suffix in (".py", ".toml") and f.parent.name not in ("devices", "systems")]
    files += [root["sim"] / name for name in _PASSED]
    files += [root["rtl"] / name for name in ("figures.json", "builds.json", "activity.json")]
    files += root["rtl"].glob("*/contract.py")
    if own := os.environ.get("PERFBOARD_FITTED"):
        files += Path(own).glob("*.toml")
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


@cache
def simulated_version() -> str:
    """Hash of what a simulated result passes through besides."""
    root = Path(str(resources.files("sim")))
    files = [root / name for name in ("kernel.py", "fair_share.py", "simulate.py", "tasks.py", "nand.py", "sweep/events.py")]
    files += [f for folder in ("plan", "techniques") for f in (root / folder).rglob("*.py")]
    found = hashlib.sha256()
    for path in sorted(files):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:16]


# -- keys ---------------------------------------------------------------------------------------------------------------

def _mixed(x: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The finaliser of SplitMix64 [Steele, Lea, Flood, OOPSLA 2014]: every input bit reaches every output bit."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


def _word(text: str) -> np.uint64:
    return np.uint64(int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little"))


def keys(columns: Columns, names: Iterable[str], stamps: Keys) -> Keys:
    """A 64-bit key for each point: its parameters and the number of its stamp's state. Of a million points two share a
    key with a chance of 3e-8."""
    found = _mixed(stamps.astype(np.uint64) + np.uint64(1))
    for name in sorted(names):
        found = _mixed(found ^ _mixed(_bits(columns[name]) + _word(name)))
    return found.view(np.int64)


def _bits(values: NDArray[Any]) -> NDArray[np.uint64]:
    if values.dtype.kind in "ifb":
        return (values.astype(np.float64) + 0.0).view(np.uint64)           # + 0.0: one zero
    distinct, place = np.unique(values.astype(str), return_inverse=True)
    return np.array([_word(str(v)) for v in distinct], dtype=np.uint64)[place.reshape(-1)]


def stamps_of(columns: Columns, base: Mapping[str, Any], numbers: Mapping[tuple[str, str], int], n: int) -> Keys:
    """The stamp of each point, by its model and device."""
    def place(name: str) -> tuple[NDArray[Any], NDArray[np.intp]]:
        if name not in columns:
            return np.array([str(base[name])]), np.zeros(n, dtype=np.intp)
        distinct, at = np.unique(columns[name], return_inverse=True)
        return distinct, at.reshape(-1)

    models, i = place("model")
    devices, j = place("hardware")
    table = np.array([[numbers[str(m), str(d)] for d in devices] for m in models], dtype=np.int64)
    return table[i, j]
