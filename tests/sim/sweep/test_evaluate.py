"""A swept point is the answer to the same question asked alone."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sim.api import whatif
from sim.sweep import evaluate
from sim.sweep.evaluate import ERROR, INFEASIBLE, OK, closed, one_by_one
from sim.sweep.refused import apart
from tests.sim.sweep.small import HEAD, SEVERAL, made

MIXED = """[sweep.grid]
model = ["llama-3.1-8b", "mixtral-8x7b-v0.1"]
hardware = ["h200_sxm", "a100_sxm4_80gb"]
"model.quant" = ["", "fp8"]
"deployment.tp" = [1, 2]
[sweep.range]
"hardware.memory.main.bandwidth" = { from = "1 TB/s", to = "9 TB/s" }
"hardware.engine.matrix.units" = { from = 50, to = 250, integer = true }
"workload.concurrency" = { from = 1, to = 128, scale = "log" }
"workload.isl" = { from = 64, to = 4096 }
[sweep.sample]
n = 48
seed = 2
"""
NAMES = ("ttft_s", "tpot_s", "tokens_per_s_per_gpu", "j_per_output_token")


def everything(space):
    return space.columns(np.arange(space.size))[0]


def alone(space, columns, i):
    """The same point as one question."""
    at = {k: v[i].item() for k, v in columns.items()}
    fields = {"batch": "workload.concurrency", "isl": "workload.isl", "osl": "workload.osl", "tp": "deployment.tp",
              "quant": "model.quant"}
    sets = sorted(((k.removeprefix("hardware."), str(v)) for k, v in at.items() if k.startswith("hardware.")),
                  key=lambda s: not s[0].endswith("units"))
    return whatif(at.get("model", space.base["model"]), at.get("hardware", space.base["hardware"]), elasticities=False,
                  sets=tuple(sets), **{f: at.get(n, space.base[n]) for f, n in fields.items()})


@pytest.mark.parametrize("sweep", [MIXED, SEVERAL.replace("[1, 2, 3]", "[1, 2]")])
def test_equal_to_one_question(sweep):
    space = made(sweep)
    columns = everything(space)
    found = closed(space, columns)
    for i in np.random.default_rng(0).integers(0, space.size, 12):
        answer = alone(space, columns, i)
        for name in NAMES:
            assert found.figures[name][i] == pytest.approx(answer.data["metrics"][name]["value"], rel=1e-9), name
        lo = answer.data["metrics"]["tokens_per_s_per_gpu"]["lo"]
        assert found.figures["tokens_per_s_per_gpu_lo"][i] == pytest.approx(lo, rel=1e-9)
        assert (found.status[i] == OK) == bool(np.all(answer.estimate.memory["fits"]))


def test_a_grid_is_as_its_points_one_by_one(monkeypatch):
    space = made(SEVERAL)
    columns = everything(space)
    whole = closed(space, columns)
    monkeypatch.setattr(evaluate, "SPARSE", 0.0)
    monkeypatch.setattr(evaluate, "ROWS", 100)
    single = closed(space, columns)
    assert (whole.status == single.status).all()
    assert whole.error == single.error
    for name, values in whole.figures.items():
        np.testing.assert_allclose(values, single.figures[name], rtol=1e-12)


def test_errors_and_misfits_are_results_with_a_reason():
    found = closed(space := made(SEVERAL), columns := everything(space))
    by_tp = columns["deployment.tp"]
    assert set(found.status[by_tp == 3]) == {ERROR}
    assert "3 does not divide the 32 attention heads" in found.error[np.flatnonzero(by_tp == 3)[0]]
    assert np.isnan(found.figures["tpot_s"][by_tp == 3]).all()
    small = (by_tp == 1) & (columns["hardware.memory.hbm.capacity"] < 15e9) & (columns["model.quant"] == "")
    assert set(found.status[small]) == {INFEASIBLE}
    assert found.error[np.flatnonzero(small)[0]] == "does not fit in memory"
    assert (found.figures["tpot_s"][small] > 0).all()


def test_a_prompt_too_long_is_that_points_error_alone():
    space = made('[sweep.grid]\n"workload.isl" = [100, 200000, 300, 400000]\n"workload.prefix" = [0, 250]')
    columns = everything(space)
    found = closed(space, columns)
    wrong = (columns["workload.isl"] > 131072) | (columns["workload.prefix"] >= columns["workload.isl"])
    assert found.status.tolist() == np.where(wrong, ERROR, OK).tolist()
    assert "exceed the 131072" in found.error[np.flatnonzero(columns["workload.isl"] == 400000)[0]]


def test_limits_of_service_and_constraints_on_figures():
    space = made('[sweep.grid]\n"workload.concurrency" = [1, 32, 512]\n[sweep]\nconstraints = ["avg_power_w < 500"]',
                 head=HEAD + 'slo = { tpot = "10 ms" }')
    found = closed(space, everything(space))
    assert found.status.tolist() == [OK, INFEASIBLE, INFEASIBLE]
    assert found.error == ["", "not avg_power_w < 500", "slo: tpot_s above 0.01"]


def test_derived_figures_may_be_objectives():
    space = made('[sweep.grid]\n"var.mb" = [0, 50, 100]\n[sweep.derived]\n'
                 '"hardware.memory.l2.capacity" = "1e6 * var.mb + 1e6"\n'
                 'silicon_mm2 = "area_mm2 + 0.5 * var.mb"\nspeed_per_mm2 = "tokens_per_s_per_gpu / silicon_mm2"',
                 objectives='[sweep.objectives]\nspeed_per_mm2 = "max"')
    found = closed(space, everything(space))
    grown = 1.25e-7 * 8 * 50e6 + 25                       # a cache of 50 MB more, and the term above
    assert np.diff(found.figures["silicon_mm2"]) == pytest.approx([grown, grown])
    np.testing.assert_allclose(found.figures["speed_per_mm2"],
                               found.figures["tokens_per_s_per_gpu"] / found.figures["silicon_mm2"])


def test_a_model_may_be_changed_by_an_axis():
    space = made('[sweep.grid]\n"model.num_hidden_layers" = [16, 32]')
    found = closed(space, everything(space))
    assert 0.4 < found.figures["tpot_s"][0] / found.figures["tpot_s"][1] < 0.7


def test_an_evaluator_of_single_points():
    def simulate(space, point):
        if point["deployment.tp"] == 3:
            raise ValueError("three is odd")
        return {"tpot_s": 1e-3 * point["deployment.tp"], "fits": point["workload.concurrency"] < 300}

    found = one_by_one(simulate)(space := made(SEVERAL), columns := everything(space))
    assert found.figures["tpot_s"][columns["deployment.tp"] == 2].tolist() == [2e-3] * 392
    assert {e for e, t in zip(found.error, columns["deployment.tp"], strict=True) if t == 3} == {"three is odd"}
    assert set(found.status[columns["workload.concurrency"] == 400]) == {INFEASIBLE, ERROR}


@pytest.mark.parametrize("workload", ["[sweep.grid]\n",
                                      '[sweep.range]\n"workload.isl" = { from = 64, to = 512 }\n[sweep.grid]\n'])
def test_designs_that_a_part_cannot_hold_are_errors_and_the_rest_is_answered(workload):
    """A sweep over the shape of an FPGA's array: each point says which resource it lacks."""
    space = made(workload + """model = ["llama-2-7b"]
hardware = ["alveo_u280"]
"hardware.engine.matrix.figure.tile_m" = [64, 128, 256]
"hardware.engine.matrix.figure.tile_k" = [8, 16]
""" + ("" if "range" not in workload else "[sweep.sample]\nn = 24\nseed = 1\n"))
    columns = everything(space)
    found = closed(space, columns)
    shape = columns["hardware.engine.matrix.figure.tile_m"], columns["hardware.engine.matrix.figure.tile_k"]
    big = (shape[0] == 256) & (shape[1] == 16)
    assert np.array_equal(found.status == ERROR, big)
    assert {found.error[i].split(";")[0] for i in np.flatnonzero(big)} == {
        "alveo_u280: engine.matrix.figure: the design takes 12288 dsp, the part has 9024"}
    assert np.all(np.isnan(found.figures["tpot_s"][big]))
    for i in np.flatnonzero(~big)[:4]:
        answer = alone(space, columns, i)
        assert found.figures["tpot_s"][i] == pytest.approx(answer.data["metrics"]["tpot_s"]["value"], rel=1e-9)


