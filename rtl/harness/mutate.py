"""Does the bench notice? Faults are put into the Verilog one at a time; a fault that no test notices needs a written reason.

Two kinds: the mutants each unit lists (from its specification) and those generated from the text: operators, constants,
widths, signs, off-by-one, missing resets, swapped operands.
"""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rtl.harness import toolchain
from rtl.harness.registry import home, sources
from rtl.harness.run import verify
from rtl.harness.unit import Mutant, Params, Unit

#: Seconds a mutant's run may take, and seeds it meets: the directed tests come first and the first failure ends it.
LIMIT_S, SEEDS = 60.0, (0, 24)
#: Seconds its build may take: a loop that never ends can hold the compiler.
BUILD_S = 120.0

Edit = Callable[[re.Match[str]], str]


def _smaller(m: re.Match[str]) -> str:
    """One less (0: one more): a wider temporary would be no fault."""
    return str(int(m[0]) - 1 if int(m[0]) else 1)


#: Kind -> (pattern, replacement) applied at every place of a module's body.
RULES: dict[str, list[tuple[str, str | Edit]]] = {
    "operator": [(r" \+ ", " - "), (r" - (?!1\b)", " + "), (r"(?<!&) & (?!&)", " | "), (r"(?<!\|) \| (?!\|)", " & "),
                 (r" \^ ", " | "), (r" == ", " != "), (r" != ", " == "), (r" << ", " >> "), (r" >>>? ", " << "),
                 (r"(?<![<>=!])!(?=[\w(])", ""), (r"~(?=[\w({])", ""), (r" \* ", " + "), (r" > ", " < ")],
    "width": [(r"(?<=[\w)])-1:0\](?= +\w+(_q|_d)?[;,])", "-2:0]")],
    "constant": [(r"1'b0", "1'b1"), (r"1'b1", "1'b0"), (r"(?<![\w'-])(?<!- )\d+(?![\w'])", _smaller)],
    "dropped condition": [(r"\bif \(\w+\) (?=\w+ +<=)", "")],
    "sign": [(r"\bsigned ", ""), (r"\$signed\((\w+)\)", lambda m: m[1])],
    "off-by-one": [(r" - 1\b", ""), (r" \+ 1\b", ""), (r" < (?=[A-Z])", " <= "), (r" > ", " >= "), (r" >= ", " > "),
                   (r" <= (?=[A-Z]+\))", " < "), (r"(?<== )0(?=;)", "1")],
    "swapped operands": [(r"\? ([^?:;]+?) : ([^?:;]+?);", lambda m: f"? {m[2]} : {m[1]};"),
                         (r"(\w+) - (\w+)", lambda m: f"{m[2]} - {m[1]}")],
}


@dataclass(frozen=True)
class Fault:
    """One mutated source. ``key`` names it in allow-lists and tables."""

    kind: str
    key: str
    file: Path
    text: str
    params: Params | None = None


@dataclass(frozen=True)
class Verdict:
    """``by``: the test that noticed, "build" for text that does not compile (not counted), "" for a survivor."""

    fault: Fault
    by: str
    reason: str = ""

    @property
    def counted(self) -> bool:
        return self.by != "build"


def listed(unit: Unit) -> list[Fault]:
    """The mutants a unit lists. Raises ``ValueError`` if the text to replace does not occur exactly once."""
    return [_listed(unit, m) for m in unit.mutants]


def _listed(unit: Unit, m: Mutant) -> Fault:
    file = next((p for p in sources(unit) if p.stem == (m.file or unit.name)), None)
    if file is None:
        raise ValueError(f"{unit.name}: mutant {m.name!r} names no source {m.file!r}")
    text = file.read_text(encoding="utf-8")
    if text.count(m.find) != 1:
        raise ValueError(f"{file.name}: mutant {m.name!r}: {m.find!r} occurs {text.count(m.find)} times, not once")
    return Fault("listed", m.name, file, text.replace(m.find, m.replace), m.params)


def generated(unit: Unit) -> list[Fault]:
    """All faults generated from the unit's own sources, spread over the kinds, in the same order every time."""
    found = [f for file in sources(unit) if file.parent == home(unit) for f in _faults(file)]
    rng = np.random.default_rng(0)
    mixed = [found[i] for i in rng.permutation(len(found))]
    queues = {kind: [f for f in mixed if f.kind == kind] for kind in dict.fromkeys(f.kind for f in found)}
    chosen: list[Fault] = []
    while len(chosen) < len(found):
        chosen += [queue.pop() for queue in queues.values() if queue]
    return chosen


