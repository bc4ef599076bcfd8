"""Engines made of verified units: which unit of ``rtl`` a kind of engine is built of, and what one array of it does.

``[engine.matrix] kind`` of a device file names an entry of ``KINDS``; ``[engine.matrix.figure]`` gives the shape of one
array, ``units`` how many there are, ``clock`` how fast they run (assumed: nothing here was laid out). Cycles are those of
the unit's contract, which its bench proves on the Verilog; the rate of a number format follows from them and is not
written in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rtl.base_fp16_mac import contract as fp16_mac
from rtl.base_mac_dp import contract as mac_dp
from rtl.bitmod_unit import contract as bitmod
from rtl.bitserial_mac import contract as bitserial
from rtl.btc_popcount_gemm import contract as popcount
from rtl.harness.registry import own_module
from rtl.lut_mpgemm_tile import contract as lut_tile
from rtl.shift_mac import contract as shift
from workloads.formats import Format, get_format

Array = NDArray[np.float64]
#: Name of a figure -> values (devices,), or of any shape that broadcasts.
Figures = Mapping[str, Array]


class Part(NamedTuple):
    """``instances`` of a build of one unit in an array."""

    unit: str
    parameters: dict[str, Array]
    instances: Array


@dataclass(frozen=True)
class Kind:
    """How an engine kind is built. Functions broadcast; ``figures`` names what they need, None: the file must say it.

    ``passes``: turns of an array that a product of formats (activations, weights) takes for one at its full rate, NaN
    where the unit cannot multiply them. ``cycles``: (m, n, k, passes, figures) -> edges of one array for a product.
    ``macs``: multiply-accumulates of one array a cycle and pass. ``tile``: rows and columns of the result that an array
    works on at a time. ``parts``: what an array is made of. ``spans``: least and most that a figure may be, where its unit
    cannot be built from 1 on (0 for what is 0 by default) to what a number in Verilog holds.
    """

    figures: Mapping[str, float | None]
    passes: Callable[[Format, Format, Figures], Array]
    cycles: Callable[[Array, Array, Array, Array, Figures], Array]
    macs: Callable[[Figures], Array]
    tile: Callable[[Figures], tuple[Array, Array]]
    parts: Callable[[Figures], Sequence[Part]]
    spans: Mapping[str, tuple[float, float]] = field(default_factory=dict)


def bits(fmt: Format) -> float:
    """Bits of the codes that a unit is fed; a ternary weight comes as two."""
    return 2.0 if fmt.kind == "ternary" else float(np.ceil(fmt.element_bits))


def _where(taken: ArrayLike, passes: ArrayLike) -> Array:
    return np.where(taken, np.asarray(passes, dtype=np.float64), np.nan)


def _integer(fmt: Format) -> bool:
    return fmt.kind in ("int", "ternary")


def _half(fmt: Format) -> bool:
    """Whether activations can be fed: narrow integers as they are, floats of 16 bits and less as such or aligned."""
    return fmt.element_bits <= 16


def _fed(a: Format, f: Figures) -> NDArray[np.bool_]:
    """Whether a unit whose activations have ``act_bits`` takes these: integers that are no wider, floats aligned to 16 bits."""
    wide = f["act_bits"] >= 16
    return np.asarray((bits(a) <= f["act_bits"]) if _integer(a) else wide & (a.element_bits <= 16))


#: Terms of a weight by its bits: types of bitmod_unit.
_TERMS = ((4.0, 2.0), (6.0, 3.0), (8.0, 4.0))


def _terms(w: Format) -> float:
    """Its types are whole numbers and floats of up to 4 bits: no wider floats, no codebooks."""
    taken = w.kind != "codebook" and (w.compute not in ("fp8", "fp6") or bits(w) <= 4)
    return next((terms for most, terms in _TERMS if taken and bits(w) <= most), np.nan)


def _one(x: ArrayLike = 1.0) -> Array:
    return np.asarray(x, dtype=np.float64)


def _table_wait(passes: Array, f: Figures) -> Array:
    """Edges of one group of a tile: its planes, or its rows' tables one after another, where generators are fewer."""
    return np.maximum(passes, f["tile_m"] * f["tables"] / f["generators"])


class _Kinds(dict[str, Kind]):
    """Kinds by name; the path of a folder is a user's own, read from ``ENGINE`` of the unit's ``engine.py`` when it is asked
    for: in every process, however the device came there."""

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and "/" in name and Path(name, "engine.py").is_file())

    def __missing__(self, name: str) -> Kind:
        if name not in self:
            raise KeyError(name)
        try:
            found = getattr(own_module(Path(name), "engine"), "ENGINE", None)
        except ValueError:
            raise
        except Exception as error:                 # whatever the user's Python says
            raise ValueError(f"{name}/engine.py: {type(error).__name__}: {error}; perfboard rtl verify {name}") from error
        if not isinstance(found, Kind):
            raise ValueError(f"{name}/engine.py: ENGINE is {found!r}; expected a Kind of accel_models.units")
        self[name] = found
        return found


