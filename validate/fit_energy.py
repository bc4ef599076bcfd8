"""Fit energies to measured board power: ``python -m validate.fit_energy --data DIR``.

Rows with ``power_w`` (mean over the timed loop) exist for one device, bf16 products and attention. Power there is
given the measured time, so that no error of a time model leaks into the joules. Other devices borrow, scaled by their
power limit (``accel_models.cost.energy.transfer``): "transferred", never checked.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import bind
from accel_models.cost.energy import Energy, energy
from accel_models.cost.terms import Array
from accel_models.fitted_store import FittedFile, ParameterSet
from accel_models.registry import load_device
from validate import fit_attention
from validate.fit import Parameter, fit, interval, mape
from validate.measured import Table, data_dir, held_out, read
from validate.study import DATE, OUT

#: Bounds: HBM 3.9 to 7 pJ/bit (31 to 56 pJ/B) plus the way through the chip; 45 nm fp16 multiply-add 1.5 pJ (Horowitz,
#: ISSCC 2014), a tenth of it per FLOP at 4 nm, data movement included several times that; static from idle upwards.
PARAMETERS = (Parameter("j_per_op", 6e-13, 1e-13, 3e-12), Parameter("j_per_byte", 6e-11, 3.1e-11, 1.2e-10),
              Parameter("j_per_byte_cache", 1e-11, 1e-12, 6e-11), Parameter("static_share", 0.18, 0.1, 0.35))
#: Attention: exponentials and half-empty tiles are paid per useful operation, so both energies may be higher.
ATTENTION_PARAMETERS = (Parameter("j_per_op", 1e-12, 1e-13, 2e-11), Parameter("j_per_byte", 8e-11, 3.1e-11, 3e-10),
                        Parameter("j_per_byte_cache", 3e-11, 1e-12, 3e-10))
#: A board's meter averages over tens of milliseconds: around calls below 30 us it also sees what ran before.
SHORT, SHORT_WEIGHT = 30e-6, 0.3
SHARE_IN_DRAM = {"cold": 1.0, "mixed": 0.5, "warm": 0.0, "unknown": 0.5}


class Rows(NamedTuple):
    """Work and power of measured rows of one device."""

    time: Array
    flops: Array
    dram: Array
    cache: Array
    power: Array
    held: NDArray[np.bool_]
    kind: NDArray[np.str_]


def rows(directory: Path, device: str) -> Rows:
    """Every row of ``device`` that has a power figure."""
    g = read("gemm", directory)
    g = g.where(np.isfinite(g["power_w"]) & (g["device"] == device) & (g["dtype_a"] == "bf16"))
    a = fit_attention.table(directory)
    a = a.where(np.isfinite(a["power_w"]) & (a["device"] == device))
    parts = [_gemm(g)] + [_attention(part) for _, part in a.groups("variant")]
    joined: list[Any] = [np.concatenate(c) for c in zip(*parts, strict=True)]
    return Rows(*joined)


def _gemm(t: Table) -> Rows:
    m, n, k, batch = (t[c] for c in ("m", "n", "k", "batch"))
    weights, acts = 2.0 * n * k * batch, 2.0 * (m * k + m * n) * batch
    cold = np.array([SHARE_IN_DRAM[str(c)] for c in t["cache"]])
    return Rows(t["time_s"], 2.0 * m * n * k * batch, weights * cold, weights * (1.0 - cold) + acts, t["power_w"],
                held_out(t, ("n", "k")), np.full(len(t), "gemm"))


def _attention(t: Table) -> Rows:
    cost = fit_attention.bind(t)({})
    l2 = bind([load_device(str(t["device"][0]))]).l2_capacity[0]
    cold = (cost.nbytes > l2).astype(np.float64)
    phase = np.array([str(p) for p in t["phase"]])
    return Rows(t["time_s"], cost.flops, cost.nbytes * cold, cost.nbytes * (1.0 - cold), t["power_w"],
                held_out(t, ("family",)), phase)


def predict(r: Rows, values: dict[str, float], tdp: float) -> Energy:
    return energy(r.time, r.flops, r.dram, r.cache, j_per_op=values["j_per_op"], j_per_byte=values["j_per_byte"],
                  j_per_byte_cache=values["j_per_byte_cache"], idle_power=values["static_share"] * tdp, tdp=tdp)


def fit_device(directory: Path, device: str = "h200_sxm") -> tuple[list[ParameterSet], list[dict[str, object]], str]:
    """Sets of one device (products, then attention on the same static power), errors, digest of the rows."""
    r = rows(directory, device)
    products = r.kind == "gemm"
    first, scores = _fit(r, products, device, "bf16", PARAMETERS, {})
    static = {"static_share": first.values["static_share"]}
    second, more = _fit(r, ~products, device, "attention_bf16", ATTENTION_PARAMETERS, static)
    digest = Table("energy", {k: np.asarray(v) for k, v in r._asdict().items()}).digest()
    return [first, second], scores + more, digest


def _fit(r: Rows, mask: NDArray[np.bool_], device: str, variant: str, parameters: tuple[Parameter, ...],
         given: dict[str, float]) -> tuple[ParameterSet, list[dict[str, object]]]:
    hw = bind([load_device(device)])
    tdp = float(hw.tdp[0])
    train, test = _where(r, mask & ~r.held), _where(r, mask & r.held)
    weight = np.where(train.time < SHORT, SHORT_WEIGHT, 1.0)
    found = fit(lambda v: predict(train, {**given, **v}, tdp).power, train.power, parameters, weight=weight)
    if found.undetermined:
        raise ValueError(f"energy: the rows do not determine {', '.join(found.undetermined)}; nothing written")
    values = {**given, **found.values, "tdp_per_op": tdp / float(hw.rates(["bf16"])[0]),
              "tdp_per_byte": tdp / float(hw.dram_bandwidth[0])}
    power = predict(test, values, tdp).power
    log = np.log(test.power / power)
    classes = {"all": log, "short": log[test.time < SHORT], "long": log[test.time >= SHORT]}
    bounds = {k: interval(v) for k, v in classes.items()}
    scores = [_score(device, variant, k, power[m], test.power[m]) for k, m in (
        ("all", test.time > 0), ("below 30 us", test.time < SHORT), ("30 us and more", test.time >= SHORT))]
    return ParameterSet(variant=variant, device=device, generation=hw.identity[0][1],
                        values={k: _round(v) for k, v in values.items()},
                        stderr={k: _round(v, 2) for k, v in found.stderr.items()}, n_rows=len(train.time),
                        mape=_round(mape(power, test.power)), lo={k: _round(b[0]) for k, b in bounds.items()},
                        hi={k: _round(b[1]) for k, b in bounds.items()},
                        range={"power_w": (float(r.power[mask].min()), float(r.power[mask].max()))}), scores


def _where(r: Rows, mask: NDArray[np.bool_]) -> Rows:
    kept: list[Any] = [c[mask] for c in r]
    return Rows(*kept)


def _score(device: str, variant: str, kind: str, power: Array, measured: Array) -> dict[str, object]:
    off = power / measured - 1.0
    return {"op": "energy", "device": device, "variant": variant, "regime": kind, "split": "held-back shapes",
            "n": len(off), "mape": _round(float(np.mean(np.abs(off)))),
            "median": _round(float(np.median(np.abs(off)))), "bias": _round(float(np.median(off)))}


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


def write(made: list[ParameterSet], digest: str, path: Path) -> None:
    """The device's sets, and the same values as its generation's and everybody's pool, for transfer."""
    pools = [{"device": "", "generation": ""}, {"device": ""}, {}]
    file = FittedFile(op="energy", formula="accel_models.cost.energy.energy", data_sha256=digest, date=DATE,
                      source="aiconfigurator 095f58a51c4c: mean board power of bf16 products and attention, H200",
                      set=tuple(m.model_copy(update=p) for m in made for p in pools))
    lines = [f'{k} = "{getattr(file, k)}"' for k in ("op", "formula", "source", "data_sha256", "date")]
    for s in file.set:
        lines += ["", "[[set]]"]
        lines += [f'{k} = "{getattr(s, k)}"' for k in ("variant", "device", "generation", "framework")]
        lines += [f"n_rows = {s.n_rows}", f"mape = {s.mape!r}"]
        for name in ("values", "stderr", "lo", "hi", "range"):
            cells = ((k, list(v) if isinstance(v, tuple) else v) for k, v in getattr(s, name).items())
            lines.append(f"{name} = {{ " + ", ".join(f"{k} = {v!r}" for k, v in cells) + " }")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default=None, help="directory of the measured tables")
    parser.add_argument("--out", type=Path, default=OUT / "energy.toml", help="file to write")
    options = parser.parse_args()
    made, scores, digest = fit_device(data_dir(options.data))
    write(made, digest, options.out)
    for s in scores:
        print(s)
    for m in made:
        print(m.variant, m.values, m.stderr)


if __name__ == "__main__":
    main()