def _faults(file: Path) -> Iterator[Fault]:
    """Every rule at every place of the body: not in comments, the header, or the checks of parameters."""
    lines = file.read_text(encoding="utf-8").splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith(");")) + 1
    reset = False
    seen: set[tuple[int, str]] = set()      # two rules may make the same fault
    keys: dict[str, int] = {}               # the same line may stand in two places
    for n in range(start, len(lines)):
        code, mark, comment = lines[n].partition("//")
        if "_requires_" in code or "localparam" in code or not code.strip():
            continue
        reset = (reset or bool(re.search(r"if \(rst\)", code))) and not re.search(r"\bend else\b|^\s*else\b", code)
        for kind, new in _variants(code, reset):
            if (n, new) not in seen:
                seen.add((n, new))
                key = f"{file.stem}: {kind}: {' '.join(code.split())} -> {' '.join(new.split()) or 'nothing'}"
                keys[key] = keys.get(key, 0) + 1
                key += f" ({keys[key]})" if keys[key] > 1 else ""
                yield Fault(kind, key, file, "\n".join([*lines[:n], new + mark + comment, *lines[n + 1:]]) + "\n")


def _variants(code: str, reset: bool) -> Iterator[tuple[str, str]]:
    for kind, rules in RULES.items():
        for pattern, replacement in rules:
            for m in re.finditer(pattern, code):
                put = replacement(m) if callable(replacement) else replacement
                yield kind, code[:m.start()] + put + code[m.end():]
    if reset and (line := re.search(r"\w+ +<= [^;]+;", code)):
        yield "missing reset", code[:line.start()] + ";" * code.strip().startswith("if") + code[line.end():]


def judge(unit: Unit, fault: Fault) -> Verdict:
    """Build and run a fault: on the first fast parameter set, then on the others, then on Icarus where it is installed.

    A fault that no test notices and that does not compile in one of these, such as one in a part that the first does not
    have, is one that does not compile.
    """
    first: list[tuple[Params, str]] = [(fault.params if fault.params is not None else unit.fast[0], "verilator")]
    sets = first + [(p, "verilator") for p in (*unit.fast, *unit.thorough) if p != first[0][0]]
    if toolchain.iverilog() and unit.icarus:
        sets += [(p, "icarus") for p in unit.fast]
    with tempfile.TemporaryDirectory(prefix="perfboard-mutant-") as tmp:
        bad = Path(shutil.copy(fault.file, tmp))
        bad.write_text(fault.text, encoding="utf-8")
        files = [bad if p == fault.file else p for p in sources(unit)]
        unbuilt = ""
        for i, (params, simulator) in enumerate(sets):
            out = verify(unit, params, simulator=simulator, seeds=SEEDS, files=files, first_failure=True, limit=LIMIT_S,
                         build_limit=BUILD_S, keep=False)
            if i and "build" in out.failed:
                unbuilt = out.failed["build"]
            elif out.failed:
                test, why = next(iter(out.failed.items()))
                return Verdict(fault, test, why)
    if unbuilt:
        return Verdict(fault, "build", unbuilt)
    return Verdict(fault, "", unit.survivors.get(fault.key, ""))


def campaign(unit: Unit, faults: Sequence[Fault], *, workers: int = 2,
             tell: Callable[[Verdict], None] = lambda v: None) -> list[Verdict]:
    """Judge all faults, a few at a time; ``tell`` hears of each as it is done."""
    found: list[Verdict] = []
    with ThreadPoolExecutor(workers) as pool:
        for v in pool.map(lambda f: judge(unit, f), faults):
            tell(v)
            found.append(v)
    return found


def examine(unit: Unit, count: int | None = None, *, workers: int = 2,
            tell: Callable[[Verdict], None] = lambda v: None) -> list[Verdict]:
    """Judge the listed faults, then generated ones until ``count`` of them (``None``: all) compiled.

    Raises ``ValueError`` if the unit fails as it is: then every fault would seem noticed.
    """
    clean = verify(unit, unit.fast[0], seeds=SEEDS)
    if not clean.ok:
        raise ValueError(f"{unit.name}: fails without any fault: {next(iter(clean.failed.items()))}; verify it first")
    found, left = campaign(unit, listed(unit), workers=workers, tell=tell), generated(unit)
    want = len(left) if count is None else count
    while left and want > 0:
        batch = campaign(unit, left[:want], workers=workers, tell=tell)
        found, left = found + batch, left[want:]
        want -= sum(v.counted for v in batch)
    return found


def record(unit: Unit, verdicts: Sequence[Verdict], verilog: str) -> dict[str, Any]:
    """What a campaign found, as data.

    ``listed`` and, by kind, ``generated``: [killed, judged]. ``possible``: generated faults there are; ``not_compiled``:
    those tried and not counted. ``survivors``: keys. ``verilog``: fingerprint of the text when it began.
    """
    kinds: dict[str, list[int]] = {}
    for v in verdicts:
        if v.counted:
            killed, judged = kinds.get(v.fault.kind, (0, 0))
            kinds[v.fault.kind] = [killed + bool(v.by), judged + 1]
    return {"unit": unit.name, "verilog": verilog, "listed": kinds.pop("listed", [0, 0]),
            "generated": dict(sorted(kinds.items())), "possible": len(generated(unit)),
            "not_compiled": sum(not v.counted for v in verdicts), "survivors": [v.fault.key for v in verdicts if not v.by]}
