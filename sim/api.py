"""The Python API: the same answers as the command line, in a few lines.

>>> from sim.api import whatif
>>> whatif("llama-3.1-8b", "h200_sxm", batch=64).data["model"]["n_layers"]
32
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from numpy.typing import ArrayLike

from accel_models.bind import bind
from accel_models.registry import load_device
from sim.answer import Answer, answer
from sim.estimate import Estimate, Workload, estimate
from sim.query import Query, load_spec, resolve
from workloads.parallel import Parallel


def whatif(model: str, hw: str, *, elasticities: bool = True, **options: Any) -> Answer:
    """Answer one question; ``options`` are the fields of ``sim.query.Query`` (batch, isl, osl, quant, tp, sets ...).

    Raises ``ValueError`` with one line for anything the command line would refuse.
    """
    return answer(resolve(Query(model=model, hw=hw, **options)), elasticities=elasticities)


def grid(model: str, hw: Sequence[str], *, batch: ArrayLike = 1, isl: ArrayLike = 1024, osl: ArrayLike = 128,
         prefix: ArrayLike = 0, quant: str = "", utilization: float = 0.9, parallel: Parallel | None = None,
         framework: str = "") -> Estimate:
    """All devices at all points at once. ``batch``, ``isl``, ``osl`` broadcast; axis 0 of every result is the device.

    Each device stands alone, or with as many of its kind as ``parallel`` needs on its own fastest link.
    """
    hardware = bind([load_device(name) for name in hw])
    work = Workload(batch=batch, isl=isl, osl=osl, prefix=prefix, utilization=utilization)
    return estimate(load_spec(model, quant=quant), hardware, work, parallel, framework=framework)
