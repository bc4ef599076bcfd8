"""Search where a grid is too large: points chosen by what earlier ones gave, asked of Optuna and told back, over our store.

Nothing of the search itself is kept. It follows from its seed and from the results, so a search that was stopped is played
again from its beginning: points that are in the store are read, and only what is not there is computed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sim.sweep import identity
from sim.sweep.evaluate import ERROR, OK
from sim.sweep.executors import Executor
from sim.sweep.experiment import Search
from sim.sweep.run import Progress, Run, Task, evaluate
from sim.sweep.space import Axis

#: Points that are asked for at once: a generation, or as many as a model of the results may be late by.
BATCH = {"nsga2": 20, "tpe": 10, "gp": 4}
#: Points drawn at random before TPE models anything; with the 10 of Optuna it missed whole ends of fronts.
STARTUP = 20
#: Least points for a worker: fewer cost more to hand out than to compute.
PART = {"closed": 64, "events": 1}


def search(work: Run, executor: Executor, told: Callable[[Progress], None] | None = None, *, jobs: int = 1) -> Progress:
    """Run a search to its end. ``ImportError`` (its ``name`` says which) where Optuna or what it needs is missing."""
    given = work.space.experiment.sweep.search
    assert given is not None
    study = _study(given, list(work.space.experiment.sweep.objectives.values()))
    made, asked = work.space, 0
    progress = Progress(given.trials, 0)
    shapes = {a.name: _shape(a) for a in made.axes}
    while asked < given.trials:
        trials = [study.ask(shapes) for _ in range(min(BATCH[given.method], given.trials - asked))]
        asked += len(trials)
        columns = {a.name: _values(a, np.array([t.params[a.name] for t in trials])) for a in made.axes}
        columns, good = made.complete(columns)
        stamps = identity.stamps_of(columns, made.base, work.stamps, len(trials))
        keys = identity.keys(columns, made.parameters, stamps)
        new = _new(work, keys, good)
        _compute(work, executor, Task(work.text, made.file, -1, keys, stamps, columns), new, jobs)
        for trial, row in zip(trials, _rows(work, keys), strict=True):
            _tell(study, trial, row)
        progress.before += len(trials) - len(new)
        progress.done += len(new)
        work.improve(progress)
        if told:
            told(progress)
    return progress


def _study(given: Search, directions: list[str]) -> Any:
    optuna = import_module("optuna")
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    if given.method == "gp":
        import_module("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        warnings.simplefilter("ignore", FutureWarning)       # limits as a function: what versions 4 and 5 both take
        samplers = optuna.samplers
        common: dict[str, Any] = {"seed": given.seed, "constraints_func": _limits}
        sampler = {"nsga2": lambda: samplers.NSGAIISampler(population_size=BATCH["nsga2"], **common),
                   "tpe": lambda: samplers.TPESampler(n_startup_trials=STARTUP, **common),
                   "gp": lambda: samplers.GPSampler(**common)}[given.method]()
        return optuna.create_study(directions=[f"{d}imize" for d in directions], sampler=sampler)


def _limits(trial: Any) -> tuple[float]:
    """Above 0: a limit is missed."""
    return (float(trial.user_attrs.get("infeasible", 0.0)),)


def _shape(axis: Axis) -> Any:
    """An axis as Optuna takes it: a list of values by its places, in order where the values have one."""
    kinds = import_module("optuna").distributions
    if not axis.continuous:
        n = len(axis.values)
        return (kinds.IntDistribution(0, n - 1) if axis.values.dtype.kind in "iuf" else
                kinds.CategoricalDistribution(list(range(n))))
    if axis.whole:
        return kinds.IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return kinds.FloatDistribution(axis.low, axis.high, log=axis.log)


def _values(axis: Axis, chosen: NDArray[Any]) -> NDArray[Any]:
    return chosen if axis.continuous else axis.values[chosen.astype(np.int64)]


def _new(work: Run, keys: NDArray[np.int64], good: NDArray[np.bool_]) -> NDArray[np.intp]:
    """Places of points that are not in the store yet, each once."""
    there = work.store.known(keys, [])
    _, first = np.unique(keys, return_index=True)
    return np.array([i for i in np.sort(first).tolist() if good[i] and int(keys[i]) not in there], dtype=np.intp)


def _compute(work: Run, executor: Executor, whole: Task, new: NDArray[np.intp], jobs: int) -> None:
    """Evaluate and store these points, in parts where that pays."""
    if not len(new):
        return
    least = PART.get(work.space.experiment.sweep.evaluator, 1)
    parts = np.array_split(new, max(min(jobs, len(new) // least), 1)) if least > 1 else [new[i:i + 1] for i in range(len(new))]
    tasks = (whole._replace(keys=whole.keys[at], stamps=whole.stamps[at],
                            columns={k: v[at] for k, v in whole.columns.items()}) for at in parts)
    for task, results in executor.run(evaluate, tasks):
        work.store.add(task.keys, task.stamps, task.columns, results)


def _rows(work: Run, keys: NDArray[np.int64]) -> list[tuple[int, list[float]]]:
    """Status and objectives of each point; those that the constraints rule out are in no store, and errors here."""
    objectives = list(work.space.experiment.sweep.objectives)
    there = work.store.known(keys, objectives)
    none = (ERROR, *[np.nan] * len(objectives))
    found = [there.get(k, none) for k in keys.tolist()]
    return [(int(row[0]), [np.nan if x is None else float(x) for x in row[1:]]) for row in found]


def _tell(study: Any, trial: Any, row: tuple[int, list[float]]) -> None:
    status, values = row
    trial.set_user_attr("infeasible", float(status != OK))
    if status == ERROR or np.isnan(values).any():
        study.tell(trial, state=import_module("optuna").trial.TrialState.FAIL)
    else:
        study.tell(trial, values)

