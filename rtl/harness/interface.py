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
#: What pyverilog's parser does not take, and what to write instead: pattern -> advice.
UNSUPPORTED = {
    r"for\s*\(\s*(genvar|integer|int)\b": "declare the loop variable outside the for",
    r"\+\+|--": "write i = i + 1", r"'0|'1\b": "write {W{1'b0}}", r"\b(typedef|enum|struct|logic|always_ff|always_comb)\b":
    "SystemVerilog is not supported; plain Verilog-2005 is", r"\bfunction\s+automatic\b": "write a function without automatic",
    r"endmodule\s*:": "no label after endmodule", r"\bassert\b": "no immediate assertions", r"`(?!default_nettype)\w+":
    "no macros, `include or `timescale", r"#\s*\([^)]*localparam": "localparam belongs into the body",
}


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
    toolchain.need("pyverilog")
    plain = _without_comments(text)
    parser = _parser()
    parser.lexer.lexer.lineno = 1
    try:
        parsed = parser.parse(re.sub(r"`default_nettype\s+\w+", "", plain))
    except ParseError as e:
        raise ValueError(_advice(path, plain, str(e))) from None
    found = [_module(d, plain) for d in parsed.description.definitions if isinstance(d, tree.ModuleDef)]
    if not found:
        raise ValueError(f"{path}: no module found; expected one Verilog module per file")
    return found


def _without_comments(text: str) -> str:
    """The text with comments blanked, so that line numbers stay."""
    return re.sub(r"//[^\n]*|/\*.*?\*/", lambda m: re.sub(r"[^\n]", " ", m[0]), text, flags=re.S)


def _advice(path: Path, text: str, error: str) -> str:
    for pattern, what in UNSUPPORTED.items():
        if m := re.search(pattern, text):
            return f"{path}:{text[:m.start()].count(chr(10)) + 1}: {m[0].strip()!r} is not read by pyverilog: {what}"
    place = re.search(r"line:\s*(\d+)|at line (\d+)", error)
    line = f":{next(g for g in place.groups() if g)}" if place else ""
    return f"{path}{line}: pyverilog cannot read this: {' '.join(error.split()) or 'syntax error'}; expected plain Verilog-2005"


def _module(d: Any, text: str) -> Module:
    """One module; text of widths and defaults is taken from its own source."""
    own = re.search(rf"\bmodule\s+{re.escape(d.name)}\b.*?\bendmodule\b", text, re.S)
    body = own[0] if own else text
    m = Module(d.name)
    for p in [q for decl in (d.paramlist.params if d.paramlist else ()) for q in getattr(decl, "list", [decl])]:
        default = re.search(rf"parameter\b[^,;]*?\b{p.name}\s*=\s*(.+?)\s*(?:,\s*parameter|,?\s*\n|\)\s*\()", body)
        m.parameters[p.name] = default[1].rstrip(", ") if default else ""
    for port in d.portlist.ports if d.portlist else ():
        first = getattr(port, "first", port)
        m.ports.append(Port(type(first).__name__.lower(), first.name, _width(body, first.name)))
    for item in _walk(d):
        if isinstance(item, tree.Instance):
            m.instances.append((item.module, item.name))
        elif isinstance(item, tree.Reg) and not isinstance(item, tree.Integer) and _clocked(body, item.name):
            m.registers[item.name] = _width(body, item.name)
    return m


def _walk(node: Any) -> Iterator[Any]:
    for child in node.children():
        yield child
        yield from _walk(child)


def _clocked(body: str, name: str) -> bool:
    """Whether a reg is written with <=, that is, holds state."""
    return bool(re.search(rf"(?m)(?:^|[\s;)])(?:if\s*\(.*\)\s*)?{re.escape(name)}\s*(?:\[[^\]]*\]\s*)?<=", body))


def _width(body: str, name: str) -> str:
    """Text between the brackets of a declaration, or "1"."""
    kind = r"\b(?:input|output|inout|reg|wire)\b[^;,()\[\]]*"
    found = re.search(kind + rf"\[([^\[\]]*)\]\s*(?:\w+\s*,\s*)*{re.escape(name)}\b", body)
    if not found:
        return "1"
    high, _, low = found[1].rpartition(":")
    return high.removesuffix("-1").strip() if low.strip() == "0" and high.endswith("-1") else f"[{found[1]}]"


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
