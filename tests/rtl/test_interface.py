"""Verilog as pyverilog reads it agrees with contracts; interface tables are up to date; foreign files get clear messages."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from rtl.harness.interface import inspect, problems, readme
from rtl.harness.registry import ROOT, load, names
from rtl.harness.unit import Parameter

pytestmark = pytest.mark.rtl


def test_units_agree_with_their_contracts_and_readmes() -> None:
    """One process for all units: building the parser's tables is most of the cost."""
    assert not {n: p for n in names() if (p := problems(load(n)))}
    stale = [n for n in names() if readme(load(n)) != (ROOT / n / "README.md").read_text(encoding="utf-8")]
    assert not stale, f"python -m rtl.harness.generate {' '.join(stale)}"


def test_a_difference_is_found() -> None:
    unit = load("lut_dot")
    assert "default of K" in problems(replace(unit, parameters={**unit.parameters, "K": Parameter(5)}))[0]
    assert "Verilog has parameters" in problems(replace(unit, parameters={"K": Parameter(4)}))[0]


def test_registers_and_hierarchy() -> None:
    lane, dot = inspect(ROOT / "lut_dot" / "lut_lane.v")[0], inspect(ROOT / "lut_dot" / "lut_dot.v")[0]
    assert lane.registers == {"val_q": "T_W", "neg_q": "1", "acc_q": "ACC_W"}
    assert ("lut_lane", "lane") in dot.instances
    assert {p.name: p.width for p in dot.ports}["tbl_data"] == "(1<<(K-1))*T_W"


@pytest.mark.parametrize(("text", "message"), [
    ("module m(input wire a);\nalways @* for (integer i = 0; i < 3; i = i + 1) ;\nendmodule\n", "user.v:2: "),
    ("module m(input wire a);\ntypedef enum {X} t;\nendmodule\n", "user.v:2: .typedef. .* SystemVerilog is not supported"),
    ("module m(input wire a)\nendmodule\n", "user.v"),
    ("module m(input a);\nwire b;\n assign b = a\nendmodule\n", "user.v:4: pyverilog stops before 'endmodule'"),
    ("// nothing\n", "user.v: no module found"),
    ("", "user.v: no module found"),
    ("\0\x07\0", "user.v: not a text file"),
    ("library ieee;\nentity e is end entity;\n", "user.v:1: .library ieee;. .* VHDL is not supported"),
    ("`define W 8\nmodule m(input [`W-1:0] a);\nendmodule\n", "user.v:2: .`W. .* no macros"),
    ("module m;\n s u();\n defparam u.W = 3;\nendmodule\n", "user.v:3: .defparam. .* at the instance"),
    ("module m(input clk, input d, output reg q);\nalways_ff @(posedge clk) q <= d;\nendmodule\n",
     "user.v:2: .always_ff. .* SystemVerilog is not supported"),
    ("module m(input a, output logic q);\nassign q = a;\nendmodule\n", "user.v:1: .logic. .* SystemVerilog"),
    ("`include \"w.vh\"\nmodule m(input a);\nendmodule\n", "user.v:1: .`include. .* put their text"),
    ("module m(input a);\n// logic\nreg q;\nalways @* q++;\nendmodule\n", "user.v:4: .* write i = i . 1"),
])
def test_foreign_file(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "user.v").write_text(text)
    with pytest.raises(ValueError, match=message) as e:
        inspect(tmp_path / "user.v")
    assert "\n" not in str(e.value)


def test_declarations_in_the_body_are_read_like_those_in_the_header(tmp_path: Path) -> None:
    """Ports of 1995, a memory, a register written at an index that holds another, one that only looks like a register."""
    (tmp_path / "old.v").write_text("""module counter (clk, rst, q);
  parameter WIDTH = 8;
  parameter MAX = 1 << WIDTH;
  input clk, rst;
  output [WIDTH-1:0] q;
  reg [WIDTH-1:0] q;
  reg [3:0] mem [0:15];
  reg [6:0] wide;
  always @* wide = q;
  always @(posedge clk) if (rst) q <= 0; else begin q <= q + 1; mem[q[3:0]] <= q[3:0]; end
endmodule
""")
    m = inspect(tmp_path / "old.v")[0]
    assert m.parameters == {"WIDTH": "8", "MAX": "1 << WIDTH"}
    assert [(p.direction, p.name, p.width) for p in m.ports] == [("input", "clk", "1"), ("input", "rst", "1"),
                                                                 ("output", "q", "WIDTH")]
    assert m.registers == {"q": "WIDTH", "mem": "4 x 16"}


def test_generate_blocks_and_functions_are_read(tmp_path: Path) -> None:
    (tmp_path / "tree.v").write_text("""`timescale 1ns/1ps
module tree #(parameter N = 4, parameter W = 8) (input wire clk, input wire [N*W-1:0] d, output reg [W+1:0] sum);
  function [7:0] twice; input [7:0] a; begin twice = a << 1; end endfunction
  genvar i;
  wire [W+1:0] part [0:N];
  assign part[0] = 0;
  generate for (i = 0; i < N; i = i + 1) begin : g
    leaf #(.W(W)) u_leaf (.a(d[i*W +: W]));
    assign part[i+1] = part[i] + d[i*W +: W];
  end endgenerate
  always @(posedge clk) sum <= part[N];
endmodule
module leaf #(parameter W = 4) (input [W-1:0] a); endmodule
""")
    top, leaf = inspect(tmp_path / "tree.v")
    assert (top.instances, top.registers) == ([("leaf", "u_leaf")], {"sum": "[W+1:0]"})
    assert {p.name: p.width for p in top.ports} == {"clk": "1", "d": "N*W", "sum": "[W+1:0]"}
    assert leaf.parameters == {"W": "4"}
