"""Fitted parameters: data files beside the code, looked up by device, then by engine generation, then pooled.

A file ``fitted/<op>.toml`` holds ``[meta]`` and a list of ``[[set]]``. A set holds parameter values for one
(device, generation, framework, quant) and the interval learned from residuals of its class. See ``docs/model.md``.
"""

from __future__ import annotations

import re
import tomllib
from functools import cache
from importlib import resources
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
    """What a look-up compares of one ``[[set]]``, and the text of the whole set."""

    device: str
    generation: str
    framework: str
    n_rows: int
    text: str


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


@cache
def _index(op: str) -> dict[str, list[_Entry]]:
    """The sets of a file by variant, unparsed: a query needs a few of some hundred, and TOML takes its time."""
    found: dict[str, list[_Entry]] = {}
    for text in _SET.split(read(op))[1:]:
        label = {m[1] or m[3]: m[2] or m[4] or "" for m in _LABEL.finditer(text)}
        entry = _Entry(label.get("device", ""), label.get("generation", ""), label.get("framework", ""),
                       int(label.get("n_rows", 0)), text)
        found.setdefault(label.get("variant", ""), []).append(entry)
    return found


@cache
def lookup(op: str, variant: str, device: str, generation: str, framework: str = "") -> Found:
    """Best set for a device: its own, else its generation's pooled one, else the pool of all ("transferred").

    Within a level the asked framework is preferred, then another version of it, then a set for any framework, then
    the one with most rows. Only the set that is chosen is parsed and checked.
    Raises ``KeyError`` when the op has no set of this variant at all.
    """
    sets = _index(op).get(variant)
    if not sets:
        raise KeyError(f"{op}: no fitted set of variant {variant!r}")

    def best(candidates: list[_Entry]) -> _Entry | None:
        return min(candidates, key=lambda s: (_distance(s.framework, framework), -s.n_rows), default=None)

    if own := best([s for s in sets if s.device == device]):
        return Found(params=_parse(op, own.text), source="fitted")
    if kin := best([s for s in sets if not s.device and s.generation == generation]):
        return Found(params=_parse(op, kin.text), source="transferred")
    if pool := best([s for s in sets if not s.device and not s.generation]):
        return Found(params=_parse(op, pool.text), source="transferred")
    raise KeyError(f"{op}: no fitted set of variant {variant!r} for generation {generation!r} and no pool")


@cache
def _parse(op: str, text: str) -> ParameterSet:
    try:
        return ParameterSet.model_validate(tomllib.loads(text))
    except ValueError as error:
        raise ValueError(f"fitted/{op}.toml: {' '.join(str(error).split())}") from None


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
