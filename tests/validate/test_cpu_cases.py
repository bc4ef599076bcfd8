"""Published CPU systems: which claims the mechanism gives, and that it is the mechanism that gives them."""

from __future__ import annotations

import pytest

from validate.case import load
from validate.case_outcome import evaluate
from validate.case_verdict import Summary, run

ONE_CORE = {"hw": "apple_m2_ultra.cpu", "set": {"engine.matrix.units": 1}}


@pytest.fixture(scope="module")
def table_lookup() -> Summary:
    return run(load("t_mac"))


def test_the_case_is_explained_and_not_by_width(table_lookup: Summary) -> None:
    assert table_lookup.verdict == "explained"
    assert table_lookup.by_width <= 3


def test_ratios_on_devices_that_nothing_was_fitted_to_are_within_a_third(table_lookup: Summary) -> None:
    held = [r for r in table_lookup.results if "held back" in r.label]
    assert len(held) == 12
    assert all(0.67 < r.value / r.claimed[0] < 1.5 for r in held)


def test_the_gain_is_that_of_the_kernel_not_of_the_format() -> None:
    """The same 2-bit weights through unpacking lose what look-up gains."""
    case = load("t_mac")
    looked_up, unpacked = (evaluate(case.resolve("tmac_w2", ONE_CORE | {"framework": f}), "tokens_per_s").value
                           for f in ("tmac", "llama.cpp"))
    assert looked_up > 1.5 * unpacked


def test_ternary_weights_gain_more_on_the_larger_model() -> None:
    case = load("tequila")
    gains = [evaluate(case.resolve("ternary", {"model": m}), "tokens_per_s").value
             / evaluate(case.resolve("bf16", {"model": m}), "tokens_per_s").value
             for m in ("1bitLLM/bitnet_b1_58-large", "1bitLLM/bitnet_b1_58-3B")]
    assert 2.5 < gains[0] < gains[1] < 7.6      # 7.6: the ratio of the bytes, the 16-bit head included
