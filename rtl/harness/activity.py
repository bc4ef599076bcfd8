"""How often outputs of a synthesised unit change: its netlist simulated gate by gate, without delays, on random operands.

Every valid and ready is 1, so that the unit works at its full rate; a result ends after 16 beats on average; operands are
uniform over their codes, those of FP16 ports normally distributed. Glitches need delays and are not counted. Each bit of a
machine word is a stream of its own, so that one pass through the gates is some hundred cycles.
``python -m rtl.harness.activity`` writes ``activity.json``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from rtl.harness.registry import ROOT, load, sources
from rtl.harness.synth import GE_FLOW, library, yosys
from rtl.harness.unit import Params, Unit

#: Independent streams, cycles that are counted, cycles before them.
STREAMS, CYCLES, WARM = 256, 48, 24
_ALL = (1 << STREAMS) - 1
_END = 1 / 16

PATH = ROOT / "activity.json"
#: Unit -> build, configuration inputs, ports with FP16 numbers: what each is simulated with. Weights of 2 to 4 bits.
WORK: dict[str, tuple[Params, Mapping[str, int], tuple[str, ...]]] = {
    "base_fp16_mac": ({}, {}, ("s_a", "s_w")),
    "base_mac_dp": ({"L": 16}, {}, ()),
    "bitmod_unit": ({}, {"cfg_dtype": 4, "cfg_sv_file": 0x53CA}, ("s_act",)),
    "bitserial_mac": ({}, {"cfg_wbits": 4, "cfg_wsigned": 1}, ()),
    "btc_popcount_gemm": ({"KW": 32}, {"cfg_pa": 8, "cfg_pw": 2, "cfg_bipolar": 0}, ()),
    "lut_mpgemm_tile": ({"N": 16}, {"cfg_wbits": 2}, ()),
    "lut_table_gen": ({}, {}, ()),
    "shift_mac": ({}, {}, ()),
    "sparse_dsp_chain": ({"D": 4}, {"cfg_n": 2, "cfg_split": 0}, ()),
    "ternary_acc": ({}, {}, ()),
}

#: Cell of ``ge.lib`` -> its function of the words at its inputs.
FUNCTIONS: dict[str, Callable[..., int]] = {
    "INV": lambda a: ~a, "BUF": lambda a: a, "NAND2": lambda a, b: ~(a & b), "NOR2": lambda a, b: ~(a | b),
    "AND2": lambda a, b: a & b, "OR2": lambda a, b: a | b, "XOR2": lambda a, b: a ^ b, "XNOR2": lambda a, b: ~(a ^ b),
    "NAND3": lambda a, b, c: ~(a & b & c), "NOR3": lambda a, b, c: ~(a | b | c),
    "NAND4": lambda a, b, c, d: ~(a & b & c & d), "NOR4": lambda a, b, c, d: ~(a | b | c | d),
    "AOI21": lambda a, b, c: ~((a & b) | c), "OAI21": lambda a, b, c: ~((a | b) & c),
    "AOI22": lambda a, b, c, d: ~((a & b) | (c & d)), "OAI22": lambda a, b, c, d: ~((a | b) & (c | d)),
    "MUX2": lambda a, b, s: (a & ~s) | (b & s), "TIEHI": lambda: _ALL, "TIELO": lambda: 0}


@dataclass(frozen=True)
class Activity:
    """Changes of outputs per gate equivalent and cycle, and of flip-flops' outputs per flip-flop and cycle."""

    per_ge: float
    per_ff: float


def simulate(unit: Unit, params: Params, cfg: Mapping[str, int], fp16: tuple[str, ...] = ()) -> Activity:
    """Activity of one build. ``cfg``: values of configuration inputs; ``fp16``: ports that carry FP16 numbers."""
    top = next(m for m in yosys(GE_FLOW, unit.name, params, sources(unit))["modules"].values()
               if int(m["attributes"].get("top", "0"), 2))
    return count(top, cfg, fp16)


