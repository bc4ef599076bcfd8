"""The experiment file: model, hardware, deployment, workload, limits, and the space that a sweep explores.

Every value may be changed by an axis of the sweep; the names that axes go by are those of ``parameters.py``.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator, model_validator

from accel_models.device import Strict
from accel_models.device_file import one_line
from accel_models.quantity import parse

Value = bool | int | float | str


def _seconds(value: Any) -> Any:
    return parse(value, "s") if isinstance(value, str | int | float) and not isinstance(value, bool) else value


Seconds = Annotated[float, BeforeValidator(_seconds)]


class _Open(BaseModel):
    """A table with further, dotted keys: overrides."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @property
    def overrides(self) -> dict[str, Value]:
        """Dotted key -> value, tables within tables flattened."""
        return _flat(self.model_extra or {}, "")


def _flat(node: Mapping[str, Any], prefix: str) -> dict[str, Value]:
    out: dict[str, Value] = {}
    for key, value in node.items():
        if isinstance(value, Mapping):
            out |= _flat(value, f"{prefix}{key}.")
        elif isinstance(value, bool | int | float | str):
            out[prefix + key] = value
        else:
            raise ValueError(f"{prefix}{key}: expected a number or a text, found {value!r}")
    return out


class Model(_Open):
    """The network: a bundled name or a path, and how it is quantised; any other key replaces one of its config."""

    path: str
    quant: str = ""
    gemm_quant: str = ""
    moe_quant: str = ""
    kv_quant: str = ""
    fmha_quant: str = ""


class Hardware(_Open):
    """A device or system by name or path; any other key replaces one of its numbers."""

    base: str


class Deployment(Strict):
    """How it is run. What the closed form knows nothing of (scheduler limits) is taken, so that one file serves all."""

    tp: int = 1
    pp: int = 1
    dp: int = 1
    ep: int = 1
    etp: int = 0
    framework: str = ""
    gpu_memory_utilization: float = 0.9
    mode: Literal["agg"] = "agg"
    max_num_seqs: int | None = None
    max_num_batched_tokens: int | None = None
    block_size: int | None = None


class Workload(Strict):
    """Lengths in tokens; ``concurrency`` sequences in flight per replica."""

    isl: int = 1024
    osl: int = 128
    prefix: int = 0
    concurrency: int = 1


class Slo(Strict):
    """Limits on the estimate; a point that misses one is infeasible."""

    ttft: Seconds | None = None
    tpot: Seconds | None = None
    request_latency: Seconds | None = None


class Range(Strict):
    """An axis from ``from`` to ``to``, both included: ``n`` values, or every ``step``; none of them where it is sampled."""

    low: Value = Field(alias="from")
    high: Value = Field(alias="to")
    n: int | None = Field(default=None, ge=1, le=10**8)
    step: Value | None = None
    scale: Literal["linear", "log"] = "linear"
    integer: bool = False


class Sample(Strict):
    """``n`` points of the whole space instead of the full grid."""

    method: Literal["random", "lhs", "sobol"] = "sobol"
    n: int = Field(ge=1, le=2 * 10**7)             # drawn whole: 8 bytes a point and axis
    seed: int = 0


class Search(Strict):
    """``trials`` points chosen one after another by what the earlier ones gave."""

    method: Literal["nsga2", "tpe", "gp"] = "tpe"
    trials: int = Field(ge=1, le=10**6)
    seed: int = 0


class Simulation(Strict):
    """How a point is simulated (``evaluator = "events"``): decode steps (0: four) and the seed of traces."""

    steps: int = Field(default=0, ge=0)
    seed: int = 0


