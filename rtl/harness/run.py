"""Verifies one unit with one set of parameters in a simulator: the record of its tests, coverage and waves on request."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
import time
import xml.etree.ElementTree as ET
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rtl.harness.build import BuildError, TimeLimitError, build, discard, runner
from rtl.harness.registry import bench_module, load, sources
from rtl.harness.unit import Params, Unit

#: Seeds of the fast and of the thorough tier: first, number.
SEEDS = {"fast": (0, 64), "thorough": (0, 1024)}


@dataclass
class Outcome:
    """Result of one run.

    ``failed``: test (or "build", "run") -> one-line reason; ``seconds``: of each test; ``record``: what the suite wrote
    (cycles, bins, edges).
    """

    unit: str
    params: Params
    simulator: str
    passed: list[str] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    record: dict[str, Any] = field(default_factory=dict)
    build_s: float = 0.0
    run_s: float = 0.0

    @property
    def ok(self) -> bool:
        return bool(self.passed) and not self.failed

    def as_data(self) -> dict[str, Any]:
        said = {k: v for k, v in self.record.items() if k != "seconds"}
        return {"unit": self.unit, "params": dict(self.params), "simulator": self.simulator, "ok": self.ok,
                "passed": self.passed, "failed": self.failed, "build_s": round(self.build_s, 3),
                "run_s": round(self.run_s, 3), "test_s": self.seconds, **said}


def verify(unit: Unit, params: Params, *, simulator: str = "verilator", seeds: tuple[int, int] = SEEDS["fast"],
           tests: str = "", files: Sequence[Path] | None = None, first_failure: bool = False, coverage: Path | None = None,
           waves: Path | None = None, limit: float = 600.0, build_limit: float = 600.0, keep: bool = True) -> Outcome:
    """Build and run all tests of a unit (or those whose name matches ``tests``).

    ``files``: sources in place of the unit's own. ``coverage``, ``waves``: files to write.
    ``limit``, ``build_limit``: of the run, of the build [s]. ``keep``: the build stays in the cache. A build that fails and a
    run past its limit are failures of the outcome, not exceptions; raises ``MissingToolError`` if the simulator is not there.
    """
    out = Outcome(unit.name, params, simulator)
    start = time.monotonic()
    try:
        home = build(files or sources(unit), unit.name, params, simulator=simulator, coverage=coverage is not None,
                     waves=waves is not None, limit=build_limit)
    except (BuildError, TimeLimitError) as e:
        out.failed["build"] = str(e)
        if isinstance(e, BuildError) and not keep:
            discard(e.home)
        return out
    out.build_s, start = time.monotonic() - start, time.monotonic()
    with tempfile.TemporaryDirectory(prefix="perfboard-rtl-") as tmp:
        _run(out, unit, home, Path(tmp), simulator, seeds, tests, first_failure, waves is not None, limit)
        kept = {"coverage.dat": coverage, "dump.vcd": waves, f"{unit.name}.fst": waves}
        for name, target in kept.items():
            if target is not None and (Path(tmp) / name).exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(Path(tmp) / name, target)
    if not keep:
        discard(home)
    out.run_s = time.monotonic() - start
    return out


def _run(out: Outcome, unit: Unit, home: Path, work: Path, simulator: str, seeds: tuple[int, int], tests: str,
         first_failure: bool, waves: bool, limit: float) -> None:
    """Start the simulator in a directory of its own and read what it left there."""
    record, results, log = work / "record.json", work / "results.xml", work / "run.log"
    bench = bench_module(unit)
    env = {"PERFBOARD_BENCH": bench, "PERFBOARD_PARAMS": json.dumps(dict(out.params)), "PERFBOARD_RECORD": str(record),
           "PERFBOARD_SEEDS": f"{seeds[0]},{seeds[1]}", "COCOTB_MAX_FAILURES": "1" if first_failure else "0",
           "COCOTB_LOG_LEVEL": "WARNING"}
    plus = ["+verilator+rand+reset+2", f"+verilator+seed+{seeds[0] % 2000 + 1}"]
    if simulator == "icarus":
        plus = [f"+dumpfile_path={work / unit.name}.fst"] if waves else []
    made = runner(simulator, limit)
    try:
        made.test(test_module=["rtl.harness.suite", bench], hdl_toplevel=unit.name, hdl_toplevel_lang="verilog", build_dir=home,
                  test_dir=work, results_xml=str(results), extra_env=env, plusargs=plus, seed=seeds[0], log_file=log,
                  waves=waves, test_filter=tests or None)
    except TimeLimitError as e:
        out.failed["run"] = str(e)
    except (RuntimeError, SystemExit):
        pass                                  # which tests failed stands in the results
    if record.exists():
        out.record = json.loads(record.read_text(encoding="utf-8"))
    _read(out, results, log)


def _read(out: Outcome, results: Path, log: Path) -> None:
    if not results.exists():
        said = log.read_text(errors="replace").split() if log.exists() else ["nothing"]
        out.failed.setdefault("run", f"the simulator left no results; its log ends: {' '.join(said)[-400:]}")
        return
    for case in ET.parse(results).getroot().iter("testcase"):
        name = case.get("name", "")
        out.seconds[name] = float(case.get("time", "0"))
        bad = [e for kind in ("failure", "error") for e in case.iter(kind)]
        if bad:
            out.failed[name] = " ".join((bad[0].get("message") or bad[0].text or "failed").split())[:600]
        elif not list(case.iter("skipped")):
            out.passed.append(name)


def main(words: Sequence[str]) -> int:
    """``python -m rtl.harness.run UNIT [SIMULATOR]``: all parameter sets of a unit, while it is being written."""
    simulator = words[1] if len(words) > 1 else "verilator"
    unit, bad = load(words[0]), 0
    for params in (*unit.fast, *unit.thorough):
        out = verify(unit, params, simulator=simulator)
        print(f"{unit.name} {dict(params)}: {'pass' if out.ok else 'FAIL'}  build {out.build_s:.1f} s, run {out.run_s:.1f} s, "
              f"{out.record.get('edges', 0)} edges, {len(out.record.get('bins', []))} bins")
        for test, why in out.failed.items():
            print(f"  {test}: {why}")
        bad += not out.ok
    return bad


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
