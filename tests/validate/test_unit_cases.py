"""Cases of accelerators made of units: what binds, from which size on, and densities by our own synthesis."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from accel_models.registry import load_device
from validate.case import Case, Side, load
from validate.case_arrays import density
from validate.case_outcome import evaluate
from validate.case_verdict import run

FIGURES = Path(__file__).resolve().parents[2] / "rtl" / "figures.json"


def seconds(case: Case, side: str, **at: Any) -> float:
    return evaluate(case.resolve(side, at), "time").value


def binds(case: Case, side: str, **at: Any) -> str:
    terms: Mapping[tuple[str, str], float] = evaluate(case.resolve(side, at), "time").terms
    return max(terms, key=lambda k: terms[k])[1]


@pytest.mark.parametrize(("name", "side", "n", "k", "rows"), [
    ("abq_llm_planes", "w8a8", 4096, 4096, 17), ("abq_llm_planes", "w8a8", 11008, 4096, 25),
    ("abq_llm_planes", "w2a8", 4096, 4096, 17), ("abq_llm_planes", "w6a6", 4096, 4096, 33),
    ("abq_llm_planes", "w4a4", 4096, 4096, 49), ("abq_llm_planes", "w2a2", 4096, 11008, 105),
    ("abq_llm_planes", "w8a8_cutlass", 4096, 11008, 209), ("abq_llm_planes", "w4a4_cutlass", 4096, 11008, 209),
    ("flexq_planes", "w6a6", 0, 0, 33), ("flexq_planes", "w8a8", 0, 0, 209)])
def test_rows_from_which_on_multiplication_binds(name: str, side: str, n: int, k: int, rows: int) -> None:
    """As the cases' warnings say. Tiles of 8 rows: a step of 8 (16 of the int8 tensor cores)."""
    case, shape = load(name), {"n": n, "k": k} if n else {}
    assert binds(case, side, m=rows - 1, **shape) == "memory"
    assert binds(case, side, m=rows, **shape) == "compute"


@pytest.mark.parametrize(("side", "base", "gain"), [
    ("w8a8", "w8a8_cutlass", 1 / 8), ("w6a6", "w8a8_cutlass", 8 / 36), ("w2a8", "w8a8_cutlass", 1 / 2),
    ("w4a4", "w4a4_cutlass", 1 / 4), ("w2a2", "w4a4_cutlass", 1.0)])
def test_planes_with_many_rows_take_their_turns(side: str, base: str, gain: float) -> None:
    """Binary rate 8 times that of int8, 4 times that of int4, over pa x pw turns; the drain of a tile costs a few percent."""
    case, shape = load("abq_llm_planes"), {"m": 4096, "n": 8192, "k": 8192}
    assert seconds(case, base, **shape) / seconds(case, side, **shape) == pytest.approx(gain, rel=0.04)


@pytest.mark.parametrize("name", ["abq_llm_planes", "flexq_planes"])
def test_published_plane_kernels_wait_for_their_weights(name: str) -> None:
    case = load(name)
    for claim in case.claim:
        for overlay in claim.overlays():
            for side in (claim.side, *claim.against):
                assert binds(case, side, **overlay) == "memory"


def test_densities_are_those_of_the_synthesis() -> None:
    """The ratio of densities is that of gate equivalents of a product a cycle."""
    ge = {(r["unit"], r["build"]): r["ge"] for r in json.loads(FIGURES.read_text(encoding="utf-8"))}
    two_bits = (ge["lut_mpgemm_tile", "ACC 24"] + ge["lut_table_gen", "A8"]) / 256
    one_bit = (ge["lut_mpgemm_tile", "8-bit tables"] + 2 * ge["lut_table_gen", "A16 rounded"]) / 512
    fp16, int8 = ge["base_fp16_mac", "AM 23"], ge["base_mac_dp", "16x(8x8)"] / 16
    found = {r.label: r for r in run(load("lut_tensor_core_density")).results if r.quantity == "density"}
    values = [r.value for r in found.values()]
    assert values[:2] == pytest.approx([fp16 / two_bits, int8 / two_bits], rel=1e-3)
    assert values[4] == pytest.approx(fp16 / one_bit, rel=0.07)          # the build holds a shift of one bit more
    assert values[2] / values[0] == pytest.approx(values[3] / values[1])
    assert values[2] > 1.8 * values[0]                                   # an accumulator for four tables, not for each
    assert all(r.value < r.claimed[0] for r in found.values())


def test_density_and_efficiency_need_units() -> None:
    gpu = Side(hw="a100_sxm4_80gb", n=1, k=1)
    with pytest.raises(ValueError, match="a100_sxm4_80gb: density: its engine is not made of units"):
        evaluate(gpu, "density")
    with pytest.raises(ValueError, match="a100_sxm4_80gb: efficiency: needs an engine made of units"):
        evaluate(gpu, "efficiency")
    slow, fast = (density(load_device("edge_lut").with_value("engine.matrix.clock", hz), "int8", "int2")[0]
                  for hz in (1e9, 2e9))
    assert fast == pytest.approx(2 * slow)


def test_the_ratios_of_lut_tensor_core_hold_and_its_times_are_of_a_slower_gpu() -> None:
    results = run(load("lut_tensor_core")).results
    ratios = [r for r in results if r.unit == "x"]
    assert len(ratios) == 7
    assert all(r.verdict == "explained" for r in ratios)
    assert all(0.65 * r.claimed[0] < r.value < 1.05 * r.claimed[0] for r in ratios)
    assert all(r.value < r.claimed[0] for r in results if r.quantity in ("ttft", "linears") and r.unit == "s")


def test_shifters_replace_multipliers_by_their_gates() -> None:
    ge = {(r["unit"], r["build"]): r["ge"] / 16 for r in json.loads(FIGURES.read_text(encoding="utf-8"))
          if "16" in r["build"]}
    shift, floats = ge["shift_mac", "16, B 3"], ge["shift_mac", "16 FP16, B 3"]
    fp16 = next(r["ge"] for r in json.loads(FIGURES.read_text(encoding="utf-8")) if r["build"] == "AM 23")
    found = [r.value for r in run(load("denseshift")).results if r.quantity == "density"]
    assert found == pytest.approx([ge["base_mac_dp", "16x(8x8)"] / shift, fp16 / shift, ge["base_mac_dp", "16x(8x4)"] / shift,
                                   fp16 / floats], rel=1e-3)
