"""What a technique is: a frozen set of settings and a pure change of a plan.

A technique changes ops, formats, bytes, placement or policy; the gain falls out. It never touches an engine and never
multiplies a result. Settings that depend on a model's quality (acceptance rate, sparsity, hit rate) have no default and
come with a source where a case states them.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, ClassVar, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from accel_models.device_file import one_line
from accel_models.quantity import parse_noted
from sim.plan.block import Plan

#: What is computed; where and when; decisions during the run. Techniques are applied in this order, and within one as listed.
Stage = Literal["graph", "plan", "policy"]
STAGES: tuple[Stage, ...] = ("graph", "plan", "policy")


def _bytes(value: Any) -> Any:
    return parse_noted(value, "bytes")[0] if isinstance(value, str) else value


#: A size, as a number of bytes or as text ("8 GB", "512 KiB").
Size = Annotated[float, BeforeValidator(_bytes)]


def _names(value: Any) -> Any:
    return tuple(x.strip() for x in value.split("+") if x.strip()) if isinstance(value, str) else value


#: Several names, as a list or as text ("ffn+experts").
Names = Annotated[tuple[str, ...], BeforeValidator(_names)]


class Technique(BaseModel):
    """Base of all techniques. ``name`` is what people write; ``stage`` when it is applied; ``conserves`` the law it keeps."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str]
    stage: ClassVar[Stage]
    conserves: ClassVar[str]

    def apply(self, plan: Plan) -> Plan:
        """The plan with this technique. Raises ``ValueError`` naming the setting where the plan does not allow it."""
        raise NotImplementedError

    def label(self) -> str:
        """As people write it on the command line."""
        settings = ",".join(f"{k}={'+'.join(v) if isinstance(v, tuple) else v}"
                            for k, v in self.model_dump(exclude_defaults=True).items())
        return f"{self.name}:{settings}" if settings else self.name


def apply_all(plan: Plan, techniques: Sequence[Technique]) -> Plan:
    """All techniques by stage, and within one in the order listed; the plan is checked after each and notes it."""
    for stage in STAGES:
        for technique in techniques:
            if technique.stage == stage:
                plan = technique.apply(plan).noted(technique.label())
                plan.check()
    return plan


def parse(text: str, known: Mapping[str, type[Technique]]) -> Technique:
    """``name`` or ``name:key=value,key=value``. Raises ``ValueError`` with the nearest name or setting."""
    name, _, rest = text.partition(":")
    settings: dict[str, Any] = {}
    for item in filter(None, rest.split(",")):
        key, equals, value = item.partition("=")
        if not equals:
            raise ValueError(f"technique {name}: expected key=value, found {item!r}")
        settings[key.strip()] = value.strip()
    return make(name.strip(), settings, known)


def make(name: str, settings: Mapping[str, Any], known: Mapping[str, type[Technique]]) -> Technique:
    """A technique by name with its settings. Raises ``ValueError`` with one line."""
    if name not in known:
        near = difflib.get_close_matches(name, known, n=2, cutoff=0.4) or list(known)
        raise ValueError(f"unknown technique {name!r}; nearest: {', '.join(near)}   (perfboard simulate --techniques)")
    try:
        return known[name].model_validate(dict(settings))
    except ValidationError as error:
        raise ValueError(one_line(error, f"technique {name}", known[name])) from None
