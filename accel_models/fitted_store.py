"""Fitted parameters: data files beside the code, looked up by device, then by engine generation, then pooled.

A file ``fitted/<op>.toml`` holds ``[meta]`` and a list of ``[[set]]``. A set holds parameter values for one
(device, generation, framework, quant) and the interval learned from residuals of its class. See ``docs/model.md``.

``PERFBOARD_FITTED`` (or ``perfboard --fitted DIR``) names directories of further files of the same form, as
``perfboard calibrate fit`` writes them. Their sets are looked up beside the shipped ones and win over equally near ones.
It is read once a process.
"""

from __future__ import annotations

import os
import re
import tomllib
from functools import cache
from importlib import resources
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import BaseModel, ConfigDict

Source = Literal["fitted", "transferred", "assumed"]


class ParameterSet(BaseModel):
    """One fit. Empty ``device``/``framework`` mean "any": such a set pools several and is used for transfer.

    ``lo`` and ``hi`` multiply a prediction to give its 80 % interval, per regime ("memory", "compute", "launch",
    "tail" or "all"); for pooled sets they come from leave-one-device-out residuals.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variant: str = ""                 # e.g. quant for gemm, phase for attention, kind for elementwise
    device: str = ""
    generation: str = ""
    framework: str = ""
    values: dict[str, float]
    stderr: dict[str, float] = {}
    n_rows: int = 0
    mape: float = 0.0                 # mean absolute percentage error on held-back rows, 0.08 = 8 %
    lo: dict[str, float] = {}
    hi: dict[str, float] = {}
    range: dict[str, tuple[float, float]] = {}


class FittedFile(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")

    op: str
    formula: str                      # the function the values are arguments of
    source: str                       # where the rows come from
    data_sha256: str                  # of the rows used
    date: str
    set: tuple[ParameterSet, ...]


class Found(BaseModel):
    """Result of a look-up: the set and how it was come by."""

    model_config = ConfigDict(frozen=True)
    params: ParameterSet
    source: Source


class _Entry(NamedTuple):
    """What a look-up compares of one ``[[set]]``, the text of the whole set, and the file that it stands in."""

    device: str
    generation: str
    framework: str
    n_rows: int
    text: str
    file: str
    rank: int                         # 0 for the first overlay directory, more for later ones and the shipped file


_SET = re.compile(r"^\[\[set\]\][ \t]*$", re.MULTILINE)
_LABEL = re.compile(r'^(variant|device|generation|framework) *= *"([^"\\\n]*)"[ \t]*$|^(n_rows) *= *(\d+)[ \t]*$',
                    re.MULTILINE)


def read(op: str) -> str:
    """Text of the fitted file of one op. Raises ``FileNotFoundError`` if the op was never fitted."""
    return resources.files("accel_models.fitted").joinpath(f"{op}.toml").read_text(encoding="utf-8")


@cache
def load(op: str) -> FittedFile:
    """The whole fitted file of one op, checked. Raises ``FileNotFoundError`` if the op was never fitted."""
    return FittedFile.model_validate(tomllib.loads(read(op)))


def overlay_dirs() -> tuple[Path, ...]:
    """Directories of ``PERFBOARD_FITTED``, the first one the strongest. Raises ``ValueError`` for one that is not there."""
    found = tuple(Path(p) for p in os.environ.get("PERFBOARD_FITTED", "").split(os.pathsep) if p)
    for path in found:
        if not path.is_dir():
            raise ValueError(f"PERFBOARD_FITTED: {path}: not a directory; `perfboard calibrate fit -o DIR` writes one")
    return found


def _files(op: str, overlays: bool) -> list[tuple[str, str]]:
    """(name, text) of the files of one op, overlays first. Raises ``FileNotFoundError`` if there is none."""
    paths = [d / f"{op}.toml" for d in overlay_dirs()] if overlays else []
    found = [(str(p), p.read_text(encoding="utf-8")) for p in paths if p.is_file()]
    try:
        return [*found, (f"fitted/{op}.toml", read(op))]
    except FileNotFoundError:
        if found:
            return found
        raise


@cache
def _index(op: str, overlays: bool = False) -> dict[str, list[_Entry]]:
    """The sets of all files by variant, unparsed: a query needs a few of some hundred, and TOML takes its time."""
    found: dict[str, list[_Entry]] = {}
    for rank, (name, file) in enumerate(_files(op, overlays)):
        for text in _SET.split(file)[1:]:
            label = {m[1] or m[3]: m[2] or m[4] or "" for m in _LABEL.finditer(text)}
            entry = _Entry(label.get("device", ""), label.get("generation", ""), label.get("framework", ""),
                           int(label.get("n_rows", 0)), text, name, rank)
            found.setdefault(label.get("variant", ""), []).append(entry)
    return found


def fitted_on(op: str, variant: str, device: str) -> bool:
    """Was a set of this variant fitted on this very device?"""
    try:
        return any(s.device == device for s in _index(op, True).get(variant, ()))
    except FileNotFoundError:
        return False


@cache
def lookup(op: str, variant: str, device: str, generation: str, framework: str = "", overlays: bool = True) -> Found:
    """Best set for a device: its own, else its generation's pooled one, else the pool of all ("transferred").

    Within a level the asked framework is preferred, then another version of it, then a set for any framework; among
    equals an overlay's, then the one with most rows. Only the set that is chosen is parsed and checked.
    ``overlays=False`` looks at what came with the package alone.
    Raises ``KeyError`` when the op has no set of this variant at all.
    """
    sets = _index(op, overlays).get(variant)
    if not sets:
        raise KeyError(f"{op}: no fitted set of variant {variant!r}")

    def best(candidates: list[_Entry]) -> _Entry | None:
        return min(candidates, key=lambda s: (_distance(s.framework, framework), s.rank, -s.n_rows), default=None)

    if own := best([s for s in sets if s.device == device]):
        return Found(params=_parse(own.file, own.text), source="fitted")
    if kin := best([s for s in sets if not s.device and s.generation == generation]):
        return Found(params=_parse(kin.file, kin.text), source="transferred")
    if pool := best([s for s in sets if not s.device and not s.generation]):
        return Found(params=_parse(pool.file, pool.text), source="transferred")
    raise KeyError(f"{op}: no fitted set of variant {variant!r} for generation {generation!r} and no pool")


@cache
def _parse(file: str, text: str) -> ParameterSet:
    try:
        return ParameterSet.model_validate(tomllib.loads(text))
    except ValueError as error:
        raise ValueError(f"{file}: {' '.join(str(error).split())}") from None


def check_framework(name: str, ops: tuple[str, ...]) -> None:
    """Raise ``ValueError`` with the known families when no set of any of ``ops`` is of this framework or a version of it."""
    if not name:
        return
    known = {_family(e.framework) for op in ops for sets in _index(op, True).values() for e in sets if e.framework}
    if _family(name) not in known:
        raise ValueError(f"framework: nothing was measured with {name!r}; known: {', '.join(sorted(known))}")


def _family(framework: str) -> str:
    """Library without its version ("vllm-0.24.0" -> "vllm"); eager frameworks are one family."""
    name = framework.split("-")[0].split(" ")[0].lower()
    return {"torch": "eager", "hf": "eager", "nccl": "library", "oneccl": "library"}.get(name, name)


def _distance(have: str, asked: str) -> int:
    if have == asked:
        return 0
    if asked and have and _family(have) == _family(asked):
        return 1
    return 2 if not have else 3
