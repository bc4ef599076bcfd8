"""Tables in, tables out: every kind of op, every way a row can be wrong, and nothing dropped, moved or invented."""

from __future__ import annotations

import csv
import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from accel_models.bind import bind
from accel_models.price import price
from accel_models.registry import load_device
from sim.cli import main
from sim.predict import ADDED, Counts, added_names, predict_rows
from workloads.ops import Attention, Collective, Elementwise, Gemm, Moe

HEADER = ["op", "device", "m", "n", "k", "batch", "q_len", "kv_len", "n_heads", "n_kv_heads", "head_dim", "n_tokens",
          "hidden", "inter", "topk", "n_experts", "rows", "cols", "bytes_rw", "bytes", "n_devices", "dtype", "dtype_a",
          "quant", "cache", "remark"]
GOOD: dict[str, dict[str, object]] = {
    "gemm": {"op": "gemm", "m": 512, "n": 4096, "k": 4096, "dtype_a": "bf16", "quant": "none"},
    "fp8": {"op": "gemm", "m": 512, "n": 4096, "k": 4096, "quant": "fp8_dynamic"},
    "int4": {"op": "gemm", "m": 1, "n": 4096, "k": 4096, "quant": "int4_weight_only"},
    "prefill": {"op": "attention_prefill", "batch": 2, "q_len": 1024, "kv_len": 2048, "n_heads": 32, "n_kv_heads": 8,
                "head_dim": 128, "dtype": "bf16"},
    "decode": {"op": "attention_decode", "batch": 8, "q_len": 1, "kv_len": 2048, "n_heads": 32, "n_kv_heads": 8,
               "head_dim": 128},
    "moe": {"op": "moe", "n_tokens": 64, "hidden": 4096, "inter": 14336, "topk": 2, "n_experts": 8},
    "rmsnorm": {"op": "rmsnorm", "rows": 4096, "cols": 4096, "bytes_rw": 2 * 2 * 4096 * 4096},
    "all_reduce": {"op": "all_reduce", "bytes": 2**24, "n_devices": 8},
}
NAMED = {name: {"device": "h100_sxm", "remark": name, **row} for name, row in GOOD.items()}


