"""Fit the NPU's products to measured times: ``python -m validate.fit_npu``.

Six weight shapes on one phone, in int8 and fp16 through the vendor's graph runtime (``validate/measured/npu_matmul.csv``):
the largest n of either k is held back. Two constants are fitted, the fixed time of a call and the time of one weight on its
way into the arrays' layout; sizes of arrays, rates and bandwidth are the device file's. In fp16 no row is short enough to
show the fixed time: that of int8 is taken. m x k is the same in all rows, so they say nothing about how time goes with m.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accel_models.bind import bind
from accel_models.cost.systolic import systolic
from accel_models.cost.terms import Array
from accel_models.families.systolic import figures
from accel_models.fitted_store import FittedFile, ParameterSet
from accel_models.registry import load_device
from validate.fit import Fit, Parameter, fit, interval, mape
from validate.fitted_text import fitted_text
from validate.measured import Table, read
from validate.rows import SAMPLE
from validate.study import DATE, OUT
from workloads.graph import build, prefill
from workloads.ops import Gemm
from workloads.registry import load_model

DEVICE, ENGINE = "snapdragon_8_gen_3", "matrix"
SOURCE = "llm.npu (arXiv:2407.05858), Table 3: products on the NPU of a Redmi K70 Pro"
#: A runtime's call takes some tenths of a millisecond; a weight between one lane of wide vectors and a slow scalar loop.
OVERHEAD = Parameter("overhead", 5e-4, 1e-5, 5e-3)
PREPARE = Parameter("prepare_time", 1e-10, 1e-12, 1e-6)
Values = Mapping[str, float]


class Study(NamedTuple):
    """One class of rows: the constants, their errors, and how far each row is from a fit that did not see it."""

    variant: str
    values: dict[str, float]
    stderr: dict[str, float]
    fitted: float                     # mean error on the rows of the fit
    held: float                       # on the two rows held back
    others: float                     # on the rows of one k by constants of the other k
    left_out: Array                   # ln(measured / predicted), each row left out in turn


def rows(component: str, fmt: str) -> Table:
    t = read("npu_matmul", SAMPLE)
    return t.where((t["component"] == component) & (t["dtype_a"] == fmt))


def predict(t: Table, values: Values) -> Array:
    """Times of the rows on the NPU. [s]"""
    hw = bind([load_device(f"{DEVICE}.{ENGINE}")])
    fmt = str(t["dtype_a"][0])
    nbytes = 1.0 if fmt == "int8" else 2.0
    formula: Any = systolic
    time: Array = formula(t["m"], t["n"], t["k"], bytes_a=nbytes, bytes_w=nbytes, bytes_out=nbytes, peak=hw.rates([fmt])[0],
                          **{k: v[0] for k, v in figures(hw).items()}, **values).time
    return time


def constants(t: Table, parameters: tuple[Parameter, ...], given: Values) -> Fit:
    """Fitted values beside those given."""
    return fit(lambda v: predict(t, {**given, **v}), t["time_s"], parameters)


def study(fmt: str, parameters: tuple[Parameter, ...], given: Values) -> Study:
    t = rows("npu", fmt)
    held: NDArray[np.bool_] = t["n"] == t["n"].max()
    train, test = t.where(~held), t.where(held)
    found = constants(train, parameters, given)
    if found.undetermined:
        raise ValueError(f"npu: the rows do not determine {', '.join(found.undetermined)}; nothing written")
    values = {**given, **found.values}

    def unseen(group: NDArray[np.bool_]) -> Array:
        return predict(t.where(group), {**given, **constants(t.where(~group), parameters, given).values})

    left_out = np.array([np.log(t["time_s"][i] / unseen(np.arange(len(t)) == i)[0]) for i in range(len(t))])
    across = [mape(unseen(t["k"] == k), t.where(t["k"] == k)["time_s"]) for k in np.unique(t["k"])]
    return Study(fmt, values, found.stderr, mape(predict(train, values), train["time_s"]),
                 mape(predict(test, values), test["time_s"]), float(np.mean(across)), left_out)


def studies() -> tuple[Study, ...]:
    whole = study("int8", (OVERHEAD, PREPARE), {})
    return whole, study("fp16", (PREPARE,), {"overhead": whole.values["overhead"]})


def sets(made: tuple[Study, ...]) -> tuple[ParameterSet, ...]:
    """The device's own sets, and the same values for its generation, for transfer."""
    out = []
    for s in made:
        t = rows("npu", s.variant)
        lo, hi = interval(s.left_out)
        own = ParameterSet(variant=s.variant, device=DEVICE, generation=load_device(DEVICE).generation, framework="qnn",
                           values={k: _round(v) for k, v in s.values.items()}, n_rows=len(t) - 2, mape=_round(s.held),
                           stderr={k: _round(v, 2) for k, v in s.stderr.items()}, lo={"all": _round(lo)},
                           hi={"all": _round(hi)}, range={k: (float(t[k].min()), float(t[k].max())) for k in ("m", "n", "k")})
        out += [own, own.model_copy(update={"device": ""})]
    return tuple(out)


def _round(value: float, digits: int = 4) -> float:
    return float(f"{value:.{digits}g}")


# -- checks: published figures that no fit has seen ----------------------------------------------------------------------

