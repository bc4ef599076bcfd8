"""The spread over serving systems: every system weighs the same, and is tested without itself."""

from __future__ import annotations

import numpy as np
import pytest

from validate.fit_serving import WHAT, learn, left_out, system


def test_two_names_of_one_network_are_one_system() -> None:
    assert system("DeepSeek-R1, sglang") == system("DeepSeek-V3, sglang") != system("DeepSeek-V3, trtllm")


def _points(spread: float, n_systems: int = 12, rows: int = 8) -> tuple[np.ndarray, np.ndarray, list[str]]:
    rng = np.random.default_rng(3)
    groups = [f"model{i}, vllm" for i in range(n_systems) for _ in range(rows)]
    shift = np.repeat(spread * rng.standard_normal(n_systems), rows)
    predicted = rng.uniform(0.01, 1.0, len(groups))
    return predicted * np.exp(shift), predicted, groups


def test_an_interval_holds_most_systems_that_it_has_not_seen() -> None:
    measured, predicted, groups = _points(0.4, n_systems=60)
    inside = left_out(measured, predicted, np.array(groups, dtype=object))
    assert 0.7 <= inside.mean() <= 0.9


def test_a_system_alone_of_its_kind_lies_outside() -> None:
    measured, predicted, groups = _points(0.05)
    measured[:8] = 5.0 * predicted[:8]
    inside = left_out(measured, predicted, np.array(groups, dtype=object))
    assert not inside[:8].any()


def test_a_system_with_many_rows_weighs_no_more() -> None:
    measured, predicted, groups = _points(0.3)
    more = learn({w: (np.append(measured, np.repeat(measured[:8], 50)), np.append(predicted, np.repeat(predicted[:8], 50)),
                      groups + [g for g in groups[:8] for _ in range(50)]) for w in WHAT})
    once = learn(dict.fromkeys(WHAT, (measured, predicted, groups)))
    for a, b in zip(once.set, more.set, strict=True):
        assert (a.lo, a.hi) == (b.lo, b.hi)
        assert a.values["systems"] == 12
        assert a.lo["all"] <= 1.0 <= a.hi["all"]
        assert a.values["factor"] == pytest.approx(b.values["factor"])