KINDS: dict[str, Kind] = _Kinds({
    "mac": Kind(
        {"rows": None, "cols": 1.0, "mantissa": 23.0},
        lambda a, w, f: _where(_half(a) and _half(w), 1.0),
        lambda m, n, k, p, f: fp16_mac.gemm_cycles(m, n, k, rows=f["rows"], cols=f["cols"]),
        lambda f: f["rows"] * f["cols"],
        lambda f: (f["cols"], f["rows"]),
        lambda f: [Part("base_fp16_mac", {"AM": f["mantissa"]}, f["rows"] * f["cols"])],
        {"mantissa": (7.0, 40.0)}),
    "int_mac": Kind(
        {"rows": None, "cols": 1.0, "lanes": 4.0, "w_max": 8.0},
        lambda a, w, f: _where(_integer(a) & _integer(w) & (bits(a) <= 8) & (bits(w) <= f["w_max"]), 1.0),
        lambda m, n, k, p, f: mac_dp.gemm_cycles(m, n, k, rows=f["rows"], cols=f["cols"], lanes=f["lanes"]),
        lambda f: f["rows"] * f["cols"] * f["lanes"],
        lambda f: (f["cols"], f["rows"]),
        lambda f: [Part("base_mac_dp", {"L": f["lanes"], "B_W": f["w_max"]}, f["rows"] * f["cols"])],
        {"w_max": (2.0, 32.0)}),
    "lut": Kind(
        {"tile_m": 2.0, "tile_n": 64.0, "group": 4.0, "w_max": 4.0, "table_bits": 11.0, "acc_bits": 32.0,
         "generators": 1.0, "act_bits": 8.0, "tables": 1.0},
        lambda a, w, f: _where(_fed(a, f) & _integer(w) & (bits(w) <= f["w_max"]), bits(w)),
        lambda m, n, k, p, f: lut_tile.gemm_cycles(m, n, k, rows=f["tile_m"], columns=f["tile_n"], group=f["group"],
                                                   tables=f["tables"], wbits=_table_wait(p, f)),
        lambda f: f["tile_m"] * f["tile_n"] * f["group"] * f["tables"],
        lambda f: (f["tile_m"], f["tile_n"]),
        lambda f: [Part("lut_mpgemm_tile", {"M": f["tile_m"], "N": f["tile_n"], "K": f["group"], "P": f["tables"],
                                            "T_W": f["table_bits"], "W_MAX": f["w_max"], "ACC_W": f["acc_bits"]}, _one()),
                   Part("lut_table_gen", {"K": f["group"], "Q": _one(f["table_bits"] <= 8), "A_W": f["act_bits"]},
                        f["generators"])],
        {"group": (2.0, 16.0), "act_bits": (2.0, 32.0), "w_max": (1.0, 32.0)}),
    "bit_serial": Kind(
        {"rows": None, "lanes": 16.0, "bits_per_cycle": 1.0, "w_max": 8.0, "act_bits": 8.0},
        lambda a, w, f: _where(_fed(a, f) & _integer(w) & (bits(w) <= f["w_max"]), np.ceil(bits(w) / f["bits_per_cycle"])),
        lambda m, n, k, p, f: bitserial.gemm_cycles(m, n, k, rows=f["rows"], lanes=f["lanes"], wbits=p, bpc=1.0),
        lambda f: f["rows"] * f["lanes"],
        lambda f: (_one(), f["rows"]),
        lambda f: [Part("bitserial_mac", {"LANES": f["lanes"], "BPC": f["bits_per_cycle"], "W_MAX": f["w_max"],
                                          "A_W": f["act_bits"]}, f["rows"])],
        {"bits_per_cycle": (1.0, 4.0), "act_bits": (2.0, 32.0), "w_max": (1.0, 32.0)}),
    "term_serial": Kind(
        {"rows": None, "cols": 1.0, "group": 128.0, "scale_bits": 8.0, "drain": 0.0},
        lambda a, w, f: _where(_half(a), _terms(w)),
        lambda m, n, k, p, f: bitmod.gemm_cycles(m, n, k, rows=f["rows"], cols=f["cols"], group=f["group"], terms=p,
                                                 drain=f["drain"], scale_bits=f["scale_bits"]),
        lambda f: 4.0 * f["rows"] * f["cols"],
        lambda f: (f["cols"], f["rows"]),
        lambda f: [Part("bitmod_unit", {"D_W": f["scale_bits"]}, f["rows"] * f["cols"])],
        {"scale_bits": (3.0, 32.0)}),
    "popcount": Kind(
        {"tile_m": 2.0, "tile_n": 4.0, "word": 128.0, "planes_max": 8.0},
        lambda a, w, f: _where(_integer(a) & _integer(w) & (max(bits(a), bits(w)) <= f["planes_max"]), bits(a) * bits(w)),
        lambda m, n, k, p, f: popcount.gemm_cycles(m, n, k, mt=f["tile_m"], nt=f["tile_n"], kw=f["word"], pa=p, pw=1.0),
        lambda f: f["tile_m"] * f["tile_n"] * f["word"],
        lambda f: (f["tile_m"], f["tile_n"]),
        lambda f: [Part("btc_popcount_gemm", {"MT": f["tile_m"], "NT": f["tile_n"], "KW": f["word"],
                                              "P_MAX": f["planes_max"]}, _one())],
        {"planes_max": (1.0, 32.0)}),
    "shift": Kind(
        {"rows": None, "lanes": 16.0, "code_bits": 3.0, "act_bits": 8.0},
        lambda a, w, f: _where(_fed(a, f) & (w.kind == "pot") & (bits(w) <= f["code_bits"]), 1.0),
        lambda m, n, k, p, f: shift.gemm_cycles(m, n, k, rows=f["rows"], lanes=f["lanes"]),
        lambda f: f["rows"] * f["lanes"],
        lambda f: (_one(), f["rows"]),
        lambda f: [Part("shift_mac", {"L": f["lanes"], "B": f["code_bits"], "FP": _one(f["act_bits"] >= 16)}, f["rows"])],
        {"code_bits": (2.0, 4.0), "act_bits": (2.0, 32.0)}),
})

