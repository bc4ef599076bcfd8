"""Ours against published: the page is up to date, every figure has a source and a reason, ratios are what they say."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from rtl.harness import density, figures
from rtl.harness.registry import ROOT, load

ROWS = density.published()["compared"]


def test_the_page_is_up_to_date() -> None:
    assert (ROOT / "DENSITY.md").read_text(encoding="utf-8") == density.page(), "python -m rtl.harness.generate"


@pytest.mark.parametrize("row", ROWS, ids=lambda r: f"{r['source']}-{r['quantity']}-{r['unit']['work']}")
def test_every_row_is_whole(row: density.Row) -> None:
    assert set(row) - {"with"} == {"source", "what", "quantity", "of", "better", "published", "unit", "baseline", "reason"}
    assert row["source"] in density.published()["sources"]
    assert row["better"] in ("more", "less")
    assert row["baseline"]["unit"] in figures.BASELINES
    assert len(row["reason"]) > 8
    for side in (row["unit"], row["baseline"]):
        assert side["build"] in load(side["unit"]).synth


def test_ratios() -> None:
    """Published headlines: 20.9 times an FP16 tensor core; 0.77 of the area for two products is 2.6 times."""
    by = {(r["source"], r["quantity"], r["what"]): density.published_ratio(r) for r in ROWS}
    assert by["lut_tensor_core", "density", "W2A8 lookup array (4x) against FP16 tensor cores"] == pytest.approx(20.9, abs=0.05)
    pe = next(v for k, v in by.items() if k[0] == "bitmod")
    assert pe == pytest.approx(2 * 1968.7 / 1507.7)


def test_ours_are_cells_of_the_figures_over_products_per_cycle() -> None:
    row = next(r for r in ROWS if r.get("with"))
    ge = {k: figures.stored()[k]["ge"] for k in (("lut_mpgemm_tile", "8-bit tables"), ("lut_table_gen", "A16 rounded"))}
    whole = ge["lut_mpgemm_tile", "8-bit tables"] + 2 * ge["lut_table_gen", "A16 rounded"]
    assert density.per_product(row["unit"], row["with"]) == pytest.approx(whole / (2 * 64 * 4))
    assert density.our_ratio(row) == pytest.approx(figures.stored()["base_fp16_mac", "AM 23"]["ge"] / (whole / 512))


def test_changes_are_those_of_the_netlist_and_of_the_clock() -> None:
    row = next(r for r in ROWS if r["quantity"] == "energy" and r["source"] == "bitmod")
    changes = {}
    for side, per_cycle in (("unit", 2.0), ("baseline", 1.0)):
        name, build = row[side]["unit"], row[side]["build"]
        kept, busy = figures.stored()[name, build], json.loads((ROOT / "activity.json").read_text(encoding="utf-8"))
        per_ge = next(r["per_ge"] for r in busy if r["unit"] == name)
        changes[side] = (per_ge * kept["ge"] + 2 * kept["ff"]) / per_cycle
    assert density.our_ratio(row, "changes") == pytest.approx(changes["baseline"] / changes["unit"])
    line = next(x for x in density.page().splitlines() if row["what"] in x and "pJ" in x)
    theirs = density.published_ratio(row)
    assert f"| {density.our_ratio(row, 'changes') / theirs:.2f} |" in line
    with pytest.raises(ValueError, match="no activity of nbit_unpack"):
        density.figure({"unit": "nbit_unpack", "build": "default"}, "changes")


def test_a_build_without_figures_is_named() -> None:
    with pytest.raises(ValueError, match="no figures of lut_dot, build 'huge'; perfboard rtl synth lut_dot"):
        density.per_product({"unit": "lut_dot", "build": "huge"})
    with pytest.raises(ValueError, match="lut_table_gen multiplies nothing"):
        density.per_product({"unit": "lut_table_gen", "build": "A8"})


def test_page_has_all_rows() -> None:
    text = Path(density.PAGE).read_text(encoding="utf-8")
    assert all(r["reason"] in text for r in ROWS)
    assert all(r["figure"] in text for r in density.published()["apart"])
