"""The text of a file of fitted parameters (``accel_models.fitted_store.FittedFile``): the same sets give the same bytes."""

from __future__ import annotations

import json
from collections.abc import Mapping

from accel_models.fitted_store import FittedFile


def fitted_text(file: FittedFile) -> str:
    lines = [f"{k} = {json.dumps(getattr(file, k), ensure_ascii=False)}"
             for k in ("op", "formula", "source", "data_sha256", "date")]
    for s in file.set:
        lines += ["", "[[set]]"]
        lines += [f"{k} = {json.dumps(getattr(s, k))}" for k in ("variant", "device", "generation", "framework")]
        lines += [f"n_rows = {s.n_rows}", f"mape = {s.mape!r}"]
        lines += [f"{k} = {_inline(getattr(s, k))}" for k in ("values", "stderr", "lo", "hi", "range") if getattr(s, k)]
    return "\n".join(lines) + "\n"


def _inline(table: Mapping[str, float | tuple[float, float]]) -> str:
    return "{ " + ", ".join(f"{k} = {list(v) if isinstance(v, tuple) else v!r}" for k, v in table.items()) + " }"
