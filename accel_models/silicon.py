"""Area and energy of accelerators from our own synthesis figures, scaled to a process node by sourced technology factors.

Gate equivalents (GE, one two-input NAND each) and flip-flops of a unit are those of its synthesised builds
(``rtl/figures.json``, ``rtl/builds.json``); between builds a structural formula stands in, a few terms a unit, whose
coefficients and errors on builds that no fit has seen are in ``fitted/cells.toml``. Square millimetres and joules follow by
the factors of ``technology.toml``: generic mapping without timing, so ratios of units are worth more than absolute values
(``docs/silicon.md`` compares both with published ones).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_models.fitted_store import ParameterSet
from accel_models.fitted_store import load as fitted
from accel_models.technology import common, raw
from accel_models.technology import node as factors
from rtl.harness.builds import synthesised
from rtl.harness.registry import ROOT, load

Array = NDArray[np.float64]
#: Term of a unit's structure -> its size, from the unit's parameters.
Terms = dict[str, Array]
#: Widths of configuration inputs: they follow from others, and what they take is not seen in the figures.
_FOLLOWS = ("PW",)


class Cells(NamedTuple):
    """Cells of a build, arrays that broadcast over the parameters. ``ge``: NAND2 equivalents, flip-flops included; ``ff``:
    flip-flops; ``synthesised``: exactly this build was, else it is modelled between those that were; ``spread``: factor by
    which ``ge`` may then be wrong either way (80 %), 1 where synthesised; ``toggles``: outputs that change in a cycle at work.
    """

    ge: Array
    ff: Array
    synthesised: NDArray[np.bool_]
    spread: Array
    toggles: Array


# -- cells: structure of the units --------------------------------------------------------------------------------------

def _log2(n: ArrayLike) -> Array:
    return np.ceil(np.log2(np.maximum(n, 1)) - 1e-9)


def _base_mac_dp(p: Mapping[str, Array]) -> Terms:
    bits = p["L"] * p["A_W"] * p["B_W"]
    recoded = np.minimum(p["A_W"], p["B_W"]) >= 4              # Yosys makes Booth multipliers of operands of 4 bits and more
    return {"products": np.where(recoded, bits, 0.0), "recoded": np.where(recoded, p["L"] * p["A_W"], 0.0),
            "plain": np.where(recoded, 0.0, bits), "accumulator": p["ACC_W"], "sum": p["A_W"] + p["B_W"] + _log2(p["L"])}


def _base_fp16_mac(p: Mapping[str, Array]) -> Terms:
    one = np.ones_like(p["AM"])
    return {"unit": one, "accumulator": p["AM"], "wide": np.maximum(p["AM"] + 1, 22)}


def _bitmod_unit(p: Mapping[str, Array]) -> Terms:
    return {"unit": np.ones_like(p["ACC_W"] * p["D_W"]), "accumulator": p["ACC_W"], "scale": p["D_W"]}


def _bitserial_mac(p: Mapping[str, Array]) -> Terms:
    bits = p["LANES"] * p["A_W"]
    return {"operands": bits, "planes": bits * p["BPC"], "lanes": p["LANES"] * p["BPC"], "accumulator": p["ACC_W"],
            "unit": np.ones_like(bits)}


def _btc_popcount_gemm(p: Mapping[str, Array]) -> Terms:
    lanes = p["MT"] * p["NT"]
    return {"products": lanes * p["KW"], "accumulators": lanes * p["ACC_W"],
            "shifters": lanes * p["ACC_W"] * _log2(2 * p["P_MAX"]), "sums": lanes * (_log2(p["KW"]) + 2),
            "unit": np.ones_like(lanes)}


def _lut_mpgemm_tile(p: Mapping[str, Array]) -> Terms:
    lanes, entries, tables = p["M"] * p["N"], 2.0 ** (p["K"] - 1), p.get("P", np.ones(()))
    lookups, summed = lanes * tables, p["T_W"] + np.where(tables > 1, _log2(tables) + 1, 0.0)
    shifted = np.minimum(summed + 2.0 ** p["SH_W"] - 1, p["ACC_W"])
    return {"select": lookups * entries * p["T_W"], "entry": lookups * p["T_W"], "kept": lanes * summed,
            "sums": np.where(tables > 1, lookups * summed, 0.0), "shifters": lanes * shifted * p["SH_W"],
            "accumulators": lanes * p["ACC_W"], "tables": p["M"] * tables * entries * p["T_W"], "unit": np.ones_like(lanes)}


def _lut_table_gen(p: Mapping[str, Array]) -> Terms:
    entries, width = 2.0 ** (p["K"] - 1), p["A_W"] + _log2(p["K"]) + 1
    stages = _log2(np.maximum(width - p["Q_W"], 0.0) + 1)
    return {"sums": entries * width, "operands": p["K"] * p["A_W"], "rounding": p["Q"] * entries * width,
            "shifters": p["Q"] * entries * width * stages, "exponent": p["Q"] * p["K"] * p["A_W"]}


def _shift_mac(p: Mapping[str, Array]) -> Terms:
    whole = 1.0 - p["FP"]
    width = p["A_W"] + 2.0 ** (p["B"] - 1) - 1
    return {"shifters": whole * p["L"] * width * (p["B"] - 1), "terms": whole * p["L"] * width, "accumulator": p["ACC_W"],
            "floats": p["FP"] * p["L"], "floats_wide": p["FP"] * p["L"] * p["B"], "floats_sum": p["FP"] * p["ACC_W"]}


def _ternary_acc(p: Mapping[str, Array]) -> Terms:
    trits = p["L"] * p["NO"]
    return {"terms": trits * p["A_W"], "codes": trits, "packed": trits * p["PACK"], "accumulators": p["NO"] * p["ACC_W"]}


def _sparse_dsp_chain(p: Mapping[str, Array]) -> Terms:
    return {"products": p["D"], "windows": p["D"] * p["M"], "accumulators": 8 * p["ACC_W"]}


def _flash_page_gemv(p: Mapping[str, Array]) -> Terms:
    one = np.ones_like(p["COLS"] * p["NMAC"])
    return {"vector": 8 * p["COLS"], "products": p["NMAC"], "ports": p["NMAC"] * p["COLS"], "unit": one}


#: Unit -> its terms. A unit without an entry is known by its builds alone.
TERMS: dict[str, Callable[[Mapping[str, Array]], Terms]] = {
    f.__name__[1:]: f for f in (_base_mac_dp, _base_fp16_mac, _bitmod_unit, _bitserial_mac, _btc_popcount_gemm,
                                _lut_mpgemm_tile, _lut_table_gen, _shift_mac, _ternary_acc, _sparse_dsp_chain,
                                _flash_page_gemv)}


@cache
def _fits() -> dict[str, ParameterSet]:
    """``"unit ge"``, ``"unit ff"`` -> coefficients of the unit's terms."""
    return {s.variant: s for s in fitted("cells").set}