def count(top: Mapping[str, Any], cfg: Mapping[str, int], fp16: tuple[str, ...] = ()) -> Activity:
    """Activity of a flat netlist of the cells of ``ge.lib``."""
    order, flops = _ordered(top["cells"])
    ports = {name: p["bits"] for name, p in top["ports"].items() if p["direction"] == "input"}
    rng = np.random.default_rng(0)
    net: dict[Any, int] = dict.fromkeys((q for _, q in flops), 0) | {"0": 0, "1": _ALL, "x": 0}
    before: list[int] = []
    changes = flop_changes = 0
    for cycle in range(WARM + CYCLES + 1):
        for name, bits in ports.items():
            net.update(zip(bits, _words(name, len(bits), cfg, fp16, rng, cycle), strict=True))
        for function, inputs, out in order:
            net[out] = function(*(net[b] for b in inputs)) & _ALL
        now = [net[out] for _, _, out in order] + [net[q] for _, q in flops]
        if cycle > WARM:
            moved = [(x ^ y).bit_count() for x, y in zip(before, now, strict=True)]
            changes, flop_changes = changes + sum(moved), flop_changes + sum(moved[len(order):])
        before = now
        net.update({q: net[d] for d, q in flops})
    seen = STREAMS * CYCLES
    ge = sum(library()[c["type"]] for c in top["cells"].values())
    return Activity(changes / seen / ge, flop_changes / seen / max(len(flops), 1))


def _words(name: str, width: int, cfg: Mapping[str, int], fp16: tuple[str, ...], rng: np.random.Generator,
           cycle: int) -> list[int]:
    """One word per bit of an input port."""
    if name in cfg or name in ("clk", "rst"):
        value = cfg.get(name, int(name == "rst" and cycle < 2))
        return [_ALL if value >> i & 1 else 0 for i in range(width)]
    if name.endswith(("_valid", "_ready")):
        return [_ALL] * width
    if name.endswith("_last"):
        return [_word(rng.random(STREAMS) < _END) for _ in range(width)]
    if name in fp16:
        numbers = rng.standard_normal((width // 16, STREAMS)).astype(np.float16).view(np.uint16)
        return [_word((numbers[i // 16] >> (i % 16) & 1).astype(bool)) for i in range(width)]
    return [int.from_bytes(rng.bytes(STREAMS // 8), "little") for _ in range(width)]


def _word(bits: Any) -> int:
    return int.from_bytes(np.packbits(bits, bitorder="little").tobytes(), "little")


def _ordered(cells: Mapping[str, Any]) -> tuple[list[tuple[Callable[..., int], list[Any], Any]], list[tuple[Any, Any]]]:
    """Gates in an order in which each follows those that drive it, and (D, Q) of the flip-flops."""
    flops = [(c["connections"]["D"][0], c["connections"]["Q"][0]) for c in cells.values() if c["type"] == "DFF"]
    gates = {}
    for c in cells.values():
        if c["type"] != "DFF":
            pins = c["connections"]
            gates[pins["Y"][0]] = FUNCTIONS[c["type"]], [pins[p][0] for p in "ABCDS" if p in pins], pins["Y"][0]
    order, done = [], set[Any]()
    for start in gates:
        stack = [start]
        while stack:
            out = stack[-1]
            waiting = [b for b in gates[out][1] if b in gates and b not in done] if out not in done else []
            if waiting:
                stack.extend(waiting)
                continue
            stack.pop()
            if out not in done:
                done.add(out)
                order.append(gates[out])
    return order, flops


def main() -> None:
    rows = []
    for name, (params, cfg, fp16) in WORK.items():
        found = simulate(load(name), params, cfg, fp16)
        rows.append({"unit": name, "parameters": params, "cfg": cfg, "per_ge": round(found.per_ge, 4),
                     "per_ff": round(found.per_ff, 4)})
        print(rows[-1], flush=True)
    PATH.write_text("[\n" + ",\n".join(json.dumps(r) for r in rows) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main()
