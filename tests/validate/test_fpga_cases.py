"""Arithmetic cores of published designs: cycles of the units' contracts beside what the papers state of the core alone."""

from __future__ import annotations

import pytest

from accel_models.registry import load_device
from accel_models.silicon import cell_area, cells, energy_per_cycle, sram_area
from rtl.flash_page_gemv import contract as flash_page_gemv
from rtl.ternary_acc import contract as ternary_acc
from validate.case import Side, load
from validate.case_outcome import evaluate
from validate.case_verdict import Result, run


def results(case: str) -> dict[str, Result]:
    return {r.label: r for r in run(load(case)).results}


@pytest.fixture(scope="module")
def flightllm() -> dict[str, Result]:
    return results("flightllm_vhk158")


@pytest.mark.parametrize(("label", "within"), [
    ("flightllm arrays alone, one token: cycles of the chain's contract", 0.04),
    ("flightllm arrays alone, prompt: cycles of the chain's contract", 0.01)])
def test_arrays_are_busy_as_long_as_the_profile_says(flightllm: dict[str, Result], label: str, within: float) -> None:
    r = flightllm[label]
    assert r.value == pytest.approx(r.claimed[0], rel=within)
    assert r.unit == "s"


def test_a_token_takes_what_the_profile_says(flightllm: dict[str, Result]) -> None:
    for isl in (143, 511):
        r = flightllm[f"flightllm one token by the profile isl {isl}"]
        assert r.value == pytest.approx(r.claimed[0], rel=0.02)


def test_a_step_is_never_shorter_than_its_arrays_are_busy() -> None:
    side = load("flightllm_vhk158").resolve("flightllm", {"isl": 511, "osl": 2})
    for busy, whole in (("busy", "tpot"), ("prompt_busy", "ttft")):
        engine, step = evaluate(side, busy), evaluate(side, whole)          # type: ignore[arg-type]
        assert 0.8 * step.value < engine.value < step.value
        assert engine.limit < engine.value
        assert {term for (_, term), t in engine.terms.items() if t} == {"compute"}


def test_a_ternary_block_takes_its_beats_and_a_cycle_a_product() -> None:
    """Between two lanes and one lie the 43 ms at 60 MHz that were published."""
    case = load("matmul_free_lm")
    for name, lanes in (("block", 1), ("two_lanes", 2)):
        side = case.resolve(name)
        cycles = sum(ternary_acc.gemm_cycles(1, int(n), int(k), lanes=lanes, outputs=1) for n, k in side.products())
        assert evaluate(side, "busy").value == pytest.approx(cycles / 60e6)
    assert evaluate(case.resolve("two_lanes"), "busy").value < 0.043 < evaluate(case.resolve("block"), "busy").value


def test_a_page_takes_the_cycles_of_its_core_and_less_than_its_read() -> None:
    """16384 weights, 163 of them protected, at 400 MHz; the vector of 256 columns comes before."""
    busy = evaluate(load("cambricon_llm").resolve("core"), "busy").value
    cycles = flash_page_gemv.gemm_cycles(1, 256, 2048, cores=32, page=16384, cols=256, macs=2, entries=163)
    assert cycles == 128 + 8358
    assert busy == pytest.approx(cycles / 400e6)
    read = load_device("cambricon_llm_s").parameters()["memory.flash.nand.t_read"]
    assert busy < read
    assert cycles / read == pytest.approx(283e6, rel=0.01)              # clock that hides the core behind the read


def test_cells_of_the_core_in_flash_beside_the_published_ones() -> None:
    """What the case says of area and energy of the core alone, from cells as synthesised and factors of technology."""
    said = load("cambricon_llm").warning
    gate = cell_area("45") * 1e6 * (65 / 45) ** 2                    # [um2], by area from the nearest node of the table
    logic, whole = cells("flash_page_gemv", {"COLS": 0}), cells("flash_page_gemv", {"COLS": 256})
    units = 2 * 766.3                                                # their term in fitted/cells.toml
    published, die = 496 + 562, (496 + 562 + 38755) / 0.012          # [um2]
    macro = sram_area(2048, node="45") * 1e6 * (65 / 45) ** 2
    assert gate == pytest.approx(1.67, rel=0.01)
    assert float(logic.ge) == pytest.approx(3841, rel=0.02)
    assert float(logic.ge) * gate / published == pytest.approx(6, rel=0.05)
    assert 562 / gate == pytest.approx(337, rel=0.01)
    assert macro == pytest.approx(19500, rel=0.02)
    assert (float(logic.ge) * gate + macro) / die == pytest.approx(0.008, rel=0.05)
    assert float(whole.ge) * gate / die == pytest.approx(0.012, rel=0.03)
    pj = [1e12 * float(x) for x in (energy_per_cycle(units, node="45"), energy_per_cycle(logic.ge, node="45", ff=logic.ff))]
    assert pj == pytest.approx([0.6, 2.3], rel=0.2)                  # "about": the factors are fitted
    assert round(343.6 / 400, 2) == 0.86
    for text in ("1.67 um2", "3841", "six times", "337 gates", "19 500 um2", "0.8 %", "1.2 %", "0.6 pJ", "0.86", "2.3 pJ"):
        assert text in said, text


def test_ternary_lanes_in_a_u280_are_bound_by_its_ports_until_rows_share_the_weights() -> None:
    case = load("tereffic")
    one, full, four = (evaluate(case.resolve(s), "tokens_per_s") for s in ("one", "full_ports", "four"))
    for side in (one, full):
        assert max(side.terms, key=lambda k: side.terms[k]) == ("gemm", "memory")
    assert one.value < full.value < 727 < four.value
    # five weights a byte through 32 ports of 32 B at 225 MHz
    assert one.value < 32 * 32 * 225e6 / (0.5e9)


def test_products_have_no_other_quantities() -> None:
    with pytest.raises(ValueError, match="products have a time, a busy time and a power, found 'ttft'"):
        evaluate(Side(hw="d5005_ternary", n=64, k=64), "ttft")
