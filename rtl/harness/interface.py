"""Reads Verilog with pyverilog: parameters, ports, instances and registers of a module, and a unit's interface table.

The syntax tree is used for names and structure alone; widths are shown as they stand in the text (pyverilog's own
expressions drop parentheses and read ``[b +: w]`` as a plain part select).
"""

from __future__ import annotations

import re
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from rtl.harness import toolchain
from rtl.harness.registry import home, sources
from rtl.harness.unit import Unit

try:
    from pyverilog.vparser import ast as tree
    from pyverilog.vparser.parser import ParseError, VerilogParser
except ImportError:                    # without the extra: ``toolchain.need`` says so before anything is read
    ParseError = SyntaxError

BEGIN, END = "<!-- interface: begin -->", "<!-- interface: end -->"
#: What pyverilog's parser does not take, and what to write instead: pattern -> advice. The first of a line counts.
UNSUPPORTED = {
    r"\b(library\s+\w+\s*;|entity\s+\w+\s+is\b|architecture\s+\w+\s+of\b)": "VHDL is not supported; plain Verilog-2005 is",
    r"\b(typedef|enum|struct|logic|always_ff|always_comb|always_latch|interface|modport|import|package|bit|unique|return)\b":
    "SystemVerilog is not supported; plain Verilog-2005 is",
    r"\bparameter\s+(int|bit|string)\b": "SystemVerilog is not supported; write a parameter without type",
    r"for\s*\(\s*(genvar|integer|int)\b": "declare the loop variable outside the for",
    r"\+\+|--|[-+*/|&^]=(?!=)": "write i = i + 1", r"'0|'1\b": "write {W{1'b0}}",
    r"\bfunction\s+automatic\b": "write a function without automatic",
    r"endmodule\s*:": "no label after endmodule", r"\bassert\b": "no immediate assertions",
    r"\bdefparam\b": "give parameters at the instance: #(.W(8))", r"\bprimitive\b": "no tables of primitives",
    r"`(?!default_nettype|timescale)\w+": "no macros and no `include: put their text in their place",
    r"\breg\b[^;=]*=[^;]*,": "declare each reg with a start value by itself",
    r"#\s*\([^)]*localparam": "localparam belongs into the body",
}
#: What the parser takes and leaves out, so that registers or ports would be missing.
LEFT_OUT = r"\balways_(?:ff|comb|latch)\b|\b(?:input|output|inout)\s+logic\b|`(?:include|define|ifdef|ifndef)\b"


@dataclass
class Port:
    direction: str
    name: str
    width: str


@dataclass
class Module:
    """What a module shows: parameter -> default text, ports, instances (module, name), registers name -> width text."""

    name: str
    parameters: dict[str, str] = field(default_factory=dict)
    ports: list[Port] = field(default_factory=list)
    instances: list[tuple[str, str]] = field(default_factory=list)
    registers: dict[str, str] = field(default_factory=dict)


@cache
def _parser() -> Any:
    toolchain.need("pyverilog")
    return VerilogParser(outputdir=tempfile.mkdtemp(prefix="perfboard-pyverilog-"), debug=False)


def inspect(path: Path) -> list[Module]:
    """Modules of a Verilog file. Raises ``ValueError`` with file, line and advice for what the parser does not support."""
    text = path.read_text(encoding="utf-8", errors="replace")
    if "\0" in text:
        raise ValueError(f"{path}: not a text file; expected plain Verilog-2005")
    toolchain.need("pyverilog")
    plain = _without_comments(text)
    parser = _parser()
    parser.lexer.lexer.lineno = 1
    try:
        parsed = parser.parse(re.sub(r"`default_nettype\s+\w+", "", plain))
    except ParseError as e:
        raise ValueError(_advice(path, plain, str(e))) from None
    if left_out := re.search(LEFT_OUT, plain):
        line = plain[:left_out.start()].count("\n") + 1
        raise ValueError(_advice(path, plain, f"line: {line}"))
    found = [_module(d, plain) for d in parsed.description.definitions if isinstance(d, tree.ModuleDef)]
    if not found:
        raise ValueError(f"{path}: no module found; expected one Verilog module per file")
    return found