def text(rows: list[dict[str, object]], header: list[str] = HEADER) -> str:
    out = io.StringIO()
    writer = csv.DictWriter(out, header, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def predicted(rows: list[dict[str, object]], header: list[str] = HEADER, device: str = "") -> list[dict[str, str]]:
    table = list(csv.reader(io.StringIO(text(rows, header))))
    names = [*header, *added_names(header)]
    counts = Counts()
    out = [dict(zip(names, row, strict=True)) for row in predict_rows(header, table[1:], counts, device=device)]
    assert len(out) == len(rows) == counts.rows
    assert counts.unpredicted == sum(not r["pred_s"] for r in out)
    return out


# -- what it says ----------------------------------------------------------------------------------------------------

def test_a_mixed_table_keeps_its_order_and_its_cells() -> None:
    rows = [NAMED[n] for n in (*GOOD, *reversed(GOOD))]
    out = predicted(rows)
    for given, got in zip(rows, out, strict=True):
        assert {k: got[k] for k in HEADER} == {k: str(given.get(k, "")) for k in HEADER}
        low, mid, high = (float(got[k]) for k in ("pred_lo_s", "pred_s", "pred_hi_s"))
        assert 0 < low < high
        assert 1e-7 < mid < 1
        assert 0 < float(got["roofline_s"]) < 2 * mid
        assert got["bound"] in ("compute", "memory", "link", "launch", "tail")
        assert got["source"] in ("fitted", "transferred", "assumed")
        assert got["note"] == ""
    assert [r["pred_s"] for r in out[:len(GOOD)]] == [r["pred_s"] for r in reversed(out[len(GOOD):])]


def test_predictions_are_those_of_the_op_priced_alone() -> None:
    hw = bind([load_device("h100_sxm")])
    ops = {
        "gemm": Gemm(name="", m=512, n=4096, k=4096),
        "fp8": Gemm(name="", m=512, n=4096, k=4096, a="fp8_e4m3", w="fp8_e4m3"),
        "int4": Gemm(name="", m=1, n=4096, k=4096, w="int4_g128"),
        "prefill": Attention(name="", phase="prefill", batch=2, q_len=1024, kv_len=2048, n_heads=32, n_kv_heads=8,
                             head_dim=128, v_head_dim=128, kv_elements=2 * 8 * 128, resident=1.0),
        "decode": Attention(name="", phase="decode", batch=8, q_len=1, kv_len=2048, n_heads=32, n_kv_heads=8,
                            head_dim=128, v_head_dim=128, kv_elements=2 * 8 * 128, resident=1.0),
        "moe": Moe(name="", tokens=64, hidden=4096, inter=14336, topk=2, n_experts=8, n_local=8, dealt=1.0,
                   resident=1.0),
        "rmsnorm": Elementwise(name="", kind="rmsnorm", rows=4096, cols=4096, bytes_read=2 * 4096 * 4096,
                               bytes_written=2 * 4096 * 4096),
        "all_reduce": Collective(name="", kind="all_reduce", nbytes=2**24, n_devices=8),
    }
    for name, row in zip(GOOD, predicted([NAMED[n] for n in GOOD]), strict=True):
        p = price([ops[name]], hw)[0]
        time = float(np.asarray(p.cost.time).reshape(-1)[0])
        assert float(row["pred_s"]) == pytest.approx(time, rel=1e-5), name
        assert float(row["pred_lo_s"]) == pytest.approx(time * float(p.lo.reshape(-1)[0]), rel=1e-5), name
        assert float(row["pred_hi_s"]) == pytest.approx(time * float(p.hi.reshape(-1)[0]), rel=1e-5), name
        assert row["source"] == p.source[0], name


def test_the_roofline_by_hand() -> None:
    row = predicted([NAMED["gemm"]])[0]
    flops, moved = 2 * 512 * 4096 * 4096, 2 * (512 * 4096 + 4096 * 4096 + 512 * 4096)
    assert float(row["roofline_s"]) == pytest.approx(max(flops / 989.4e12, moved / 3.35e12), rel=1e-3)


def test_the_roofline_of_an_engine_made_of_units_is_that_of_its_contract() -> None:
    """Terms of power-of-two weights a cycle: 46 arrays of 64 x 16 lanes at 1 GHz; other weights go to the vector engine, which
    the row says."""
    row = {"op": "gemm", "device": "edge_shift", "m": 4096, "n": 4096, "k": 4096, "dtype_a": "int8"}
    header = [*HEADER, "dtype_w"]
    shifts, others = predicted([row | {"dtype_w": "pot3"}, row | {"dtype_w": "int8"}], header)
    assert float(shifts["roofline_s"]) == pytest.approx(4096**3 / (46 * 64 * 16 * 1e9), rel=1e-5)
    assert shifts["note"] == ""
    assert float(others["roofline_s"]) == pytest.approx(2 * 4096**3 / 1.024e12, rel=1e-5)
    assert others["note"] == "shift_mac does not multiply int8 x int8: the vector engine does"
    assert float(shifts["pred_s"]) < float(others["pred_s"])


def test_a_warm_operand_is_no_slower_than_a_cold_one() -> None:
    small = NAMED["gemm"] | {"m": 8, "n": 2048, "k": 2048}
    cold, warm = (float(r["pred_s"]) for r in predicted([small | {"cache": "cold"}, small | {"cache": "warm"}]))
    assert warm < cold


def test_other_names_of_matrix_products_in_measured_tables() -> None:
    rows = predicted([NAMED["gemm"] | {"op": op} for op in ("gemm", "linear", "matmul", "mlp_down_proj", "lm_head")])
    assert len({r["pred_s"] for r in rows}) == 1


# -- what can be wrong with a row ------------------------------------------------------------------------------------

@pytest.mark.parametrize(("name", "changed", "reason"), [
    ("gemm", {"op": "frobnicate"}, "op 'frobnicate' is not known; known: gemm"),
    ("gemm", {"device": "h100"}, "unknown hardware 'h100'. Did you mean h100_sxm"),
    ("gemm", {"device": ""}, "no device: the row names none and --hw is not given"),
    ("gemm", {"m": ""}, "m: must be a number from 1 to 1e+15"),
    ("gemm", {"m": "nan"}, "m: must be a number from 1"),
    ("gemm", {"n": "-4"}, "n: must be a number from 1"),
    ("gemm", {"k": "0"}, "k: must be a number from 1"),
    ("gemm", {"k": "inf"}, "k: must be a number from 1"),
    ("gemm", {"k": "1e300"}, "k: must be a number from 1"),
    ("gemm", {"m": "many", "k": "x"}, "m, k: must be a number from 1"),
    ("gemm", {"dtype_a": "zf16"}, "unknown number format 'zf16'; did you mean"),
    ("gemm", {"quant": "weird"}, "quant 'weird' is not known; known: none, fp8_dynamic"),
    ("gemm", {"device": "nvme_pcie4"}, "nvme_pcie4 has no engine that multiplies bf16"),
    ("gemm", {"device": "cambricon_llm_s"}, "cambricon_llm_s has no engine that multiplies bf16"),
    ("prefill", {"q_len": 4096}, "q_len: must be at most kv_len, got 4096 and 2048"),
    ("prefill", {"n_kv_heads": 64}, "n_kv_heads: must be at most n_heads, got 64 and 32"),
    ("decode", {"head_dim": ""}, "head_dim: must be a number"),
    ("moe", {"topk": 9}, "topk: must be at most n_experts, got 9 and 8"),
    ("moe", {"n_tokens": ""}, "n_tokens: must be a number"),
    ("rmsnorm", {"rows": ""}, "rows: must be a number"),
    ("rmsnorm", {"bytes_rw": -1}, "bytes_rw: must be a number from 0"),
    ("all_reduce", {"n_devices": ""}, "n_devices: must be a number"),
])
def test_a_bad_row_gets_a_reason_and_its_neighbours_a_time(name: str, changed: dict[str, object], reason: str) -> None:
    before, bad, after = predicted([NAMED[name], NAMED[name] | changed, NAMED[name]])
    assert bad["note"].startswith(reason)
    assert all(bad[k] == "" for k in ADDED if k != "note")
    assert before["pred_s"] == after["pred_s"] != ""
    assert bad["remark"] == name


def test_a_device_without_a_format_still_multiplies_what_it_can() -> None:
    assert predicted([NAMED["gemm"] | {"device": "cambricon_llm_s", "quant": "int8_smoothquant"}])[0]["note"] == ""


def test_a_missing_column_is_named() -> None:
    short = [c for c in HEADER if c != "k"]
    row = {k: v for k, v in NAMED["gemm"].items() if k in short}
    assert predicted([row], short)[0]["note"].startswith("op 'gemm' needs the columns m, n, k")
    short = [c for c in HEADER if c != "kv_len"]
    row = {k: v for k, v in NAMED["decode"].items() if k in short}
    assert predicted([row], short)[0]["note"] == "column 'kv_len' is missing"


def test_rows_of_another_length_keep_the_added_cells_in_place() -> None:
    header = ["op", "device", "m", "n", "k"]
    rows = [["gemm", "h100_sxm", "8"], ["gemm", "h100_sxm", "8", "8", "8"], ["gemm", "h100_sxm", "8", "8", "8", "9"]]
    out = list(predict_rows(header, rows, counts := Counts()))
    assert [r[:5] for r in out] == [["gemm", "h100_sxm", "8", "", ""], rows[1], rows[1]]
    assert [r[11] for r in out] == ["has 3 cells, the header 5", "", "has 6 cells, the header 5"]
    assert [r[5] != "" for r in out] == [False, True, False]
    assert out[2][12:] == ["9"]
    assert counts.reasons == {"has 3 cells, the header 5": 1, "has 6 cells, the header 5": 1}


def test_names_that_the_table_already_has() -> None:
    assert added_names(["op", "source", "note"])[-2:] == ["pred_source", "pred_note"]
    with pytest.raises(ValueError, match="column 'pred_s' is one that predict adds"):
        added_names(["op", "pred_s"])
    with pytest.raises(ValueError, match="column 'm' stands twice"):
        added_names(["op", "m", "n", "k", "m"])
    assert added_names(["op", "remark", "remark"]) == list(ADDED)


def test_the_device_of_the_question_serves_rows_without_one() -> None:
    rows = [NAMED["gemm"] | {"device": ""}, NAMED["gemm"] | {"device": "t4"}, NAMED["gemm"]]
    default, own, named = predicted(rows, device="h100_sxm")
    assert default["pred_s"] == named["pred_s"] != own["pred_s"]


# -- the command -----------------------------------------------------------------------------------------------------

def run(*args: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(["predict", *args])
    return int(stop.value.code or 0)


def test_the_command_writes_a_table_and_counts_failures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = tmp_path / "ops.csv"
    table.write_text(text([NAMED["gemm"], NAMED["gemm"] | {"m": -1}, NAMED["moe"], NAMED["gemm"] | {"m": 0}]))
    assert run(str(table)) == 1
    out, err = capsys.readouterr()
    assert err == "2 of 4 rows not predicted: m: must be a number from 1 to 1e+15\n"
    assert len(list(csv.DictReader(io.StringIO(out)))) == 4
    target = tmp_path / "out.csv"
    table.write_text(text([NAMED["gemm"], NAMED["moe"]]))
    assert run(str(table), "-o", str(target)) == 0
    assert capsys.readouterr() == ("", "")
    assert [r["remark"] for r in csv.DictReader(target.open())] == ["gemm", "moe"]


def test_standard_input_and_output(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO(text([NAMED["gemm"]])))
    assert run() == 0
    assert [r["op"] for r in csv.DictReader(io.StringIO(capsys.readouterr().out))] == ["gemm"]


@pytest.mark.parametrize(("content", "code", "message"), [
    (b"", 2, "ops.csv: empty; expected a CSV table with a header"),
    (b"\xff\xfe\x00\x01", 2, "expected CSV in UTF-8"),
    (b'op,device,m,n,k\ngemm,h100_sxm,1,2,"' + b"x" * 200_000 + b'"\n', 2, "field larger than field limit"),
    (b"op,device,m,n,k,m\ngemm,h100_sxm,1,2,3,4\n", 2, "column 'm' stands twice"),
    (b"op,device,m,n,k\n", 0, ""),
    (b"op,device,m,n,k\n\ngemm,h100_sxm,1,2,3\n\n\n", 0, ""),
    (b"\xef\xbb\xbfop,device,m,n,k\r\ngemm,h100_sxm,1,2,3\r\n", 0, ""),
    (b'op,device,m,n,k\ngemm,h100_sxm,"1,2,3\n', 1, "1 of 1 rows not predicted: has 3 cells, the header 5"),
])
def test_odd_files(tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes, code: int, message: str) -> None:
    table = tmp_path / "ops.csv"
    table.write_bytes(content)
    assert run(str(table)) == code
    out, err = capsys.readouterr()
    assert message in err
    assert err.count("\n") == bool(code)
    assert err.startswith("error: ") == (code == 2)
    if code == 0:
        assert out.startswith("op,device,m,n,k,pred_s,")
        assert all(r["pred_s"] for r in csv.DictReader(io.StringIO(out)))


@pytest.mark.parametrize(("args", "message"), [
    (["missing.csv"], "missing.csv: No such file or directory"),
    (["."], ".: Is a directory"),
    (["ops.csv", "-o", "no/such/out.csv"], "no/such/out.csv: No such file or directory"),
    (["ops.csv", "-o", "./ops.csv"], "--output ./ops.csv: is the table itself"),
    (["ops.csv", "--hw", "h100"], "unknown hardware 'h100'. Did you mean h100_sxm"),
])
def test_bad_usage_is_one_line_and_leaves_the_table_alone(
        tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], args: list[str],
        message: str) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ops.csv").write_text(text([NAMED["gemm"]]))
    assert run(*args) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith(f"error: {message}")
    assert err.count("\n") == 1
    assert Path("ops.csv").read_text() == text([NAMED["gemm"]])


def test_memory_does_not_grow_with_the_table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sim.commands.predict.CHUNK", 500)

    def peak(rows: int) -> int:
        table = tmp_path / "ops.csv"
        table.write_text(text([NAMED["gemm"]] * 500 * rows))
        tracemalloc.start()
        assert run(str(table), "-o", str(tmp_path / "out.csv")) == 0
        top = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return top

    peak(1)                                                 # loads what is loaded once
    assert peak(8) < 1.3 * peak(2)


def test_a_long_table_is_predicted_in_few_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(ops: object, *args: object, **rest: object) -> object:
        calls.append(1)
        return price(ops, *args, **rest)  # type: ignore[arg-type]

    monkeypatch.setattr("sim.predict.price", counted)

    def many() -> Iterator[dict[str, object]]:
        for i in range(2000):
            yield NAMED["gemm" if i % 2 else "moe"] | {"m": i + 1, "n_tokens": i + 1}

    out = predicted(list(many()))
    assert all(r["pred_s"] for r in out)
    assert len(calls) == 2
