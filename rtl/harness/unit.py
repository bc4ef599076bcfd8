"""What a unit says about itself: parameters, law, cycle contract, handshake-level model, mutants, coverage bins.

Each unit's ``contract.py`` exports one ``UNIT``. Nothing here needs a simulator: cost models import contracts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

#: One beat of a stream: field -> raw bits as an unsigned integer.
Beat = Mapping[str, int]
Params = Mapping[str, int]


class Model(Protocol):
    """Handshake-level model: state is that of the control registers alone; one call is one rising edge.

    ``step`` gets the configuration, the beat each source offers at this edge (``None``: its valid is 0) and whether each
    sink is ready. It returns ready of every input stream and valid of every output stream as they are just before the
    edge, and then moves on by that edge. ``state`` is what coverage bins may look at.
    """

    def step(self, cfg: Mapping[str, int], offers: Mapping[str, Beat | None], sinks: Mapping[str, bool]) -> dict[str, bool]: ...

    def state(self) -> dict[str, int]: ...


@dataclass(frozen=True)
class Parameter:
    """One Verilog parameter: default (a function of those before it where derived), tested values, meaning."""

    default: int | Callable[[Params], int]
    tested: tuple[int, ...] = ()
    text: str = ""


@dataclass(frozen=True)
class Illegal:
    """A parameter set that must stop elaboration; ``message`` is part of the name of the module that does not exist."""

    params: Params
    message: str


@dataclass(frozen=True)
class Mutant:
    """One listed mutation of the Verilog: the text ``find`` (it occurs once) becomes ``replace``."""

    name: str
    find: str
    replace: str
    params: Params | None = None     #: the parameter set in which it shows; ``None``: the first fast one
    file: str = ""                   #: a source other than the unit's own, by module name


@dataclass(frozen=True)
class Unit:
    """One hardware unit.

    ``law``: "R" rigid pipeline (T_actual = T + S exactly), "R*" the same while sources are always valid
    (elastic stages, gaps may close inside), "E" decoupled (T <= T_actual <= T + S + B).
    ``cycles``: closed formula, keyword arguments are the work and what of parameters and configuration it needs.
    ``bins``: names that functional coverage must reach for a parameter set.
    ``uses``: Verilog files of other units, as ``lut_dot/lut_lane.v``.
    ``survivors``: mutant -> written reason why no test can kill it. ``waived``: coverage point -> written reason.
    ``macs_per_cycle``: (params, cfg) -> useful multiply-accumulates per cycle.
    """

    name: str
    law: Literal["R", "R*", "E"]
    text: str
    parameters: Mapping[str, Parameter]
    cycles: Callable[..., Any]
    model: Callable[[Params], Model]
    fast: tuple[Params, ...]
    thorough: tuple[Params, ...] = ()
    illegal: tuple[Illegal, ...] = ()
    mutants: tuple[Mutant, ...] = ()
    bins: Callable[[Params], Sequence[str]] = lambda params: ()
    uses: tuple[str, ...] = ()
    survivors: Mapping[str, str] = field(default_factory=dict)
    waived: Mapping[str, str] = field(default_factory=dict)
    icarus: bool = True              #: small enough for an event-driven simulator in the fast tier
    macs_per_cycle: Callable[[Params, Mapping[str, int]], float] | None = None
    #: Precision, as "W2A8" -> (label of ``synth``, configuration) for the area per multiply-accumulate.
    formats: Mapping[str, tuple[str, Mapping[str, int]]] = field(default_factory=dict)
    #: Further label of ``synth`` -> label in ``formats`` whose formats it takes as well: the same unit in another size.
    sizes: Mapping[str, str] = field(default_factory=dict)
    synth: Mapping[str, Params] = field(default_factory=lambda: {"default": {}})   #: label -> parameters to synthesise
    published: Mapping[str, Mapping[str, float]] = field(default_factory=dict)     #: label -> reference {"ge": ..., "ff": ...}

    def resolve(self, given: Params) -> dict[str, int]:
        """All parameters with defaults and derived values. Raises ``ValueError`` for a name the unit does not have."""
        if unknown := set(given) - set(self.parameters):
            raise ValueError(f"{self.name}: no parameter {sorted(unknown)[0]!r}; has {', '.join(self.parameters)}")
        full: dict[str, int] = {}
        for name, p in self.parameters.items():
            full[name] = given[name] if name in given else p.default(full) if callable(p.default) else p.default
        return full


def clog2(n: int) -> int:
    """Smallest b with 2**b >= n, as Verilog's ``$clog2``."""
    return max(0, (n - 1).bit_length())


def check_accumulator(acc_w: int, terms: int, a_max: int, w_max: int) -> None:
    """Raise ``ValueError`` if a sum of ``terms`` products of magnitudes up to ``a_max`` and ``w_max`` may not fit."""
    need = 1 + clog2(terms * a_max * w_max + 1)
    if acc_w < need:
        raise ValueError(f"ACC_W = {acc_w} is too narrow for {terms} products up to {a_max} x {w_max}; needs {need} bits")