#: Activations of the NPU lie in groups of 8 x 8 positions (layout nhwc-8h8w32c of TVM's Hexagon backend), and a narrower
#: picture is padded to whole groups. Measured: 32 x 32 x C runs 1.62 times as fast as 1024 x 1 x C (llm.npu).
GROUP, MEASURED_SHAPE_GAIN = 8, 1.62
#: Products of one layer of Llama-2-7B (n, k, count), its layers, and the measured prefill of 512 tokens with 4-bit weights on
#: the NPU of a OnePlus 12 (PowerInfer-2, arXiv:2406.06282). [token/s]
LLAMA = ((4096, 4096, 4), (11008, 4096, 2), (4096, 11008, 1))
LAYERS, PROMPT, MEASURED_PREFILL = 32, 512, 770.0


def stored_rows(height: int, width: int) -> int:
    """Rows of a product whose activations are a height x width picture, as the unit stores them."""
    return -(-height // GROUP) * GROUP * (-(-width // GROUP) * GROUP)


def shape_gain(values: Values, n: float, k: float) -> float:
    """Modelled time of 1024 x 1 over that of 32 x 32 positions, int8."""
    t = rows("npu", "int8")
    columns = {"m": np.array([stored_rows(1024, 1), stored_rows(32, 32)]), "n": np.array([n, n]), "k": np.array([k, k]),
               "dtype_a": t["dtype_a"][:2]}
    slow, fast = predict(Table("shapes", columns), values)
    return float(slow / fast)


def prefill_bound() -> float:
    """Tokens per second of the products alone, weights ready in the unit's layout, fp16 arithmetic. [token/s]"""
    hw = bind([load_device(f"{DEVICE}.{ENGINE}")])
    formula: Any = systolic
    n, k, count = (np.array(x, dtype=np.float64) for x in zip(*LLAMA, strict=True))
    time: Array = formula(PROMPT, n, k, bytes_a=2.0, bytes_w=0.5, bytes_out=2.0, peak=hw.rates(["fp16"])[0],
                          **{key: v[0] for key, v in figures(hw).items()}).time
    return PROMPT / (LAYERS * float(np.sum(count * time)))


#: Whole prefills of llm.npu on the same phone: prompts of 1451 to 1672 tokens in chunks of 256, that is 6 or 7. [s]
CHUNK, CHUNKS = 256, (6, 7)
MEASURED_PREFILLS = {"qwen1.5-1.8b": 1.49, "phi-2": 2.79, "llama-2-7b-hf": 4.62}


def prefill_share(model: str, values: Values, chunks: int) -> float:
    """Share of a measured prefill that the model's int8 products alone are modelled to take; no fitted row has 256 rows."""
    ops = [op for op in build(load_model(model), [prefill(1, CHUNK)]).ops if isinstance(op, Gemm) and op.name != "lm_head"]
    columns = {c: np.array([float(getattr(op, c)) for op in ops]) for c in ("m", "n", "k", "repeat")}
    times = predict(Table("layers", columns | {"dtype_a": np.array(["int8"] * len(ops), dtype=object)}), values)
    return float(chunks * np.sum(columns["repeat"] * times) / MEASURED_PREFILLS[model])


def gpu_line() -> tuple[float, float, float]:
    """The phone's GPU in fp16 in the same rows as a fixed time and a time per weight: both, and the error on the largest n,
    held back. [s, s, -]"""
    t = rows("gpu", "fp16")
    held = t["n"] == t["n"].max()

    def line(x: Table, v: Values) -> Array:
        time: Array = v["overhead"] + x["n"] * x["k"] * v["prepare_time"]
        return time

    train, test = t.where(~held), t.where(held)
    found = fit(lambda v: line(train, v), train["time_s"], (OVERHEAD, PREPARE)).values
    return found["overhead"], found["prepare_time"], mape(line(test, found), test["time_s"])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=Path, default=OUT / "systolic.toml", help="file to write")
    made = studies()
    file = FittedFile(op="systolic", formula="accel_models.cost.systolic.systolic", source=SOURCE, date=DATE,
                      data_sha256=read("npu_matmul", SAMPLE).digest(), set=sets(made))
    parser.parse_args().out.write_text(fitted_text(file), encoding="utf-8")
    for s in made:
        print(f"{s.variant:5} fitted {s.fitted:6.1%}  largest n held back {s.held:6.1%}  by the other k {s.others:6.1%}  "
              f"each row left out {np.exp(s.left_out) - 1}  {s.values}")
    gains = [shape_gain(made[0].values, n, 2048.0) for n in (2048.0, 5504.0)]
    print(f"32 x 32 over 1024 x 1: modelled {gains[0]:.2f} to {gains[1]:.2f}, measured {MEASURED_SHAPE_GAIN}")
    for model in MEASURED_PREFILLS:
        shares = " to ".join(f"{prefill_share(model, made[0].values, n):.0%}" for n in CHUNKS)
        print(f"{model}: products {shares} of the measured prefill")
    print(f"prefill bound {prefill_bound():.0f} token/s, measured {MEASURED_PREFILL:.0f}")
    print("gpu fp16: fixed {:.2e} s, per weight {:.2e} s, held back {:.1%}".format(*gpu_line()))


if __name__ == "__main__":
    main()
