"""Published systems as executable cases: what was claimed, what the mechanism gives, and what lies between.

A case (``cases/*.toml``) names *sides*: the same question with different settings. A claim compares two of them, or
one with a figure. ``busy`` is how long the engine that multiplies has to work for one step, whatever it waits for: its
cycles at its clock. Each side goes through the ordinary path (``sim.estimate`` for a model, ``accel_models.price`` for
bare matrix products); nothing there knows a case. See ``docs/cases.md``.
"""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Mapping, Sequence
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from accel_models.device_file import one_line

Quantity = Literal["time", "linears", "tpot", "ttft", "e2el", "tokens_per_s", "throughput", "weights", "memory",
                   "max_batch", "power", "memory_bound", "prompt_memory_bound", "prompt_rate", "energy", "prompt_energy",
                   "busy", "prompt_busy", "density", "efficiency"]
#: Quantities of which more is better; of the others (times, sizes) less is.
MORE_IS_BETTER = ("tokens_per_s", "throughput", "max_batch", "memory_bound", "prompt_memory_bound", "prompt_rate",
                  "density", "efficiency")
UNITS: dict[str, str] = {"time": "s", "linears": "s", "tpot": "s", "ttft": "s", "e2el": "s", "tokens_per_s": "tok/s",
                         "throughput": "tok/s/device", "weights": "B", "memory": "B", "max_batch": "sequences",
                         "power": "W", "memory_bound": "of products", "prompt_memory_bound": "of products",
                         "prompt_rate": "tok/s", "energy": "J/token", "prompt_energy": "J/token",
                         "busy": "s", "prompt_busy": "s", "density": "op/s/mm2", "efficiency": "op/J"}


