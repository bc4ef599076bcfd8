"""The plain plan of a network: every layer a mixer and a feed-forward block, all on the first engine, all in its memory."""

from __future__ import annotations

from collections.abc import Sequence

from sim.plan.block import Block, Plan
from sim.plan.board import Board
from workloads import graph
from workloads.footprint import activation_bytes, kv_bytes, layer_weights
from workloads.formats import get_format
from workloads.model_spec import Layer, ModelSpec


def plain(spec: ModelSpec, board: Board, *, phase: str, batch: float, q_len: float, kv_len: float, step: int = 0,
          seed: int = 0, framework: str = "") -> Plan:
    """One step of ``batch`` sequences, each with ``q_len`` new tokens and ``kv_len`` of context with them.

    Raises ``ValueError`` for lengths that make no step.
    """
    if not (batch >= 1 and 1 <= q_len <= kv_len):
        raise ValueError(f"step: needs a batch of at least 1 and 1 <= q_len <= kv_len, found batch {batch:g}, q_len {q_len:g}, "
                         f"kv_len {kv_len:g}")
    main = board.main
    blocks = network(spec, main.name, main.home, phase=phase, batch=batch, q_len=q_len, kv_len=kv_len)
    held = ((main.home, "activations", float(activation_bytes(spec, batch * q_len))),
            (main.home, "runtime", float(main.hardware.runtime_bytes[0])))
    return Plan(board=board, spec=spec, phase=phase, batch=batch, q_len=q_len, kv_len=kv_len, blocks=tuple(blocks),
                step=step, seed=seed, framework=framework, held=held)


def network(spec: ModelSpec, engine: str, home: str, *, phase: str, batch: float, q_len: float, kv_len: float,
            prefix: str = "", model: str = "") -> Sequence[Block]:
    """Blocks of one step of a network on one engine, each after the one before. ``prefix`` begins their names."""
    ops = graph.parts(spec, [graph.Sequences(phase=phase, batch=batch, q_len=q_len, kv_len=kv_len)])
    hidden = batch * q_len * spec.hidden_size * get_format(spec.dtype).nbytes
    embed = spec.embed_params * get_format(spec.embed_format).nbytes
    found = [Block(name=f"{prefix}embed", layer=-1, part="embed", ops=ops.embed, engine=engine, weights=((home, embed),),
                   out_bytes=hidden, model=model)]
    cached = [_cache_bytes(spec, i, kv_len, batch) for i in range(len(spec.layers))]
    for depth, kind in enumerate(spec.pattern):
        layer = spec.layers[kind]
        for (part, nbytes), inside in zip(_weights(spec, layer), ops.layers[kind], strict=True):
            if inside:
                found.append(Block(
                    name=f"{prefix}layer {depth} {part}", layer=depth, part=part, ops=inside, engine=engine,
                    after=(found[-1].name,), weights=((home, nbytes),), model=model,
                    cache=((home, cached[kind]),) if part == "mixer" and cached[kind] else (), out_bytes=hidden))
    head = spec.lm_head.n_params * get_format(spec.lm_head.weight).nbytes if spec.lm_head else 0.0
    stored = 0.0 if spec.tied_embeddings else head
    found.append(Block(name=f"{prefix}head", layer=spec.n_layers, part="head", ops=ops.head, engine=engine,
                       after=(found[-1].name,), model=model, out_bytes=batch * 4.0,
                       weights=((home, stored + spec.final_params * get_format(spec.dtype).nbytes),)))
    return found


def _weights(spec: ModelSpec, layer: Layer) -> tuple[tuple[str, float], tuple[str, float]]:
    """Stored bytes of the mixer with the norms, and of the feed-forward part."""
    kinds = layer_weights(spec, layer)
    mixer = kinds.get("attention", 0.0) + kinds.get("other", 0.0)
    return ("mixer", mixer), ("experts" if layer.ffn and layer.ffn.experts else "ffn",
                              kinds.get("mlp", 0.0) + kinds.get("experts", 0.0))


def _cache_bytes(spec: ModelSpec, kind: int, kv_len: float, batch: float) -> float:
    """KV cache and recurrent state of one layer of a kind."""
    alone = spec.model_copy(update={"pattern": (kind,)})
    return float(kv_bytes(alone, kv_len, batch))
