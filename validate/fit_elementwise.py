"""Fit the elementwise formula to measured times, per kind: ``python -m validate.fit_elementwise --data DIR``.

Two ways of issuing meet in the table: kernel times ("kernel") and one eager call between two events ("eager"), which
holds tens of microseconds of a framework's own time. Both share the memory terms; eager rows have a further
``eager_overhead``, which is added to ``overhead`` in the sets named after their framework and dropped from the others.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from accel_models.cost.elementwise import BORROWS, READ_SHARE, elementwise
from accel_models.cost.terms import Array, Cost
from validate.fit import Parameter
from validate.measured import Table, read
from validate.study import OUT, Predict, Problem, Study, Values, hardware, known_rows, main

#: Kinds that pass over a row more than once: only they have ``passes`` (else it is told from ``unit_rate`` by nothing).
_REDUCING = ("rmsnorm", "add_rmsnorm", "layernorm", "softmax", "quantise_dynamic")

_PARAMETERS = (
    Parameter("efficiency", 0.88, 0.5, 1.0), Parameter("l2_efficiency", 0.4, 0.05, 1.0),
    Parameter("l2_share", 0.7, 0.02, 2.0), Parameter("unit_rate", 3e10, 1e9, 5e11),
    Parameter("row_blocks", 4.0, 0.5, 16.0), Parameter("row_time", 1e-7, 1e-10, 1e-4),
    Parameter("passes", 0.05, 1e-3, 10.0), Parameter("overhead", 1.8e-6, 5e-7, 2e-5),
    Parameter("eager_overhead", 2.5e-5, 1e-6, 2e-4),
)

#: Streams reach 0.8 to 0.95 of the DRAM rate on nearly all parts (``measured_*_bw`` of device files): a lower share
#: in a pool would hide a limit of the processors (``unit_rate``), which scales differently to other devices.
_POOLED = {"efficiency": Parameter("efficiency", 0.88, 0.8, 1.0)}


def table(directory: Path) -> Table:
    t = known_rows(read("elementwise", directory))
    t.columns["variant"] = np.array([BORROWS.get(str(o), str(o)) for o in t["op"]], dtype=object)
    t.columns["issue"] = np.array(["eager" if str(f).startswith("torch") else "kernel" for f in t["framework"]],
                                  dtype=object)
    # Kernels of 2023 that load element by element reach a third of the rate of today's; both are in the table.
    old = np.isin(t["variant"], ("rmsnorm", "rope", "silu_mul")) & (t["source"] == "vidur")
    t.columns["apart"] = np.where(old, t["framework"], "").astype(object)
    return t


def parameters(variant: str, pool: bool) -> tuple[Parameter, ...]:
    chosen = tuple(p for p in _PARAMETERS if p.name != "passes" or variant in _REDUCING)
    return tuple(_POOLED.get(p.name, p) for p in chosen) if pool else chosen


def bind(t: Table) -> Predict:
    hw: dict[str, Any] = hardware(t, "dram_bandwidth", "l2_bandwidth", "l2_capacity", "n_units")
    share = np.array([READ_SHARE.get(str(v), 0.5) for v in t["variant"]])
    work: dict[str, Any] = {"rows": t["rows"], "cols": t["cols"], "bytes_read": t["bytes_rw"] * share,
                            "bytes_written": t["bytes_rw"] * (1.0 - share)}
    eager = (t["issue"] == "eager").astype(float)

    def predict(values: Values) -> Cost:
        v: dict[str, Any] = {k: x for k, x in values.items() if k != "eager_overhead"}
        return elementwise(**work, **hw, launch=eager * values.get("eager_overhead", 0.0), **v)

    return predict


def roofline(t: Table) -> Array:
    """Least traffic at the DRAM rate."""
    return t["bytes_rw"] / hardware(t, "dram_bandwidth")["dram_bandwidth"]


def fold(values: Values, issue: str) -> dict[str, float]:
    out = {k: v for k, v in values.items() if k != "eager_overhead"}
    out["overhead"] += values["eager_overhead"] if issue == "eager" else 0.0
    return out


PROBLEM = Problem(
    op="elementwise", formula="accel_models.cost.elementwise.elementwise",
    source="vidur 7d47513363ec, NeuSight 6945927d9afc, LLMCompass 2e015fd2ee75, LLMServingSim 5daddb21a545, "
           "aiconfigurator 095f58a51c4c: measured elementwise kernels",
    family=("rows", "cols"), parameters=parameters, bind=bind, roofline=roofline, fold=fold, serving="kernel",
    ranges=("rows", "cols", "bytes_rw"))


def study(directory: Path) -> Study:
    return Study(PROBLEM, table(directory))


if __name__ == "__main__":
    main(study, OUT / "elementwise.toml")
