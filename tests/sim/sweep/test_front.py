"""The Pareto filter against its definition, and what is said about members."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.sweep.front import distinctions, front, knee

NUMBERS = st.sampled_from([0.0, 1.0, 2.0, 3.0, np.nan, np.inf])
ROWS = st.lists(st.tuples(NUMBERS, NUMBERS, NUMBERS), max_size=25)
WAYS = {"a": "min", "b": "max", "c": "min"}


def beats(p, q):
    signs = (1, -1, 1)
    pairs = [(s * x, s * y) for s, x, y in zip(signs, p, q, strict=True)]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


@given(ROWS)
def test_front_is_what_nothing_beats(rows):
    columns = {k: np.array([r[i] for r in rows]) for i, k in enumerate(WAYS)}
    whole = [i for i, r in enumerate(rows) if not np.isnan(r).any()]
    wanted = {i for i in whole if not any(beats(rows[j], rows[i]) for j in whole)}
    assert set(front(columns, WAYS).tolist()) == wanted


@given(ROWS, st.permutations(range(25)))
def test_the_order_of_points_does_not_matter(rows, order):
    order = [i for i in order if i < len(rows)]
    members = [{tuple(np.array(r)[list(range(3))]) for i, r in enumerate(some) if i in front(
        {k: np.array([x[j] for x in some]) for j, k in enumerate(WAYS)}, WAYS)} for some in (rows, [rows[i] for i in order])]
    assert members[0] == members[1]


def test_best_first_in_the_first_objective():
    columns = {"a": np.array([3.0, 1.0, 2.0, 2.0]), "b": np.array([9.0, 1.0, 5.0, 5.0])}
    assert front(columns, {"a": "min", "b": "max"}).tolist() == [1, 2, 3, 0]


def test_many_points():
    draw = np.random.default_rng(0)
    columns = {k: draw.random(200_000) for k in "ab"}
    found = front(columns, {"a": "min", "b": "min"})
    assert 2 < len(found) < 60


def test_distinctions():
    columns = {"speed": np.array([100.0, 90.0, 10.0]), "joules": np.array([8.0, 2.0, 1.0])}
    said = distinctions(columns, {"speed": "max", "joules": "min"})
    assert said == ["best speed", "knee", "best joules"]
    assert knee(columns, {"speed": "max", "joules": "min"}) == 1


def test_a_step_says_what_it_gains_and_gives():
    columns = {"speed": np.array([100.0, 50.0, 40.0, 1.0]), "joules": np.array([100.0, 50.0, 10.0, 9.0])}
    assert distinctions(columns, {"speed": "max", "joules": "min"})[1] == "-50 % speed, -50 % joules"


@pytest.mark.parametrize("way", ["min", "max"])
def test_one_objective(way):
    assert front({"a": np.array([2.0, 1.0, 2.0])}, {"a": way}).tolist() == ([1] if way == "min" else [0, 2])