class Sweep(Strict):
    """Axes and what is wanted of them. ``derived``: parameters or figures by an expression; ``when``: an axis counts only
    where its condition holds; ``constraints``: expressions that points must meet; ``keep``: further figures to store."""

    grid: dict[str, list[Value]] = Field(default_factory=dict)
    range: dict[str, Range] = Field(default_factory=dict)
    sample: Sample | None = None
    search: Search | None = None
    when: dict[str, str] = Field(default_factory=dict)
    derived: dict[str, str | int | float] = Field(default_factory=dict)
    constraints: list[str] = Field(default_factory=list)
    objectives: dict[str, Literal["min", "max"]]
    keep: list[str] = Field(default_factory=list)
    evaluator: str = "closed"

    @field_validator("grid")
    @classmethod
    def _filled(cls, grid: dict[str, list[Value]]) -> dict[str, list[Value]]:
        empty = next((k for k, v in grid.items() if not v), None)
        if empty:
            raise ValueError(f"{empty!r} has no values: the space is empty")
        return grid

    @model_validator(mode="after")
    def _some(self) -> Sweep:
        if not self.grid and not self.range:
            raise ValueError("no axis: give [sweep.grid] or [sweep.range]")
        if both := set(self.grid) & set(self.range):
            raise ValueError(f"{min(both)!r} is in both grid and range")
        if self.sample and self.search:
            raise ValueError("either [sweep.sample] or [sweep.search], not both")
        if not self.objectives:
            raise ValueError('no objective, e.g. tokens_per_s_per_gpu = "max"')
        return self

    @property
    def drawn(self) -> Sample | None:
        """How points are drawn where the full grid is not meant; of a search, points as good as any to look at first."""
        if self.search:
            return Sample(method="random", n=self.search.trials, seed=self.search.seed)
        return self.sample


class Experiment(Strict):
    """The whole file."""

    version: Literal[1]
    model: Model
    hardware: Hardware
    deployment: Deployment = Deployment()
    workload: Workload = Workload()
    slo: Slo = Slo()
    techniques: list[dict[str, Any]] = Field(default_factory=list)
    simulation: Simulation = Simulation()
    sweep: Sweep

    @field_validator("model", mode="before")
    @classmethod
    def _model_name(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value

    @field_validator("hardware", mode="before")
    @classmethod
    def _hardware_name(cls, value: Any) -> Any:
        return {"base": value} if isinstance(value, str) else value

    @field_validator("techniques", mode="before")
    @classmethod
    def _techniques(cls, value: Any) -> Any:
        return [_technique(t) for t in value] if isinstance(value, list) else value

    @model_validator(mode="after")
    def _simulated(self) -> Experiment:
        if self.techniques and self.sweep.evaluator == "closed":
            raise ValueError('techniques are simulated: give evaluator = "events" in [sweep]')
        used = [t["use"] for t in self.techniques]
        for name in (*self.sweep.grid, *self.sweep.range, *self.sweep.derived):
            if name.startswith("technique.") and used.count(name.split(".")[1]) != 1:
                raise ValueError(f"{name}: expected {name.split('.')[1]} once in techniques, found {', '.join(used) or 'none'}")
        return self

    @property
    def without_effect(self) -> list[str]:
        """Settings that are given and that no evaluator follows: limits of a scheduler."""
        return [f"deployment.{k}" for k in ("max_num_seqs", "max_num_batched_tokens", "block_size")
                if getattr(self.deployment, k) is not None]


def _technique(given: Any) -> Any:
    """``{ use = NAME, setting = value }``, or as on the command line: ``NAME:setting=value,...``."""
    if isinstance(given, str):
        name, _, rest = given.partition(":")
        return {"use": name, **dict(item.split("=", 1) for item in rest.split(",") if "=" in item)}
    if not isinstance(given, dict) or "use" not in given:
        raise ValueError(f"techniques: expected {{ use = NAME, ... }}, found {given!r}")
    return given


def read(text: str, file: str) -> Experiment:
    """Raises ``ValueError`` in one line: file, key, what was found, what would be right."""
    try:
        return Experiment.model_validate(tomllib.loads(text))
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"{file}: not valid TOML: {error}") from None
    except ValidationError as error:
        raise ValueError(one_line(error, file, Experiment)) from None


def load(path: Path) -> tuple[Experiment, str]:
    """The experiment of a file and its text."""
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not valid TOML: {error}") from None
    return read(text, path.name), text
