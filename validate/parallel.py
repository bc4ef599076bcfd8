"""Fits side by side: one process per core, one task per class of kernels, results as if one process had done them all.

Tables are inherited by forking and never sent; where a system cannot fork, one process does everything.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor

from validate import models_left_out
from validate.study import Part, Study

#: What the workers fit: set before they are forked.
_studies: list[Study] = []

Scores = list[dict[str, object]]


def run(studies: Sequence[Study], workers: int = 0) -> list[Scores]:
    """Do all fits of ``studies`` (in place) and return the scores of whole models left out, one list a study.

    ``workers`` 0: as many as there are cores. Every task starts from the rows alone, so the number changes no figure.
    """
    _studies[:] = studies
    tasks = [(i, v) for i, s in enumerate(studies) for v in s.variants()]
    if (workers or _cores()) < 2 or "fork" not in multiprocessing.get_all_start_methods():
        parts, models = [_fit(*t) for t in tasks], [_models(i) for i in range(len(studies))]
    else:
        with ProcessPoolExecutor(workers or _cores(), multiprocessing.get_context("fork")) as pool:
            fits = [pool.submit(_fit, *t) for t in tasks]
            left = [pool.submit(_models, i) for i in range(len(studies))]
            parts, models = [f.result() for f in fits], [f.result() for f in left]
    for (i, _), part in zip(tasks, parts, strict=True):
        studies[i].take(part)
    return models


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _fit(i: int, variant: str) -> Part:
    return _studies[i].fit_variant(variant)


def _models(i: int) -> Scores:
    return models_left_out.scores(_studies[i])
