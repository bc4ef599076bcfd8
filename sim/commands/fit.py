"""``perfboard fit``: memory only - weights, KV per token, largest batch and context, smallest TP that fits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import click

from sim.commands.options import hardware_names, query_from, query_options
from sim.fit_memory import budget, largest_context, smallest_change, smallest_tp
from sim.output import format_option, note, print_rows
from sim.query import Query, resolve

COLUMNS = ("device", "fits", "weights_gib", "kv_gib", "kv_kib_per_token", "activations_gib", "runtime_gib", "budget_gib",
           "capacity_gib", "max_batch", "max_prompt_tokens", "smallest_tp")


@click.command()
@query_options
@format_option
def fit(fmt: str, **values: Any) -> int:
    """Does it fit, how many sequences, how long, and on how few devices? Exit code 1 if it does not.

    \b
    perfboard fit -m llama-3.1-70b --hw h100_sxm,h200_sxm --isl 8192 --osl 1024 --quant fp8
    """
    rows, misfits = [], []
    for name in hardware_names(values["hw"]):
        query = query_from(values, name)
        row, ok = _row(query)
        rows.append(row)
        if not ok:
            misfits.append(query)
    if fmt == "table":      # devices side by side, since there are more figures than fit on a line
        print_rows(("", *(str(r[0]) for r in rows)), [_line(i, rows) for i in range(1, len(COLUMNS))], fmt,
                   right=tuple(str(r[0]) for r in rows))
    else:
        print_rows(COLUMNS, rows, fmt)
    for query in misfits:
        note(f"does not fit: {query.hw}: {smallest_change(resolve(query))}")
    return 1 if misfits else 0


#: What people read in place of a column's name.
LABELS = {"kv_kib_per_token": "KV per token [KiB]", "max_batch": "largest batch", "smallest_tp": "smallest TP that fits",
          "max_prompt_tokens": "longest prompt at batch 1 [tokens]", "kv_gib": "KV [GiB]",
          "budget_gib": "for weights and KV [GiB]"}


def _line(i: int, rows: list[list[Any]]) -> list[Any]:
    name = COLUMNS[i]
    label = LABELS.get(name) or (f"{name.removesuffix('_gib')} [GiB]" if name.endswith("_gib") else name.replace("_", " "))
    return [label, *(f"{r[i]:,}" if isinstance(r[i], int) else r[i] for r in rows)]


def _row(query: Query) -> tuple[list[Any], bool]:
    setting = resolve(query)
    m = {k: float(v) for k, v in budget(setting).items()}
    gib = {k: round(v / 2**30, 3) for k, v in m.items()}
    ok = bool(m["fits"])
    one = replace(query, batch=1)
    room = int(m["max_concurrency"]) if m["max_concurrency"] >= 0 else "any"      # an encoder keeps no cache
    per_token = round(m["kv_per_sequence"] / (query.isl + query.osl) / 1024, 4)
    return [setting.device.name, "yes" if ok else "NO", gib["weights"], gib["kv"], per_token, gib["activations"],
            gib["runtime"], gib["budget"], gib["capacity"], room, largest_context(resolve(one)),
            smallest_tp(setting) or "none to 64"], ok
