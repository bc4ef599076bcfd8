"""Bundled studies: each runs, and its conclusion follows from its numbers."""

import json

import numpy as np
import pytest
from click.testing import CliRunner

from sim.cli import cli
from sim.sweep import study
from sim.sweep.run import load, read
from sim.sweep.study import STUDIES, text_of


def call(*line):
    result = CliRunner().invoke(cli, ["sweep", "study", *line], standalone_mode=False)
    if result.exception:
        raise result.exception
    return result.stdout, result.stderr


def test_the_list_names_all():
    out, _ = call()
    assert all(name in out for name in STUDIES)


def test_an_unknown_study_is_one_line():
    with pytest.raises(ValueError, match="no study 'x'; there is llama_70b, lut_7b, phone, hbm_stacks"):
        call("x")


@pytest.mark.parametrize("name", STUDIES)
def test_every_study_is_a_checked_experiment(name):
    made = read(text_of(name), f"{name}.toml")
    assert 10 <= made.size <= 2000


@pytest.mark.parametrize("name", ["llama_70b", "lut_7b", "hbm_stacks", "lut_arrays"])
def test_closed_studies_conclude(name, tmp_path):
    out, err = call(name, "-o", str(tmp_path / "s"), "--format", "json")
    said = json.loads(out)["conclusion"]
    assert len(said) >= 4
    assert not any("nan" in s.lower() for s in said)
    assert all(s in (tmp_path / "s/conclusion.md").read_text() for s in said)
    assert (tmp_path / "s/sweep.html").stat().st_size > 10_000
    assert "new" in err
    again, err = call(name, "-o", str(tmp_path / "s"), "--format", "json")
    assert again == out
    assert "(0 new" in err


@pytest.mark.slow
def test_the_phone_concludes(tmp_path):
    out, _ = call("phone", "-o", str(tmp_path / "s"))
    assert "So memory before" in out


def test_the_cheapest_number_of_stacks_is_the_one_of_the_rows(tmp_path):
    out, _ = call("hbm_stacks", "-o", str(tmp_path / "s"))
    rows = load(tmp_path / "s")
    fine = rows["status"] == "ok"
    price = rows["scaled_usd_per_m_output_tokens"][fine]
    stacks = rows["var.stacks"][fine][np.argmin(price)]
    assert f"Cheapest: {stacks:g} stacks" in out
    assert f"{price.min():.2f} USD" in out


def test_a_conclusion_turns_with_its_numbers(tmp_path):
    """Were a larger cache worth more than everything else, the study would say so."""
    call("llama_70b", "-o", str(tmp_path / "s"))
    rows = load(tmp_path / "s")
    rows = {k: v[rows["status"] == "ok"] for k, v in rows.items()}
    assert "between SRAM and MACs, MACs" in " ".join(study._llama_70b(rows))
    rows["tokens_per_s_per_gpu"] = rows["tokens_per_s_per_gpu"] * (rows[study.L2] / rows[study.L2].min()) ** 2
    assert "So last-level cache before" in " ".join(study._llama_70b(rows))


def test_the_smallest_lookup_array_is_the_one_of_the_rows(tmp_path):
    """Four or five terms a table, as the published design has it; a table shared by more lanes is never larger."""
    out, _ = call("lut_arrays", "-o", str(tmp_path / "s"))
    rows = {k: v[load(tmp_path / "s")["status"] == "ok"] for k, v in load(tmp_path / "s").items()}
    assert len(rows["status"]) == 270
    terms, area = rows[f"{study.ARRAY}group"], rows["multipliers_mm2"]
    for tables in (1, 2, 4):
        least = [area[(terms == k) & (rows[f"{study.ARRAY}tables"] == tables)].min() for k in (2, 3, 4, 5, 6)]
        assert min(least) in least[1:4]
        assert least[0] > least[1]
    assert f"{area.min():.2f} mm2, " in out
    cheap = study._area_of_rate("edge_bit_serial", "int2", 2e12)
    assert cheap == pytest.approx(study._area_of_rate("edge_bit_serial", "int4", 2e12) / 2)
    assert cheap < study._area_of_rate("edge_int_mac", "int2", 2e12) == study._area_of_rate("edge_int_mac", "int4", 2e12)


def test_gates_are_those_of_our_own_units():
    gates = list(study._ge_per_mac().values())
    assert gates[0] > gates[2] > gates[1] > 100