def _without_comments(text: str) -> str:
    """The text with comments blanked, so that line numbers stay."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def _advice(path: Path, text: str, error: str) -> str:
    """One line: what the parser does not support on the line where it stopped or the nearest before it, else the line."""
    place = re.search(r"line:\s*(\d+)|at line (\d+)", error)
    stop = int(next(g for g in place.groups() if g)) if place else text.count("\n") + 1
    found = [(text[:m.start()].count("\n") + 1, -i, m[0], what) for i, (pattern, what) in enumerate(UNSUPPORTED.items())
             for m in re.finditer(pattern, text)]
    if near := max((f for f in found if f[0] <= stop), default=None):
        return f"{path}:{near[0]}: {' '.join(near[2].split())!r} is not read by pyverilog: {near[3]}"
    if not re.search(r"\bmodule\b", text):
        return f"{path}: no module found; expected plain Verilog-2005"
    before = re.search(r'before:\s*"?([^"\s]+)', error)
    what = f"stops before {before[1]!r}" if before else "stops at the end of the file"
    return f"{path}:{stop}: pyverilog {what}; expected plain Verilog-2005 (a ; or an end missing before it?)"


def _module(d: Any, text: str) -> Module:
    """One module; text of widths and defaults is taken from its own source."""
    own = re.search(rf"\bmodule\s+{re.escape(d.name)}\b.*?\bendmodule\b", text, re.S)
    body = own[0] if own else text
    m = Module(d.name)
    nodes = list(_walk(d))
    for p in (n for n in nodes if type(n) is tree.Parameter):
        default = re.search(rf"parameter\b[^;]*?\b{p.name}\s*=\s*(.+?)\s*(?:,\s*parameter|,?\s*\n|\)\s*\(|;)", body)
        m.parameters[p.name] = default[1].rstrip(", ") if default else ""
    ways = {n.name: type(n).__name__.lower() for n in nodes if isinstance(n, tree.Input | tree.Output | tree.Inout)}
    for port in d.portlist.ports if d.portlist else ():
        name = getattr(port, "first", port).name
        m.ports.append(Port(ways.get(name, "port"), name, _width(body, name)))
    clocked = {i.name for n in nodes if isinstance(n, tree.NonblockingSubstitution) for i in _targets(n.left)}
    for item in nodes:
        if isinstance(item, tree.Instance):
            m.instances.append((item.module, item.name))
        elif isinstance(item, tree.Reg) and not isinstance(item, tree.Integer) and item.name in clocked:
            m.registers[item.name] = _width(body, item.name)
    return m


def _targets(left: Any) -> Iterator[Any]:
    """Identifiers that an assignment writes: not those of its indices."""
    if isinstance(left, tree.Identifier):
        yield left
    elif isinstance(left, tree.Pointer | tree.Partselect):
        yield from _targets(left.var)
    else:
        for child in left.children():
            yield from _targets(child)


def _walk(node: Any) -> Iterator[Any]:
    for child in node.children():
        yield child
        yield from _walk(child)


def _width(body: str, name: str) -> str:
    """Text of a declaration's bits, "1" for none; of a memory bits x words."""
    kind = r"\b(?:input|output|inout|reg|wire)\b[^;,()\[\]]*"
    names = rf"(?:\w+\s*,\s*)*{re.escape(name)}\b"
    found = re.search(kind + rf"\[([^\[\]]*)\]\s*{names}", body)
    words = re.search(rf"\breg\b[^;]*?\b{re.escape(name)}\s*\[([^\[\]]*:[^\[\]]*)\]\s*[;,]", body)
    bits = _count(found[1]) if found else "1"
    return f"{bits} x {_count(words[1])}" if words else bits


def _count(span: str) -> str:
    """"7:0" -> "8", "W-1:0" -> "W", "0:15" -> "16"; other spans in brackets, as they stand."""
    high, _, low = (x.strip() for x in span.rpartition(":"))
    if high.isdigit() and low.isdigit():
        return str(abs(int(high) - int(low)) + 1)
    ends = {low: high, high: low}
    if "0" in ends and ends["0"].endswith("-1"):
        return ends["0"].removesuffix("-1").strip()
    return f"[{span}]"


def unit_modules(unit: Unit) -> dict[str, Module]:
    """All modules of a unit's sources by name."""
    return {m.name: m for path in sources(unit) for m in inspect(path)}


def problems(unit: Unit) -> list[str]:
    """Where Verilog and contract disagree: parameter names, literal defaults, instances of modules that are not there."""
    modules = unit_modules(unit)
    own = modules.get(unit.name)
    if own is None:
        return [f"no module {unit.name}"]
    found = []
    if list(own.parameters) != list(unit.parameters):
        found.append(f"Verilog has parameters {list(own.parameters)}, the contract {list(unit.parameters)}")
    full = unit.resolve({})
    found += [f"default of {n} is {text} in Verilog, {full[n]} in the contract" for n, text in own.parameters.items()
              if text.isdigit() and n in full and int(text) != full[n]]
    found += [f"{m.name} instantiates {used}, which no source defines" for m in modules.values() for used, _ in m.instances
              if used not in modules and "_requires_" not in used]
    return found


def table(unit: Unit) -> str:
    """Interface of a unit as Markdown: parameters, ports, hierarchy, registers."""
    modules, full = unit_modules(unit), unit.resolve({})
    own = modules[unit.name]
    lines = ["| parameter | default | tested | meaning |", "|---|---|---|---|"]
    for n, p in unit.parameters.items():
        shown = own.parameters[n] if own.parameters[n] == str(full[n]) else f"{own.parameters[n]} = {full[n]}"
        lines.append(f"| `{n}` | {shown} | {', '.join(map(str, p.tested))} | {p.text} |")
    lines += ["", "| port | direction | bits |", "|---|---|---|"]
    lines += [f"| `{p.name}` | {p.direction} | {p.width} |" for p in own.ports]
    lines += ["", "| module | instances | registers [bits] |", "|---|---|---|"]
    for m in modules.values():
        uses = ", ".join(f"{i}: {u}" for u, i in m.instances if "_requires_" not in u) or "-"
        lines.append(f"| `{m.name}` | {uses} | {', '.join(f'{r} [{w}]' for r, w in m.registers.items()) or '-'} |")
    return "\n".join(lines)


def readme(unit: Unit) -> str:
    """The unit's README with its interface table brought up to date."""
    text = (home(unit) / "README.md").read_text(encoding="utf-8")
    if BEGIN not in text:
        raise ValueError(f"{home(unit)}/README.md: no line {BEGIN!r}; expected it and {END!r} in the section Ports")
    head, rest = text.split(BEGIN, 1)
    return f"{head}{BEGIN}\n\n{table(unit)}\n\n{END}{rest.split(END, 1)[1]}"
