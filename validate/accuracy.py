"""Repeat every fit, and write the fitted files, the scores and the pages made of them.

``python -m validate.accuracy --data DIR`` in a checkout; ``--only gemm,moe`` for some, ``--render`` for the pages alone.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accel_models import columns, fitted_store
from validate import (
    end_to_end,
    fit_attention,
    fit_collective,
    fit_elementwise,
    fit_energy,
    fit_gemm,
    fit_moe,
    fit_serving,
    gate,
    parallel,
    shortfalls,
)
from validate.baselines import three_constants
from validate.measured import data_dir
from validate.scores import (
    COLUMNS,
    ORDER,
    SCORES,
    TARGET_COLUMNS,
    TARGETS,
    page,
    put_into,
    save,
    stored,
    stored_targets,
    summary,
)
from validate.study import OUT, Study, write, write_file
from validate.targets import TARGETS as WANTED
from validate.targets import missed, reached

STUDIES: dict[str, Callable[[Path], Study]] = {
    "gemm": fit_gemm.study, "attention": fit_attention.study, "moe": fit_moe.study,
    "elementwise": fit_elementwise.study, "collective": fit_collective.study,
}


def refit(directory: Path, ops: Sequence[str]) -> None:
    """Repeat the fits of ``ops`` and write their files, scores and targets; those of the other ops stay as they are."""
    kept = [s for s in (stored() if SCORES.exists() else []) if s["op"] not in ops]
    mine = {w.what for w in WANTED if w.op in ops}
    targets = [t for t in (stored_targets() if TARGETS.exists() else []) if t["what"] not in mine]
    short = [c for c in (shortfalls.stored() if shortfalls.CLASSES.exists() else []) if c["what"] not in mine]
    new: list[dict[str, Any]] = []
    studies = [STUDIES[op](directory) for op in ops if op in STUDIES]
    for study, models in zip(studies, parallel.run(studies), strict=True):
        write(study, OUT / f"{study.problem.op}.toml")
        three = three_constants(study)
        new += study.scores(three) + models
        targets += reached(study, three)
        short += [m._asdict() for m in missed(study)]
    if "energy" in ops:
        made, found, digest = fit_energy.fit_device(directory)
        fit_energy.write(made, digest, OUT / "energy.toml")
        new += [{"framework": ""} | f for f in found]
    save(sorted(kept + new, key=lambda s: (ORDER.index(s["op"]), *(str(s[c]) for c in COLUMNS[1:6]))))
    order = [w.what for w in WANTED]
    save(sorted(targets, key=lambda t: (order.index(t["what"]), t["split"])), TARGETS, TARGET_COLUMNS)
    save(sorted(short, key=lambda c: (order.index(c["what"]), c["split"])), shortfalls.CLASSES, shortfalls.COLUMNS)


def whole(directory: Path) -> None:
    """What rests on the written sets: whole steps, the reference sample and the gate's figures, with nothing cached."""
    serving = end_to_end.serving(directory)
    if serving:
        write_file(fit_serving.learn({w: end_to_end.points(serving, w) for w in fit_serving.WHAT}), OUT / "serving.toml")
    end_to_end.save(end_to_end.score([*end_to_end.forwards(directory), *serving]))
    gate.draw(directory)
    gate.store()


def forget() -> None:
    """Drop every cached set: the files have just been rewritten."""
    for cached in (fitted_store.load, fitted_store._index, fitted_store.lookup, fitted_store._parse, columns.fitted,
                   columns.sets, columns._eager_pool):
        cached.cache_clear()


def main() -> None:
    """Command line: refit, score, and write the pages into the checkout (the current directory)."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", default=None, help="directory of the measured tables (or PERFBOARD_DATA)")
    parser.add_argument("--only", default=",".join((*STUDIES, "energy")), help="ops to fit, comma-separated")
    parser.add_argument("--pages", type=Path, default=Path(), help="checkout whose README and docs are rewritten")
    parser.add_argument("--render", action="store_true", help="rewrite the pages from the stored scores, fit nothing")
    options = parser.parse_args()
    if not options.render:
        refit(data_dir(options.data), options.only.split(","))
        forget()
        whole(data_dir(options.data))
    scores = stored()
    (options.pages / "docs").mkdir(exist_ok=True)
    (options.pages / "docs" / "accuracy.md").write_text(page(scores, stored_targets(), end_to_end.stored()), encoding="utf-8")
    put_into(options.pages / "README.md", summary(scores))


if __name__ == "__main__":
    main()