class Side(BaseModel):
    """One setting. With ``model``: the fields of a query (``perfboard whatif``; with ``techniques`` or ``simulated``:
    ``perfboard simulate``); without: products of the ``shapes`` (n, k) with ``m`` rows each, or m times one row if
    ``each_row``. ``batch = 0`` is the largest that fits, at most ``batch_cap``. ``counts`` names a rule of
    ``validate.case_counts`` where the source does not count the whole of a step."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    hw: str
    framework: str = ""
    set: dict[str, str | int | float] = {}
    # a model
    model: str = ""
    batch: int = 1
    batch_cap: int = 0
    isl: int = 1024
    osl: int = 128
    quant: str = ""
    gemm_quant: str = ""
    kv_quant: str = ""
    fmha_quant: str = ""
    tp: int = 1
    pp: int = 1
    dp: int = 1
    utilization: float = 0.9
    counts: Literal["", "rows_by_hidden"] = ""
    # a model whose plan is simulated: techniques, each a table with its name in "use"; steps 0: as many as it needs;
    # contexts: decode at so many lengths, from prompt to end, instead of at the mean one
    simulated: bool = False
    techniques: tuple[dict[str, Any], ...] = ()
    steps: int = 0
    contexts: int = 1
    seed: int = 0
    # matrix products
    m: float = 1.0
    n: float = 0.0
    k: float = 0.0
    shapes: tuple[tuple[float, float], ...] = ()
    each_row: bool = False
    a: str = "fp16"
    w: str = "fp16"
    out: str = "fp16"

    @model_validator(mode="after")
    def _one_kind(self) -> Side:
        if not self.model and not self.shapes and not (self.n and self.k):
            raise ValueError("names neither a model nor a product; give model, or shapes, or n and k")
        return self

    def products(self) -> tuple[tuple[float, float], ...]:
        return self.shapes or ((self.n, self.k),)


class Claim(BaseModel):
    """What was claimed: ``quantity`` of ``side`` as a factor over ``against`` (several: each is tried, the first is
    the paper's), or as a figure if ``against`` is empty. ``points``: one claim each, fields laid over both sides;
    ``over`` names the field where they are bare numbers. ``average``: the figure is a geometric mean over these
    settings, or the best of them (``best``, for an "up to").
    ``tolerance``: how exactly the figure could be read (share)."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    side: str
    against: tuple[str, ...] = ()
    quantity: Quantity
    over: str = ""
    points: tuple[float | str | dict[str, Any], ...] = ({},)
    values: tuple[float | tuple[float, float], ...]
    where: dict[str, Any] = {}
    average: tuple[dict[str, Any], ...] = ({},)
    best: bool = False
    tolerance: float = 0.0
    condition: str = ""
    source: str

    @model_validator(mode="after")
    def _complete(self) -> Claim:
        if len(self.points) != len(self.values):
            raise ValueError(f"has {len(self.values)} values for {len(self.points)} points; one for each is needed")
        if not self.over and any(not isinstance(p, dict) for p in self.points):
            raise ValueError("bare points need 'over', the field that they stand for")
        return self

    def overlays(self) -> list[dict[str, Any]]:
        return [self.where | (p if isinstance(p, dict) else {self.over: p}) for p in self.points]

    def ranges(self) -> list[tuple[float, float]]:
        pairs = [v if isinstance(v, tuple) else (v, v) for v in self.values]
        return [(lo * (1 - self.tolerance), hi * (1 + self.tolerance)) for lo, hi in pairs]


class Case(BaseModel):
    """One published system, or one part of what it claims. ``warning``: what a reader must know of its figures."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    system: str
    title: str
    source: str
    mechanism: str
    warning: str = ""
    assumed: str = ""                 # what the source does not say and the case had to choose
    common: dict[str, Any] = {}
    sides: dict[str, dict[str, Any]]
    claim: tuple[Claim, ...]

    @model_validator(mode="after")
    def _known_sides(self) -> Case:
        for c in self.claim:
            for name in (c.side, *c.against):
                if name not in self.sides:
                    raise ValueError(f"claim: side {name!r} is not defined; known: {', '.join(self.sides)}")
        return self

    def resolve(self, side: str, *overlays: Mapping[str, Any]) -> Side:
        """A side with a claim's settings laid over it; what the side itself states wins over ``common`` alone."""
        merged: dict[str, Any] = {}
        for layer in (self.common, self.sides[side], *overlays):
            merged = merged | dict(layer)
        try:
            return Side.model_validate(merged)
        except ValidationError as error:
            raise ValueError(one_line(error, f"{self.name}.toml: sides.{side}", Side)) from None


class Absent(BaseModel):
    """A claim of a published system that is no case, and why."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    system: str
    claim: str
    why: str


def _folder() -> Any:
    return resources.files("validate").joinpath("cases")


def parse(text: str, file: str) -> Case:
    """One case. Raises ``ValueError`` naming file, field and what was found."""
    try:
        case = Case.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: {error}") from None
    except ValidationError as error:
        raise ValueError(one_line(error, file, Case).replace(": : ", ": ")) from None
    if f"{case.name}.toml" != file:
        raise ValueError(f"{file}: name: must be {file.removesuffix('.toml')!r}, found {case.name!r}")
    return case


@cache
def names() -> tuple[str, ...]:
    """All cases, in alphabetical order."""
    return tuple(sorted(p.name.removesuffix(".toml") for p in _folder().iterdir()
                        if p.name.endswith(".toml") and p.name != "absent.toml"))


def load(name: str) -> Case:
    """A case by name. Raises ``ValueError`` naming the nearest one."""
    if name not in names():
        near = difflib.get_close_matches(name, names(), n=3, cutoff=0.5) or [n for n in names() if name.lower() in n]
        known = f"did you mean {' or '.join(near[:3])}?" if near else f"known: {', '.join(names())}"
        raise ValueError(f"case: unknown {name!r}; {known}")
    return parse(_folder().joinpath(f"{name}.toml").read_text(encoding="utf-8"), f"{name}.toml")


def absent() -> Sequence[Absent]:
    """Claims without a case, each with the reason."""
    path = _folder().joinpath("absent.toml")
    if not path.is_file():
        return ()
    return tuple(Absent.model_validate(x) for x in tomllib.loads(path.read_text(encoding="utf-8")).get("absent", ()))


def plain(value: Any) -> str:
    """A value of a case as one would type it: ``set`` and techniques as on the command line, shapes with crosses."""
    if isinstance(value, dict):
        options = [f"{k}={plain(v)}" for k, v in value.items() if k != "use"]
        return f"{value['use']}{':' if options else ''}{','.join(options)}" if "use" in value else "; ".join(options)
    if isinstance(value, list | tuple) and value and all(isinstance(v, list | tuple) for v in value):
        return " ".join(" x ".join(map(plain, v)) for v in value)
    if isinstance(value, list | tuple):
        return ("; " if value and isinstance(value[0], dict) else "+").join(map(plain, value))
    return str(value).lower() if isinstance(value, bool) else str(value)
