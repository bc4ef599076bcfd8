"""A large workload in pieces: cut along its longest axis, and the results put together again."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

#: Elements (devices times points that an op depends on) that are priced at once: with some 40 arguments and terms
#: for each of 30 to 70 ops, about 200 MB.
LIMIT = 2**15


def load(isl: NDArray[Any], osl: NDArray[Any], batch: NDArray[Any], prefix: NDArray[Any], n_devices: int) -> float:
    """Elements to be priced: prefill depends on lengths, products of a decode step on the batch, attention alone (an
    eighth, counted by its ops) on all."""
    return n_devices * (np.broadcast(isl, prefix).size + batch.size + np.broadcast(isl, osl, batch, prefix).size / 8)


def cut(arrays: dict[str, NDArray[Any]], pieces: float) -> tuple[Canvas, list[tuple[slice, dict[str, Any]]]]:
    """Cut along the longest axis: where the results go, and for each piece its place and its arrays. Every piece keeps
    its axes, so that results of all pieces have the same."""
    shape = np.broadcast_shapes(*(a.shape for a in arrays.values()))
    axis = int(np.argmax(shape)) - len(shape)
    step = max(int(shape[axis] / np.ceil(pieces)), 1)

    def part(a: NDArray[Any], place: slice) -> NDArray[Any]:
        return a if a.ndim < -axis or a.shape[axis] == 1 else a[_at(a.ndim, axis, place)]

    places = [slice(i, min(i + step, shape[axis])) for i in range(0, shape[axis], step)]
    return Canvas(axis, shape[axis]), [(p, {k: part(a, p) for k, a in arrays.items()}) for p in places]


class Canvas:
    """Results of all pieces by name, each written to its place as it comes."""

    def __init__(self, axis: int, length: int) -> None:
        self.axis, self.length = axis, length
        self.arrays: dict[str, NDArray[Any]] = {}

    def put(self, place: slice, results: dict[str, NDArray[Any]]) -> None:
        """Add one piece. What does not depend on the axis that was cut stays one entry long on it."""
        axis = self.axis
        for name, part in results.items():
            alone = part.ndim < -axis or (part.shape[axis] == 1 and place.stop - place.start > 1)
            if name not in self.arrays:
                shape = list(part.shape)
                if not alone:
                    shape[axis] = self.length
                self.arrays[name] = np.empty(shape, part.dtype)
            whole = self.arrays[name]
            if part.ndim < -axis or whole.shape[axis] == 1:
                whole[...] = part
            else:
                whole[_at(whole.ndim, axis, place)] = part


def _at(ndim: int, axis: int, place: slice) -> tuple[slice, ...]:
    found = [slice(None)] * ndim
    found[axis] = place
    return tuple(found)
