"""``perfboard model``: the bundled models, what a config.json says, and whether one can be read."""

from __future__ import annotations

from typing import Any

import click

from sim.output import format_option, note, print_json, print_rows
from sim.query import load_spec
from workloads.footprint import kv_bytes, weights_bytes
from workloads.formats import get_format
from workloads.model_spec import ModelSpec, Softmax
from workloads.registry import list_models


@click.group()
def model() -> None:
    """Models: the bundled public ones, or any config.json."""


@model.command("list")
@format_option
def list_(fmt: str) -> None:
    """All bundled models with their sizes."""
    columns = ("model", "family", "params_b", "active_b", "layers", "attention", "kv_bytes_per_token")
    rows = []
    for name in list_models():
        s = load_spec(name)
        rows.append((name, s.family, round(s.n_params / 1e9, 3), round(s.n_active_params / 1e9, 3), s.n_layers, _mixers(s),
                     round(s.kv_elements_per_token * get_format(s.kv_format).nbytes)))
    print_rows(columns, rows, fmt, right=("params_b", "active_b", "layers", "kv_bytes_per_token"))


@model.command()
@click.argument("name")
@click.option("--quant", default="", help="Apply a quantisation first (W4A16, FP8 ...).")
@format_option
def show(name: str, quant: str, fmt: str) -> None:
    """One model: sizes, layer kinds, bytes of weights and cache."""
    s = load_spec(name, quant=quant)
    if fmt == "json":
        print_json(_facts(s) | {"layers": [x.model_dump() for x in s.layers], "pattern": s.pattern})
        return
    print_rows(("property", "value"), list(_facts(s).items()), fmt)
    rows = [(x.label, c, *_layer(x), round(x.n_params / 1e6, 2)) for x, c in zip(s.layers, s.counts, strict=True)]
    print_rows(("layer", "count", "mixer", "feed-forward", "formats", "params_m"), rows, fmt, right=("count", "params_m"))
    for text in s.notes:
        note(f"note: {text}")


@model.command()
@click.argument("paths", nargs=-1, required=True)
def check(paths: tuple[str, ...]) -> int:
    """Read each config.json (or bundled name) and say what it is, or why not. Exit code 2 if any is refused."""
    refused = 0
    for path in paths:
        try:
            s = load_spec(path)
        except ValueError as e:
            refused += 1
            click.echo(f"refused  {path}: {e}")
            continue
        click.echo(f"ok       {path}: {s.family}, {s.n_params / 1e9:.3g} B parameters, {s.n_layers} layers, {_mixers(s)}")
    return 2 if refused else 0


def _mixers(s: ModelSpec) -> str:
    kinds: dict[str, int] = {}
    for layer, count in zip(s.layers, s.counts, strict=True):
        core = layer.mixer.core if layer.mixer else None
        if core is None:
            continue
        if not isinstance(core, Softmax):
            name = core.cell
        elif core.latent:
            name = "MLA"
        else:
            name = "MHA" if core.n_kv_heads == core.n_heads else "MQA" if core.n_kv_heads == 1 else "GQA"
            name += (" chunked" if core.chunked else " window") if core.window else ""
        kinds[name] = kinds.get(name, 0) + count
    return " + ".join(kinds) if len(kinds) == 1 else " + ".join(f"{c}x {n}" for n, c in kinds.items())


def _facts(s: ModelSpec) -> dict[str, Any]:
    weights = weights_bytes(s)
    return {
        "name": s.name, "family": s.family, "source": s.source, "n_params": s.n_params, "n_active_params": s.n_active_params,
        "n_layers": s.n_layers, "hidden_size": s.hidden_size, "vocab_size": s.vocab_size, "max_context": s.max_context,
        "dtype": s.dtype, "kv_format": s.kv_format, "tied_embeddings": s.tied_embeddings,
        "weights_bytes": round(sum(weights.values())), "bits_per_weight": round(8 * sum(weights.values()) / s.n_params, 3),
        "kv_bytes_per_token": s.kv_elements_per_token * get_format(s.kv_format).nbytes,
        "kv_bytes_at_4096_tokens": float(kv_bytes(s, 4096)),
    }


def _layer(x: Any) -> tuple[str, str, str]:
    formats = sorted({f"{y.weight}x{y.act}" for part in (x.mixer, x.ffn) if part for y in part.linears}
                     | ({f"{x.ffn.experts.weight}x{x.ffn.experts.act}"} if x.ffn and x.ffn.experts else set()))
    mixer = "-"
    if x.mixer:
        c = x.mixer.core
        mixer = (f"{c.n_heads} heads, {c.n_kv_heads} KV, dim {c.head_dim}" + (f", window {c.window}" if c.window else "")
                 if isinstance(c, Softmax) else f"{c.cell}, state {c.state_elements}")
    ffn = "-"
    if x.ffn:
        e = x.ffn.experts
        wide = "+".join(str(y.n_in) for y in x.ffn.linears if y.split == "row")
        parts = (f"width {wide}" if wide else "", f"{e.topk} of {e.n_experts} x {e.inter}" if e else "")
        ffn = " & ".join(t for t in parts if t)
    return mixer, ffn or "-", ", ".join(formats)
