"""What every cost function returns: a time and the terms it is made of."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def as_floats(*values: ArrayLike) -> tuple[Array, ...]:
    """Cast to float64 without broadcasting, so that a term pays only for the axes it has (int32 products wrap)."""
    return tuple(np.asarray(v, dtype=np.float64) for v in values)


class Cost(NamedTuple):
    """Time of one op and its terms [s]; the arrays broadcast against each other.

    ``compute``, ``memory`` and ``link`` are the times that each resource alone would need; ``launch`` is overhead that
    nothing hides; ``tail`` is what partly filled waves, ramp-up and reductions add. ``time`` is the whole, not the
    sum: compute and memory overlap. ``flops`` and ``nbytes`` are the work, for energy and for the roofline.
    """

    time: Array
    compute: Array
    memory: Array
    link: Array
    launch: Array
    tail: Array
    flops: Array
    nbytes: Array


#: Names of the exclusive shares of ``Cost.time`` that ``limiting`` distinguishes.
RESOURCES = ("compute", "memory", "link", "launch", "tail")


def smooth_max(a: ArrayLike, b: ArrayLike, sharpness: ArrayLike) -> Array:
    """(a^p + b^p)^(1/p): two overlapping resources; p = 1 no overlap, p -> infinity perfect overlap."""
    a, b, p = as_floats(a, b, sharpness)
    top = np.maximum(np.maximum(a, b), 1e-300)
    low = np.minimum(a, b)
    return top * np.power(1.0 + np.power(low / top, p), 1.0 / p)


def attribute(cost: Cost) -> dict[str, Array]:
    """Split ``cost.time`` exclusively among ``RESOURCES``: overheads as they are, the rest to what limits it."""
    busy = np.maximum(cost.time - cost.launch - cost.tail, 0.0)
    zero = np.zeros_like(busy)
    top = np.maximum(np.maximum(cost.compute, cost.memory), cost.link)
    by_link = (cost.link >= top) & (cost.link > 0)
    by_memory = ~by_link & (cost.memory >= top)
    return {
        "compute": np.where(~by_link & ~by_memory, busy, zero),
        "memory": np.where(by_memory, busy, zero),
        "link": np.where(by_link, busy, zero),
        "launch": cost.launch + zero,
        "tail": cost.tail + zero,
    }


#: Regimes by which residuals are grouped: the resource with the greatest share of ``attribute``.
REGIMES = RESOURCES


def regime(cost: Cost) -> NDArray[np.intp]:
    """Index into ``REGIMES`` of what takes most of the time, from the model's own terms (never from a measurement)."""
    shares = attribute(cost)
    index: NDArray[np.intp] = np.argmax(np.stack(np.broadcast_arrays(*(shares[r] for r in REGIMES))), axis=0)
    return index
