"""Split by whole model: where rows name the model that they were profiled for, all rows of one are left out of a fit."""

from __future__ import annotations

from validate.scores import MODEL
from validate.study import Study, errors, fit_rows


def scores(study: Study) -> list[dict[str, object]]:
    """One line for each device, library and model: fitted on the rows of the others, from the parameters' own start (a
    pool would have seen the model). ``device`` holds the model's name, ``framework`` the device and library."""
    t = study.table
    if "model" not in t.columns:
        return []
    out: list[dict[str, object]] = []
    keys = sorted({k for k in zip(t["variant"], t["device"], t["framework"], t["model"], strict=True) if k[3]})
    for variant, device, framework, model in keys:
        here = (t["variant"] == variant) & (t["device"] == device) & (t["framework"] == framework)
        test, train = here & (t["model"] == model), here & (t["model"] != model) & (t["model"] != "")
        if not train.any():
            continue
        rows = t.where(test)
        cost = study.problem.bind(rows)(fit_rows(study.problem, t.where(train), prior=study.problem.own_prior).values)
        out.append({"op": study.problem.op, "variant": variant, "device": model, "framework": f"{device} {framework}",
                    "regime": "all", "split": MODEL} | errors(cost.time, rows["time_s"], study.roofline[test]))
    return out
