"""Points whose device cannot be as they say, told apart from those that can: one wrong value of an axis is no reason to
refuse the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

Column = NDArray[np.float64]
Places = NDArray[np.intp]
#: Some numbers of a device -> why it cannot have them, else the empty text.
Refused = Callable[[Mapping[str, float]], str]
#: Values of one number that are tried each by itself; of more the least and the greatest are, and the values halved.
EACH = 64


def apart(numbers: Mapping[str, Column], refused: Refused) -> list[tuple[Places, str]]:
    """Two parts or more of the points (rows of ``numbers``, not all alike), each with what is wrong with all of it, or the
    empty text where that has to be looked at again: the parts are smaller. Cut by the first number of which some value is
    wrong by itself, else in halves."""
    for name, column in numbers.items():
        distinct = np.unique(column)
        if len(distinct) == 1:
            continue
        tried = distinct if len(distinct) <= EACH else distinct[[0, -1]]
        wrong = [float(v) for v in tried if refused({name: float(v)})]
        if wrong and len(distinct) > EACH:
            low = column < distinct[len(distinct) // 2]
            return [(np.flatnonzero(low), ""), (np.flatnonzero(~low), "")]
        if wrong:
            parts = [np.flatnonzero(column == v) for v in wrong]
            rest = np.flatnonzero(~np.isin(column, wrong))
            return [(p, _of_all(p, numbers, refused)) for p in parts] + ([(rest, "")] if len(rest) else [])
    order = np.lexsort(list(numbers.values()))
    table = np.stack(list(numbers.values()))[:, order]
    steps = np.flatnonzero(np.any(table[:, 1:] != table[:, :-1], axis=0)) + 1
    cut = steps[len(steps) // 2]
    return [(order[:cut], ""), (order[cut:], "")]


def _of_all(part: Places, numbers: Mapping[str, Column], refused: Refused) -> str:
    """The reason, if the first and the last of these points are refused for the same one."""
    first, last = (refused({k: float(v[i]) for k, v in numbers.items()}) for i in (part[0], part[-1]))
    return first if first == last else ""