def resolved(unit: str, parameters: Mapping[str, ArrayLike]) -> dict[str, Array]:
    """Parameters that are not derived from others, as given or by default, and the derived ones that are given."""
    known = load(unit).parameters
    if unknown := set(parameters) - set(known):
        raise ValueError(f"{unit}: no parameter {min(unknown)!r}; has {', '.join(known)}")
    found = {k: p.default for k, p in known.items() if not callable(p.default)} | dict(parameters)
    if unit == "shift_mac" and "A_W" not in found:
        found["A_W"] = 8.0 + 8.0 * np.asarray(found["FP"])
    return {k: np.asarray(v, dtype=np.float64) for k, v in found.items() if isinstance(v, (int, float, np.ndarray, list))}


def modelled(unit: str, p: Mapping[str, Array], figure: str = "ge") -> Array:
    """``ge`` or ``ff`` by the fitted terms."""
    values = _fits()[f"{unit} {figure}"].values
    terms = TERMS[unit](p)
    return np.asarray(sum((c * terms[name] for name, c in values.items()), np.zeros(())))


def cells(unit: str, parameters: Mapping[str, ArrayLike]) -> Cells:
    """Cells of a build of a unit; ``parameters`` are those of its Verilog, the defaults of the rest. All broadcast.

    Exact where a build was synthesised. Raises ``ValueError`` for a parameter or a unit that does not exist, and for builds
    of a unit without a structural formula that were not synthesised.
    """
    p = resolved(unit, parameters)
    shape = np.broadcast_shapes(*(v.shape for v in p.values()))
    exact, ge, ff = np.zeros(shape, dtype=np.bool_), np.zeros(shape), np.zeros(shape)
    for build, row in synthesised(unit):
        same = np.asarray(np.logical_and.reduce([np.broadcast_to(v == build[k], shape) for k, v in p.items()
                                                 if k not in _FOLLOWS]))
        exact, ge, ff = exact | same, np.where(same, row["ge"], ge), np.where(same, row["ff"], ff)
    if unit not in TERMS:
        if not np.all(exact):
            builds = "; ".join(" ".join(f"{k}={v}" for k, v in row["parameters"].items()) or "default"
                               for _, row in synthesised(unit))
            raise ValueError(f"{unit}: no area between its synthesised builds, which are {builds}; add one to synth in its "
                             f"contract.py, then perfboard rtl synth {unit} --write")
        return Cells(ge, ff, exact, np.ones(shape), ge * activity(unit))
    between = _fits()[f"{unit} ge"]
    ge, ff = np.where(exact, ge, modelled(unit, p)), np.where(exact, ff, modelled(unit, p, "ff"))
    return Cells(ge, ff, exact, np.where(exact, 1.0, between.hi["all"]), ge * activity(unit))


