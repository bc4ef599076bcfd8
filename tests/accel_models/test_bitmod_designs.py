"""The accelerators of BitMoD's evaluation: cycles and bytes of a product as the authors' simulator counts them.

The rules are written down here a second time, number by number as the simulator has them, to compare the device files and
formulas with; they are not what the formulas call.
"""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.bind import bind
from accel_models.price import price
from accel_models.registry import load_device
from workloads.formats import get_format
from workloads.ops import Gemm

#: Rows (outputs) and columns (tokens) of an array; products of an element, and whether its time depends on the weights.
ARRAYS = {"fp16_baseline": (64, 12, 1, False), "ant": (64, 16, 1, False), "olive": (72, 16, 1, False),
          "bitmod": (64, 16, 4, True)}
FORMATS = {"fp16_baseline": ("fp16",), "ant": ("int4+mix25%int8", "int4+mix37.5%int8"),
           "olive": ("int3+mix75%int4", "int4+mix12.5%int8"),
           "bitmod": ("bitmod_fp3", "bitmod_fp4", "int6_g128_s8", "int8_g128_s8")}
BUFFER = 512 * 1024
BYTES_A_CYCLE = 32
CLOCK = 1e9


def by_hand(device: str, m: int, n: int, k: int, weights: str) -> tuple[int, float]:
    """(cycles of the array, cycles of the bus)."""
    rows, cols, products, serial = ARRAYS[device]
    bits = get_format(weights).bits
    latency = math.ceil(math.floor(bits) / 2) if serial else 1
    compute = math.ceil(k / products) * math.ceil(n / rows) * math.ceil(m / cols) * latency
    w, a, out = n * k * bits / 8, 2 * m * k, 2 * m * n
    times_w = times_a = 1
    if w > BUFFER and a > BUFFER:
        again_a, again_w = math.ceil(w / BUFFER), math.ceil(a / BUFFER)
        if again_w * w + a < again_a * a + w:
            times_w = again_w
        else:
            times_a = again_a
    return compute, (w * times_w + a * times_a + out) / BYTES_A_CYCLE


def seconds(device: str, m: int, n: int, k: int, weights: str) -> float:
    op = Gemm(name="p", m=m, n=n, k=k, a="fp16", w=weights, out="fp16")
    return float(np.ravel(price([op], bind([load_device(device)]))[0].cost.time)[0])


@pytest.mark.parametrize(("device", "weights"), [(d, w) for d, formats in FORMATS.items() for w in formats])
@given(st.integers(1, 600), st.integers(1, 20000), st.integers(1, 100).map(lambda groups: 128 * groups))
@settings(max_examples=40, deadline=None)
def test_a_product_takes_the_cycles_of_the_authors_rules(device: str, weights: str, m: int, n: int, k: int) -> None:
    """Up to the edges in which a contract's last results leave: 1 of the multiplier, 10 of the term-serial element."""
    expected = max(by_hand(device, m, n, k, weights)) / CLOCK
    assert expected <= seconds(device, m, n, k, weights) * (1 + 1e-12) <= (expected + 10 / CLOCK) * (1 + 1e-9)


@pytest.mark.parametrize(("weights", "edges"), [("bitmod_fp3", 2), ("bitmod_fp4", 2), ("int6_g128_s8", 3), ("int8_g128_s8", 4)])
def test_terms_of_a_weight(weights: str, edges: int) -> None:
    """1024 elements, four products each: a product that fills the array, whose bytes take less."""
    m, n, k = 16 * 64, 64 * 16, 4096
    assert seconds("bitmod", m, n, k, weights) * CLOCK == pytest.approx(m * n * k / 1024 / 4 * edges, rel=1e-4)


@pytest.mark.parametrize("weights", ["fp16", "fp8", "fp6", "nf4", "mxfp8"])
def test_what_is_no_type_of_the_element_is_left_to_the_vector_engine(weights: str) -> None:
    m, n, k = 256, 4096, 4096
    vector = load_device("bitmod").get("engine.vector.rate.fp16")
    assert seconds("bitmod", m, n, k, weights) == pytest.approx(2.0 * m * n * k / vector)


def test_folding_the_array_for_prompts_changes_no_cycles() -> None:
    """The device files hold the authors' fold for one token; with that for prompts, half the rows and twice the columns,
    every product of Llama-2-7B takes as many cycles."""
    for device, (rows, cols, *_) in ARRAYS.items():
        folded = load_device(device).with_value("engine.matrix.figure.rows", rows // 2)
        folded = folded.with_value("engine.matrix.figure.cols", cols * 2)
        for n, k in ((4096, 4096), (11008, 4096), (4096, 11008), (32000, 4096)):
            op = Gemm(name="p", m=256, n=n, k=k, a="fp16", w=FORMATS[device][0], out="fp16")
            asked = price([op], bind([load_device(device), folded]))[0].cost
            one, other = np.ravel(asked.compute)
            # 4096 outputs are 56.9 rows of OliVe's 72, 113.8 of 36
            assert one == pytest.approx(other, rel=0.02 if device == "olive" else 1e-9)


def test_areas_are_about_equal() -> None:
    """Elements times their area as published, in the text of the files: within 2 % of the baseline but for ANT's, smaller."""
    area = {"fp16_baseline": 1968.7, "ant": 1318.6, "olive": 1318.6, "bitmod": 1507.7}
    whole = {d: ARRAYS[d][0] * ARRAYS[d][1] * a / 1e6 for d, a in area.items()}
    for device, mm2 in whole.items():
        assert f"{area[device]} um^2" in load_device(device).notes
        assert f"{mm2:.2f}" in load_device(device).notes
        assert mm2 == pytest.approx(whole["fp16_baseline"], rel=0.12 if device == "ant" else 0.025)


def test_an_array_draws_for_all_its_elements() -> None:
    """One token keeps one column of twelve or sixteen busy: the others draw as well, as the source counts."""
    for device, (rows, cols, products, _) in ARRAYS.items():
        one = load_device(device)
        more = one.with_value("engine.matrix.figure.element_j", 2 * one.get("engine.matrix.figure.element_j"))
        op = Gemm(name="p", m=1, n=4608, k=4096, a="fp16", w="int4", out="fp16")
        once, twice = (float(np.ravel(price([op], bind([d]))[0].energy)[0]) for d in (one, more))
        cycles = 4608 / rows * 4096 / products * (2 if products == 4 else 1)
        elements = one.get("engine.matrix.figure.element_j") * rows * cols
        assert twice - once == pytest.approx(cycles * elements, rel=0.02), device
