"""Who may import whom, read from the source of every module; and what engines may not know by name."""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

from workloads.registry import list_models

ROOT = Path(__file__).resolve().parents[2]
#: Each package imports from itself and from those before it.
ORDER = ("rtl", "workloads", "accel_models", "sim", "validate")
#: The home of each outside library that has one, and the packages that may use the common ones. Two have a second, since
#: sim may not import validate: Sobol points are SciPy's, and a sweep is exported as Parquet.
HOMES = {"scipy": ("validate/fit.py", "sim/sweep/sample.py"), "simpy": ("sim/kernel.py",),
         "matplotlib": ("sim/figures.py", "sim/timeline_figure.py", "sim/sweep/figure.py", "validate/rtl_figure.py"),
         "pyarrow": ("validate/import_formats.py", "sim/sweep/export.py"),
         "distributed": ("sim/sweep/executors.py",)}
OUTSIDE = {"rtl": {"numpy", "cocotb", "cocotb_tools", "pyverilog"}, "workloads": {"numpy", "pydantic"},
           "accel_models": {"numpy", "pydantic"},
           "sim": {"numpy", "pydantic", "click", "rich"}, "validate": {"numpy", "pydantic", "click", "rich", "cupy"}}
#: Imports inside functions: lazy loading of commands, and of an optional extra, never to dodge a circle.
LAZY = {"sim/cli.py", "validate/measure.py", "validate/import_formats.py", "sim/sweep/sample.py", "sim/sweep/executors.py",
        "sim/sweep/export.py"}

MODULES = sorted(p.relative_to(ROOT).as_posix() for package in ORDER for p in (ROOT / package).rglob("*.py"))


@cache
def tree(path: str) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"), filename=path)


def _names(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [a.name for a in node.names]
    if isinstance(node, ast.ImportFrom):
        assert node.level == 0, "relative import"
        # "from workloads import ops" names a module, "from workloads.ops import Op" an object of one
        return [f"{node.module}.{a.name}" if (ROOT / str(node.module).replace(".", "/") / f"{a.name}.py").exists()
                else str(node.module) for a in node.names]
    return []


def imports(path: str) -> list[str]:
    return [name for node in ast.walk(tree(path)) for name in _names(node)]


def test_there_is_something_to_read() -> None:
    assert len(MODULES) > 40
    assert "workloads.graph" in imports("sim/estimate.py")
    assert "accel_models.price" in imports("sim/estimate.py")


@pytest.mark.parametrize("path", MODULES)
def test_imports_point_backwards(path: str) -> None:
    package = path.split("/")[0]
    allowed = ORDER[:ORDER.index(package) + 1]
    for name in imports(path):
        top = name.split(".")[0]
        assert top not in ORDER or top in allowed, f"{path} imports {name}"
        assert top not in ("tests", "benchmarks"), f"{path} imports {name}"
        if package == "accel_models" and top == "workloads":
            assert name in ("workloads.ops", "workloads.formats"), f"{path} imports {name}"


@pytest.mark.parametrize("path", MODULES)
def test_each_outside_library_has_its_home(path: str) -> None:
    for name in imports(path):
        top = name.split(".")[0]
        if top in HOMES:
            assert path in HOMES[top], f"{path} imports {name}; its home is {HOMES[top]}"
        elif top not in ORDER and top not in sys.stdlib_module_names:
            assert top in OUTSIDE[path.split("/")[0]], f"{path} imports {name}"


#: Homes inside the hardware folder: cost models import contracts, so those and golden models keep to numpy.
RTL_HOMES = {"cocotb": r"rtl/(harness/(streams|suite)|\w+/bench)\.py", "cocotb_tools": r"rtl/harness/build\.py",
             "pyverilog": r"rtl/harness/interface\.py"}
PURE = r"rtl\.(harness\.(unit|models|bench|pipe_bins)|\w+\.(golden|contract))"


@pytest.mark.parametrize("path", [m for m in MODULES if m.startswith("rtl/")])
def test_hardware_imports(path: str) -> None:
    pure = re.fullmatch(PURE, path.removesuffix(".py").replace("/", "."))
    for name in imports(path):
        home = RTL_HOMES.get(name.split(".")[0])
        assert home is None or re.fullmatch(home, path), f"{path} imports {name}; its home is {home}"
        if pure and name.startswith("rtl"):
            assert re.fullmatch(PURE, name), f"{path} imports {name}: a cost model would load it"


@pytest.mark.parametrize("path", [m for m in MODULES if m not in LAZY])
def test_imports_stand_at_the_top(path: str) -> None:
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            inner = [name for child in ast.walk(node) for name in _names(child)]
            assert not inner, f"{path}: {node.name} imports {inner}"


def test_no_circles() -> None:
    graph = {p.removesuffix(".py").removesuffix("/__init__").replace("/", "."): imports(p) for p in MODULES}
    state: dict[str, int] = {}

    def visit(module: str, way: tuple[str, ...]) -> None:
        assert state.get(module) != 1, f"circle: {' -> '.join((*way, module))}"
        if state.get(module) == 2:
            return
        state[module] = 1
        for name in graph[module]:
            if name in graph and name != module:
                visit(name, (*way, module))
        state[module] = 2

    for module in graph:
        visit(module, ())


# -- engines know no model, device or technique by name ------------------------------------------------------------

TECHNIQUES = ("speculat", "eagle", "medusa", "offload", "flexgen", "awq", "gptq", "smoothquant_", "paged", "radix",
              "disagg", "quarot", "kivi", "h2o", "snapkv", "layerskip", "powerinfer")


def _words(path: str) -> Iterator[str]:
    """Identifiers and texts of a module, docstrings apart."""
    docs = {id(n.body[0].value) for n in ast.walk(tree(path))
            if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef) and n.body and isinstance(n.body[0], ast.Expr)}
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docs:
            yield node.value.lower()
        elif isinstance(node, ast.Name | ast.Attribute | ast.FunctionDef | ast.ClassDef | ast.arg):
            yield (getattr(node, "id", "") or getattr(node, "attr", "") or getattr(node, "name", "")
                   or getattr(node, "arg", "")).lower()


ENGINES = [m for m in MODULES if m.startswith("accel_models/") or m in ("sim/estimate.py", "sim/kernel.py", "sim/answer.py",
                                                                        "sim/fit_memory.py", "workloads/graph.py",
                                                                        "workloads/work.py", "workloads/footprint.py")]


@pytest.mark.parametrize("path", ENGINES)
def test_no_model_is_known_by_name(path: str) -> None:
    families = {"llama", "mistral", "mixtral", "qwen", "deepseek", "gemma", "falcon", "bloom", "mamba", "kimi", "minimax",
                "nemotron", "gpt2", "gpt-oss", "opt-"}
    assert all(any(f in m.lower() for m in list_models()) for f in families)       # else the list is stale
    found = [w for w in _words(path) for f in families if f in w]
    assert not found, f"{path} knows {found[:3]}"


@pytest.mark.parametrize("path", [m for m in ENGINES if "/cost/" in m or not m.startswith("accel_models/")])
def test_no_technique_or_device_is_known_by_name(path: str) -> None:
    devices = ("h100", "h200", "a100", "b200", "mi300", "rtx_", "tpu_", "gb200")
    found = [w for w in _words(path) for t in (*TECHNIQUES, *devices) if t in w]
    assert not found, f"{path} knows {found[:3]}"