@cache
def ge_per_mac(fmt: str) -> float:
    """Gate equivalents of one multiply-accumulate a cycle of this format: of the build that the table of technologies names,
    over its products a cycle."""
    q = raw()["ge_per_mac"][fmt]
    return float(cells(q["unit"], q["parameters"]).ge) / float(q["products"])


# -- square millimetres and joules --------------------------------------------------------------------------------------

def area(ge: ArrayLike, *, node: str | float) -> Array:
    """Area of logic of ``ge`` gate equivalents as placed and wired [mm2]: peak density of the node, and the share of it that
    whole chips reach. Broadcasts over ``ge``. ``node``: "28", "TSMC 4N", 16."""
    return np.asarray(ge, dtype=np.float64) * cell_area(node) / common()["logic_utilisation"]


def cell_area(node: str | float) -> float:
    """Area of one gate equivalent, cells alone. [mm2]"""
    return common()["transistors_per_ge"] / factors(node)["logic_per_mm2"]


@cache
def _activities() -> dict[str, float]:
    rows = json.loads((ROOT / "activity.json").read_text(encoding="utf-8"))
    return {r["unit"]: float(r["per_ge"]) for r in rows}


def activity(unit: str) -> float:
    """Changes of outputs per gate equivalent and cycle of a unit at work: of its netlist, simulated without delays on random
    operands (``rtl/activity.json``); of a unit that was not simulated the table's, assumed."""
    return _activities().get(unit, common()["activity"])


def energy_per_cycle(ge: ArrayLike, *, node: str | float, activity: ArrayLike | None = None, ff: ArrayLike = 0.0) -> Array:
    """Energy of a cycle of cells at work [J]. Leakage is not in it.

    Parameters
    ----------
    ge, ff : array_like      Gate equivalents, and flip-flops among them, whose clock inputs switch every cycle.
    activity : array_like    Changes of outputs per gate equivalent and cycle, see ``activity``; default: the table's.
    """
    toggles = np.asarray(ge, dtype=np.float64) * (common()["activity"] if activity is None else np.asarray(activity))
    return np.asarray((toggles + common()["clock_toggles"] * np.asarray(ff)) * toggle_energy(node))


def work_energy(found: Cells, *, node: str | float) -> Array:
    """``energy_per_cycle`` of cells at their own activity. [J]"""
    return energy_per_cycle(found.ge, node=node, activity=found.toggles / np.maximum(found.ge, 1e-300), ff=found.ff)


def toggle_energy(node: str | float) -> float:
    """Energy of one change of an output of a gate equivalent: half of C V^2 at 45 nm, scaled to the node. [J]"""
    at = common()
    return at["toggle_inputs"] * at["input_f"] * at["toggle_v"] ** 2 / 2 * factors(node)["toggle_scale"]


def sram_area(nbytes: ArrayLike, *, node: str | float) -> Array:
    """Area of memory macros of ``nbytes`` together [mm2]: cells, and the periphery in the proportion of one made by CACTI."""
    return np.asarray(nbytes, dtype=np.float64) * 8 * factors(node)["sram_cell_mm2"] * common()["sram_overhead"]


def sram_energy_per_byte(nbytes: ArrayLike, *, node: str | float) -> Array:
    """Energy of a byte read from or written to one bank of ``nbytes`` [J/B]: that of 8 KiB, grown by a power of its size as
    published for 8 KB to 1 MB."""
    at = factors(node)
    return np.asarray(at["sram_j_per_byte"] * (np.asarray(nbytes, dtype=np.float64) / 8192) ** at["sram_growth"])
