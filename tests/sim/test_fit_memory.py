"""Memory alone: what fits, the smallest change that would, the longest context, the fewest ranks."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

from sim.cli import main
from sim.fit_memory import budget, fits, largest_context, smallest_change, smallest_tp
from sim.query import Query, resolve

GIB = 2**30
SMALL = Query(model="llama-3.1-8b", hw="t4")                      # 15 GiB of weights on 16 GB


def test_budget_by_hand() -> None:
    m = budget(resolve(Query(model="llama-3.1-8b", hw="h200_sxm", batch=64, isl=2048, osl=512)))
    assert round(float(m["weights"]) / GIB, 2) == 14.96
    assert float(m["kv"]) == 20 * GIB
    assert float(m["budget"]) == pytest.approx(0.9 * 141 * GIB)
    assert float(m["max_concurrency"]) == 358
    assert bool(m["fits"])


@pytest.mark.parametrize(("query", "change"), [
    (Query(model="llama-3.1-8b", hw="h200_sxm", batch=5000, isl=2048, osl=512), "--bs 358"),
    (Query(model="llama-3.1-70b", hw="h100_sxm"), "--quant fp8 or --tp 2"),
    (Query(model="llama-3.1-70b", hw="rtx_4090"), "--quant w2a16"),
    (SMALL, "--quant fp8"),
    (Query(model="llama-3.1-8b", hw="h200_sxm", isl=130_000, osl=1000, batch=30), "--bs"),
])
def test_each_suggested_change_fits_and_no_smaller_one_does(query: Query, change: str) -> None:
    assert not fits(query)
    text = smallest_change(resolve(query))
    assert change in text
    found = re.findall(r"--(bs|quant|tp|isl) (\S+)", text)
    assert found
    for name, value in found:
        assert fits(query.changed({name: value})), (name, value)
        if name == "bs":
            assert not fits(query.changed({name: str(int(value) + 1)}))
        if name == "tp":
            assert not fits(query.changed({name: str(int(value) // 2)}))


def test_when_nothing_helps_it_says_so() -> None:
    hopeless = Query(model="llama-3.1-405b", hw="h200_sxm", sets=(("memory.main.capacity", "1MB"),))
    assert smallest_change(resolve(hopeless)).endswith("no batch, split or format tried here would fit")


def test_how_much_is_missing() -> None:
    m = budget(resolve(SMALL))
    short = (float(m["weights"]) + float(m["kv"]) - float(m["budget"])) / GIB
    assert short > 0
    assert smallest_change(resolve(SMALL)).startswith(f"weights and KV exceed their share by {short:.1f} GiB; ")


def test_a_split_that_cannot_be_does_not_fit() -> None:
    assert not fits(Query(model="llama-3.1-8b", hw="h200_sxm", tp=3))


@pytest.mark.parametrize(("query", "most"), [
    (Query(model="llama-3.1-8b", hw="h200_sxm"), 131072 - 128),
    (Query(model="llama-3.1-8b", hw="rtx_4090"), None),
    (Query(model="gpt2", hw="t4", isl=64), 1024 - 128),
    (Query(model="bert-large-uncased", hw="t4", isl=64), 512),      # an encoder writes nothing
    (Query(model="llama-3.1-70b", hw="t4"), 0),
])
def test_the_longest_prompt_fits_and_one_more_token_does_not(query: Query, most: int | None) -> None:
    got = largest_context(resolve(query))
    assert most in (None, got)
    if got:
        assert fits(replace(query, isl=got))
    assert not fits(replace(query, isl=got + 1))


@pytest.mark.parametrize(("model", "hw", "tp"), [("llama-3.1-8b", "h200_sxm", 1), ("llama-3.1-70b", "h100_sxm", 2),
                                                 ("llama-3.1-70b", "a100_sxm4_40gb", 4), ("llama-3.1-405b", "h200_sxm", 8),
                                                 ("Kimi-K2-Instruct", "t4", 0)])
def test_the_fewest_ranks(model: str, hw: str, tp: int) -> None:
    query = Query(model=model, hw=hw)
    assert smallest_tp(resolve(query)) == tp
    if tp > 1:
        assert fits(replace(query, tp=tp))
        assert not fits(replace(query, tp=tp // 2))


def test_an_unknown_capacity_is_named() -> None:
    with pytest.raises(ValueError, match=r"nvme_pcie4: memory.flash.capacity: not known; set it"):
        budget(resolve(Query(model="llama-3.1-8b", hw="nvme_pcie4")))


def test_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["fit", "-m", "llama-3.1-8b", "--hw", "h200_sxm,t4", "--format", "csv"])
    out, err = capsys.readouterr()
    assert stop.value.code == 1
    head, big, small = (line.split(",") for line in out.splitlines())
    assert head[:3] == ["device", "fits", "weights_gib"]
    assert big[:3] == ["h200_sxm", "yes", "14.958"]
    assert small[:2] == ["t4", "NO"]
    assert big[head.index("kv_kib_per_token")] == "128.0"
    assert err.startswith("does not fit: t4: weights and KV exceed their share by")
    assert err.count("\n") == 1
