import math
import warnings

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accel_models.quantity import UNITS, HalvedWarning, echo, format_quantity, parse, parse_noted

TABLE = [
    # the traps that general unit libraries fall into
    ("141 GiB", "bytes", 151_397_597_184.0), ("400 Gb/s", "bytes/s", 5e10), ("989 TFLOP/s", "ops/s", 9.89e14),
    ("6.4 GT/s", "transfers/s", 6.4e9), ("5k", "count", 5000.0), ("5k", "tokens", 5000.0), ("1.2mm^2", "m2", 1.2e-6),
    # one row per dimension and spelling
    ("80 GB", "bytes", 8e10), ("80GiB", "bytes", 80 * 2.0**30), ("228 KiB", "bytes", 233_472.0),
    ("64 Mb", "bytes", 8e6),
    ("3.35 TB/s", "bytes/s", 3.35e12), ("3350 GB/s", "bytes/s", 3.35e12), ("100 Gbps", "bytes/s", 1.25e10),
    ("1 GiB/s", "bytes/s", 2.0**30), ("450 GB/s per direction", "bytes/s", 4.5e11),
    ("1979 TOP/s", "ops/s", 1.979e15), ("1 PFLOPS", "ops/s", 1e15), ("312 TFLOPS dense", "ops/s", 3.12e14),
    ("2.5 us", "s", 2.5e-6), ("2.5 µs", "s", 2.5e-6), ("30ms", "s", 0.03), ("1 h", "s", 3600.0),
    ("404 ns", "s", 404e-9),
    ("1.98 GHz", "Hz", 1.98e9), ("1830 MHz", "Hz", 1.83e9), ("3 mJ", "J", 0.003), ("1 kWh", "J", 3.6e6),
    ("0.5 pJ/op", "J/op", 0.5e-12), ("1 pJ/MAC", "J/op", 0.5e-12), ("3.9 pJ/bit", "J/B", 31.2e-12),
    ("31.2 pJ/B", "J/B", 31.2e-12),
    ("700 W", "W", 700.0), ("120 kW", "W", 120e3), ("40 mW", "W", 0.04), ("814 mm2", "m2", 814e-6),
    ("1300 um^2", "m2", 1.3e-9),
    ("30k USD", "USD", 30000.0), ("30000 $", "USD", 30000.0), ("2.29 USD/h", "USD/h", 2.29),
    ("2.29 $/hr", "USD/h", 2.29),
    ("1.3M", "count", 1.3e6), ("4Ki", "tokens", 4096.0), ("8k tokens", "tokens", 8000.0), ("80 %", "ratio", 0.8),
    ("1,024", "count", 1024.0), (".5", "ratio", 0.5),
    (700, "W", 700.0), (3.35e12, "bytes/s", 3.35e12), ("25e9", "bytes/s", 25e9),
]


@pytest.mark.parametrize(("text", "dimension", "value"), TABLE)
def test_reads_what_people_write(text: str | float, dimension: str, value: float) -> None:
    assert parse(text, dimension) == pytest.approx(value, rel=1e-12)


@pytest.mark.parametrize(("text", "dimension", "value", "said"), [
    ("900 GB/s bidir", "bytes/s", 4.5e11, "per direction"),
    ("900 GB/s bidirectional", "bytes/s", 4.5e11, "per direction"),
    ("1979 TFLOPS sparse", "ops/s", 9.895e14, "dense"),
    ("1979 TFLOP/s with sparsity", "ops/s", 9.895e14, "dense"),
])
def test_halves_aloud(text: str, dimension: str, value: float, said: str) -> None:
    found, note = parse_noted(text, dimension)
    assert found == pytest.approx(value)
    assert said in note
    with pytest.warns(HalvedWarning, match="halved"):
        assert parse(text, dimension) == found


def test_says_nothing_when_nothing_was_changed() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert parse_noted("450 GB/s", "bytes/s").note == ""
        parse("989 TFLOP/s", "ops/s")


@pytest.mark.parametrize(("text", "dimension", "why"), [
    ("nan", "W", "not a number"), ("-5 W", "W", "negative"), ("inf", "W", "not a number"),
    ("1e999 W", "W", "not finite"),
    (float("nan"), "W", "not finite"), (math.inf, "bytes", "not finite"), (-1, "bytes", "negative"),
    (True, "count", "not a number"),
    ("700 W", "bytes", "'W' is a unit of W"), ("80 GB", "bytes/s", "'GB' is a unit of bytes"),
    ("3.35 TB/s", "bytes", "is a unit of bytes/s"), ("80 gb", "bytes", "unknown unit 'gb' (did you mean"),
    ("6.4 GT/s", "bytes/s", "is a unit of transfers/s"), ("1979 TFLOPS sparse", "W", "unknown unit"),
    ("450 GB/s sparse", "bytes/s", "unknown unit"), ("", "W", "not a number"), ("fast", "Hz", "not a number"),
    ("1.2.3 W", "W", "unknown unit"), (None, "W", "not a number"),
])
def test_refuses_in_one_line(text: object, dimension: str, why: str) -> None:
    with pytest.raises(ValueError, match="expected") as error:
        parse(text, dimension, where="x.toml: power.tdp")  # type: ignore[arg-type]
    message = str(error.value)
    assert why in message
    assert message.startswith("x.toml: power.tdp: ")
    assert "\n" not in message


@given(st.sampled_from(sorted(UNITS)), st.floats(1e-15, 1e18))
def test_round_trip(dimension: str, value: float) -> None:
    assert parse(format_quantity(value, dimension), dimension) == pytest.approx(value, rel=1e-5)


@given(st.integers(1, 2**44))
def test_round_trip_of_capacities(value: int) -> None:
    assert parse(format_quantity(value * 2**20, "bytes"), "bytes") == pytest.approx(value * 2**20, rel=1e-5)


def test_every_unit_belongs_to_its_own_dimension_only() -> None:
    # Bare suffixes (k, M, ...) count things; anything else must not be readable in two dimensions.
    seen: dict[str, str] = {}
    for dimension, units in UNITS.items():
        for unit in units:
            if unit and dimension not in ("count", "tokens", "USD"):
                assert unit not in seen, (unit, seen.get(unit), dimension)
                seen[unit] = dimension


@pytest.mark.parametrize(("value", "dimension", "text"), [
    (5e10, "bytes/s", "50 GB/s"), (151_397_597_184, "bytes", "141 GiB"), (8e10, "bytes", "80 GB (74.51 GiB)"),
    (814e-6, "m2", "814 mm^2"), (2.43e-6, "s", "2.43 us"), (9.89e14, "ops/s", "989 TOP/s"), (132, "count", "132"),
])
def test_echo(value: float, dimension: str, text: str) -> None:
    assert echo(value, dimension) == text