def test_a_shape_that_no_unit_has_is_the_error_of_its_points_alone():
    space = made("""[sweep.grid]
model = ["llama-2-7b"]
hardware = ["bitmod"]
"model.quant" = ["w3"]
"hardware.engine.matrix.figure.rows" = [16, 64]
"hardware.engine.matrix.figure.cols" = [4, 0, 16]
"workload.isl" = [64, 128]
""")
    columns = everything(space)
    found = closed(space, columns)
    wrong = columns["hardware.engine.matrix.figure.cols"] == 0
    assert found.status.tolist() == np.where(wrong, ERROR, OK).tolist()
    assert {found.error[i] for i in np.flatnonzero(wrong)} == {"bitmod: engine.matrix.figure.cols: must be at least 1, got 0"}
    for i in np.flatnonzero(~wrong)[::3]:
        answer = alone(space, columns, i)
        assert found.figures["tpot_s"][i] == pytest.approx(answer.data["metrics"]["tpot_s"]["value"], rel=1e-9)


@settings(max_examples=40, deadline=None)
@given(st.integers(1, 20), st.integers(0, 3), st.integers(1, 90), st.booleans())
def test_refused_points_are_found_whatever_makes_them_wrong(n_rows, bad, n_cols, jointly):
    """Values of one number, or pairs of two, that a device cannot have; parts only ever get smaller."""
    rows, cols = (a.reshape(-1).astype(float) for a in np.meshgrid(np.arange(n_rows), np.arange(n_cols)))

    def refused(numbers):
        values = {"rows": 99.0, "cols": 99.0} | dict(numbers)
        wrong = values["rows"] + values["cols"] < bad if jointly else values["cols"] < bad
        return "too small" if wrong else ""

    todo, told = [np.arange(len(rows))], np.zeros(len(rows), dtype=bool)
    while todo:
        part = todo.pop()
        if not any(refused({"rows": rows[i], "cols": cols[i]}) for i in part):
            continue
        if len({(rows[i], cols[i]) for i in part}) == 1:
            told[part] = True
            continue
        cut = apart({"rows": rows[part], "cols": cols[part]}, refused)
        assert sorted(np.concatenate([places for places, _ in cut])) == list(range(len(part)))
        assert all(len(places) < len(part) or problem for places, problem in cut)
        for places, problem in cut:
            if problem:
                told[part[places]] = True
            else:
                todo.append(part[places])
    wrong = rows + cols < bad if jointly else cols < bad
    assert told.tolist() == wrong.tolist()