#: Kinds whose arrays have formulas of their own (``families.fpga``, ``families.in_flash``) -> their units.
_ELSEWHERE = {"sparse_dsp": ("sparse_dsp_chain",), "ternary": ("ternary_acc",), "in_flash": ("flash_page_gemv",)}

#: Figures of every kind, and the least and the most that they may be: on-chip buffers and their banks; whether a causal
#: prompt skips what lies beyond the diagonal; arrays in each processor of a GPU; energy of a unit in a cycle.
COMMON: dict[str, tuple[float, float]] = {
    "input_buffer_bytes": (1.0, np.inf), "weight_buffer_bytes": (1.0, np.inf), "buffer_banks": (1.0, np.inf),
    "causal_skip": (0.0, 1.0), "arrays_per_unit": (1.0, np.inf), "element_j": (0.0, np.inf)}
#: The most that a count may be: an integer of Verilog.
MOST = 2.0**31 - 1
#: Banks of each buffer where the file does not say: what the authors of BitMoD chose for 512 KiB (arXiv:2411.11745).
BANKS = 8.0

#: Formats of operands whose rate is stated, both operands in the same one.
_STATED = ("fp16", "bf16", "fp8", "int8", "int4", "int1")


def own_files(kind: str) -> list[Path]:
    """What a user's own kind says is read from these files; none for the kinds of the package."""
    found = [Path(kind) / name for name in ("engine.py", "contract.py", "figures.json")] if "/" in kind else []
    return [f for f in found if f.is_file()]


def figures(kind: str) -> tuple[str, ...]:
    """Names of all figures that an engine of this kind may have; none for a kind that is not made of units."""
    return (*KINDS[kind].figures, *COMMON) if kind in KINDS else ()


def slip(kind: str) -> str:
    """The kind that somebody meant who wrote one that does not exist, or the empty text."""
    known = (*KINDS, *_ELSEWHERE)
    return "" if kind in known else next(iter(get_close_matches(kind, known, n=1, cutoff=0.7)), "")


def unit_names(kind: str) -> tuple[str, ...]:
    """The units of ``rtl`` that an engine of this kind is made of, that whose contract is its time first; empty for others."""
    if kind not in KINDS:
        return _ELSEWHERE.get(kind, ())
    shape = {name: _one(1.0 if default is None else default) for name, default in KINDS[kind].figures.items()}
    return tuple(part.unit for part in KINDS[kind].parts(shape))


def given(kind: str, known: Mapping[str, float], *, where: str) -> dict[str, float]:
    """The shape of an array: the file's figures over the defaults. Raises ``ValueError`` for one that is missing or cannot
    be."""
    spans = {name: (0.0 if default == 0 else 1.0, MOST) for name, default in KINDS[kind].figures.items()}
    for name, (least, most) in {**spans, **KINDS[kind].spans, **COMMON}.items():
        if name in known and not least <= known[name] <= most:
            bounds = f"in [{least:g}, {most:g}]" if known[name] > most else f"at least {least:g}"
            raise ValueError(f"{where}: engine.matrix.figure.{name}: must be {bounds}, got {known[name]:g}")
    found: dict[str, float] = {}
    for name, default in KINDS[kind].figures.items():
        value = known.get(name, default)
        if value is not None and value % 1:
            raise ValueError(f"{where}: engine.matrix.figure.{name}: must be a whole number, got {value:g}")
        if value is None:
            raise ValueError(f"{where}: engine figure {name!r} is missing; an engine of kind {kind!r} needs it, e.g. "
                             f"[engine.matrix.figure] {name} = {{ value = ..., kind = ..., source = ... }}")
        found[name] = float(value)
    return found


def rates(kind: str, known: Mapping[str, float], *, units: float, clock: float, where: str) -> dict[str, float]:
    """Format of both operands -> rate of ``units`` arrays with full tiles [op/s]; formats that the unit does not take are
    left out."""
    f = {k: _one(v) for k, v in given(kind, known, where=where).items()}
    built = KINDS[kind]
    passes = {name: float(built.passes(get_format(name), get_format(name), f)) for name in _STATED}
    return {name: 2.0 * float(built.macs(f)) * units * clock / p for name, p in passes.items() if not np.isnan(p)}
