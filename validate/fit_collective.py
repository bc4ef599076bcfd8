"""Fit the collective formula to measured times, per link class: ``python -m validate.fit_collective --data DIR``.

Rows issued by a serving framework's own all-reduce kernels ("direct") and rows issued by the communication library
("library") are fitted together: the library's rows do not see the direct kernels' parameters. Links without direct
kernels have no such parameters, and a model in production sees the library there ("direct" too).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from accel_models.cost.collective import NODE_NETWORK, collective, link_class
from accel_models.cost.terms import Array, Cost
from accel_models.links import link_rate
from accel_models.registry import load_device
from validate.fit import Parameter
from validate.measured import Table, read
from validate.study import OUT, Predict, Problem, Study, Values, known_rows, main

_COMMON = (
    Parameter("efficiency", 0.7, 0.05, 1.0), Parameter("congestion", 0.0, -0.5, 2.5, linear=True),
    Parameter("step_time", 2e-6, 1e-7, 3e-5), Parameter("ramp", 0.5, 0.01, 3.0),
    Parameter("fast_efficiency", 0.25, 0.01, 1.0), Parameter("fast_step_time", 8e-7, 1e-7, 1e-5),
    Parameter("overhead", 6e-6, 1e-6, 1e-4), Parameter("gather_share", 0.85, 0.2, 2.0),
    Parameter("exchange_share", 0.7, 0.2, 2.0), Parameter("exchange_time", 3e-6, 1e-7, 5e-5),
    Parameter("p2p_share", 1.0, 0.2, 3.0), Parameter("arrival", 1e-6, 1e-8, 1e-4),
)
_DIRECT = (
    Parameter("direct_efficiency", 0.6, 0.01, 1.0), Parameter("direct_time", 4e-6, 1e-6, 5e-5),
    Parameter("direct_step", 2e-6, 1e-8, 1e-5),
)
_NETWORK = (Parameter("rails", 0.0, -0.5, 1.0, linear=True),
            Parameter("internode_efficiency", 0.5, 0.05, 1.5), Parameter("internode_step_time", 1e-5, 5e-7, 1e-4))
_LIMITS = tuple(2.0**k for k in range(18, 28, 1))


def table(directory: Path) -> Table:
    t = known_rows(read("collective", directory))
    links = [str(x) for x in t["link"]]
    t.columns["variant"] = np.array([link_class(x, n) for x, n in zip(links, t["devices_per_node"], strict=True)], dtype=object)
    t.columns["issue"] = np.array(["direct" if "custom" in f or v != "nvswitch" else "library"
                                   for f, v in zip(t["framework"], t["variant"], strict=True)], dtype=object)
    # The profiler of this source shows two modes, 20 and 60 us, for the same small messages.
    noisy = (t["source"] == "vidur") & np.isin(t["variant"], ("nvswitch", "pcie"))
    t.columns["apart"] = np.where(noisy, t["framework"], "").astype(object)
    return t


def parameters(variant: str, pool: bool) -> tuple[Parameter, ...]:
    return _COMMON + (_DIRECT if variant == "nvswitch" else ()) + (_NETWORK if variant == "internode" else ())


def rates(t: Table) -> Array:
    """Peak of the link inside the node for each row. [B/s]"""
    out = np.empty(len(t))
    keys = list(zip(t["device"], t["link"], t["devices_per_node"], strict=True))
    for device, link, per_node in sorted(set(keys)):
        own: dict[str, float] = {x.kind: x.bandwidth.value for x in load_device(device).link.values()}
        out[[k == (device, link, per_node) for k in keys]] = link_rate(device, own, link, per_node)
    return out


def bind(t: Table) -> Predict:
    bandwidth, per_node = rates(t), t["devices_per_node"]
    direct = (t["issue"] == "direct").astype(float)
    kinds = {k: np.flatnonzero(t["op"] == k) for k in sorted(set(t["op"]))}

    def predict(values: Values) -> Cost:
        out = np.zeros((len(Cost._fields), len(t)))
        for kind, at in kinds.items():
            v: dict[str, Any] = dict(values)
            v["direct_efficiency"] = values.get("direct_efficiency", 0.0) * direct[at]
            cost = collective(t["bytes"][at], t["n_devices"][at], kind=kind, bandwidth=bandwidth[at],
                              devices_per_node=per_node[at], internode_bandwidth=NODE_NETWORK / per_node[at], **v)
            out[:, at] = np.stack(np.broadcast_arrays(*cost))
        return Cost(*out)

    return predict


def roofline(t: Table) -> Array:
    """Ring traffic at the peak rate of the slower link."""
    flat = bind(t)({"efficiency": 1.0, "step_time": 0.0, "ramp": 0.0, "fast_step_time": 0.0, "overhead": 0.0,
                    "internode_efficiency": 1.0, "internode_step_time": 0.0})
    return np.maximum(flat.link, 1e-9)


def grid(t: Table) -> Sequence[dict[str, float]]:
    return [{"direct_limit": x} for x in _LIMITS] if (t["variant"] == "nvswitch").any() and (
        t["issue"] == "direct").any() else [{}]


def fold(values: Values, issue: str, network: Values) -> dict[str, float]:
    """Values of one issue class; those of the network are the same for all, from the rows that cross nodes."""
    out = {**network, **values}
    if issue != "direct":
        out = {k: v for k, v in out.items() if not k.startswith("direct_")}
    return out


PROBLEM = Problem(
    op="collective", formula="accel_models.cost.collective.collective",
    source="vidur 7d47513363ec, LLMCompass 2e015fd2ee75, aiconfigurator 095f58a51c4c: measured collectives",
    family=("bytes",), parameters=parameters, bind=bind, roofline=roofline, fold=partial(fold, network={}),
    serving="direct", ranges=("bytes", "n_devices"), grid=grid,
    prior=2.0)


def study(directory: Path) -> Study:
    rows = table(directory)
    first = Study(PROBLEM, rows)
    pool = first.pooled("internode")
    network = {k: v for k, v in pool.values.items() if k.startswith("internode_")} if pool else {}
    return Study(replace(PROBLEM, fold=partial(fold, network=network)), rows)


if __name__ == "__main__":
    main(study, OUT / "collective.toml")
