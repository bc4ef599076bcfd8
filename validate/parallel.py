"""Work side by side: one process per core, results as if one process had done it all.

Fits: one task per class of kernels; tables are inherited by forking and never sent. Where a system cannot fork, one
process does everything.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

from validate import models_left_out
from validate.study import Part, Study

X = TypeVar("X")
Y = TypeVar("Y")

#: What the workers fit: set before they are forked.
_studies: list[Study] = []

Scores = list[dict[str, object]]


def run(studies: Sequence[Study], workers: int = 0) -> list[Scores]:
    """Do all fits of ``studies`` (in place) and return the scores of whole models left out, one list a study.

    ``workers`` 0: as many as there are cores. Every task starts from the rows alone, so the number changes no figure.
    """
    _studies[:] = studies
    tasks = [(i, v) for i, s in enumerate(studies) for v in s.variants()]
    if not _several(workers):
        parts, models = [_fit(*t) for t in tasks], [_models(i) for i in range(len(studies))]
    else:
        with ProcessPoolExecutor(workers or _cores(), multiprocessing.get_context("fork")) as pool:
            fits = [pool.submit(_fit, *t) for t in tasks]
            left = [pool.submit(_models, i) for i in range(len(studies))]
            parts, models = [f.result() for f in fits], [f.result() for f in left]
    for (i, _), part in zip(tasks, parts, strict=True):
        studies[i].take(part)
    return models


def each(function: Callable[[X], Y], items: Sequence[X], workers: int = 0) -> Iterator[Y]:
    """``function`` of every item, in their order, as they come. ``workers`` 0: as many as there are cores."""
    if len(items) < 2 or not _several(workers):
        yield from map(function, items)
        return
    with ProcessPoolExecutor(workers or _cores(), multiprocessing.get_context("fork")) as pool:
        yield from pool.map(function, items)


def _several(workers: int) -> bool:
    return (workers or _cores()) > 1 and "fork" in multiprocessing.get_all_start_methods()


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fit(i: int, variant: str) -> Part:
    return _studies[i].fit_variant(variant)


def _models(i: int) -> Scores:
    return models_left_out.scores(_studies[i])
