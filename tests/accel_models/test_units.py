"""Engine kinds made of units: every kind names real parameters, and its rate is that of the unit's own contract."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from accel_models.registry import list_devices, load_device
from accel_models.units import KINDS, given, rates, slip
from rtl.harness.registry import load
from workloads.formats import get_format

#: What a file must say, by kind.
NEEDED = {kind: {"rows": 8.0} for kind in ("mac", "int_mac", "bit_serial", "term_serial", "shift")}
#: A product that each kind takes, and the turns that it takes.
TAKEN = {"mac": ("fp16", "fp16", 1), "int_mac": ("int8", "int8", 1), "lut": ("int8", "int2", 2),
         "bit_serial": ("int8", "int3", 3), "term_serial": ("fp16", "int6", 3),
         "popcount": ("int4", "int2", 8), "shift": ("int8", "pot3", 1)}


def figures(kind: str) -> dict[str, np.ndarray]:
    found = given(kind, NEEDED.get(kind, {}), where="file")
    return {k: np.asarray(v, dtype=np.float64) for k, v in found.items()}


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_builds_of_units(kind: str) -> None:
    for part in KINDS[kind].parts(figures(kind)):
        unit = load(part.unit)
        assert part.parameters.keys() <= unit.parameters.keys()
        assert np.all(np.asarray(part.instances) >= 1)


@pytest.mark.parametrize("kind", TAKEN)
def test_a_long_product_runs_at_the_rate_of_full_tiles(kind: str) -> None:
    """Contract and multiply-accumulates a cycle are stated apart; they agree where k is long."""
    built, f = KINDS[kind], figures(kind)
    a, w, turns = TAKEN[kind]
    passes = built.passes(get_format(a), get_format(w), f)
    assert float(passes) == turns
    down, across = built.tile(f)
    m, n, k = 3 * down, 2 * across, 2.0**20
    rate = m * n * k / built.cycles(m, n, np.asarray(k), passes, f)
    assert float(rate) == pytest.approx(float(built.macs(f) / passes), rel=1e-3)


@pytest.mark.parametrize("kind", TAKEN)
def test_macs_are_those_that_the_unit_states(kind: str) -> None:
    """``macs_per_cycle`` of a unit is for one instance and configuration."""
    f = figures(kind)
    part = KINDS[kind].parts(f)[0]
    unit = load(part.unit)
    if unit.macs_per_cycle is None:
        pytest.skip(f"{unit.name} states none")
    p = unit.resolve({name: int(v) for name, v in part.parameters.items()})
    one = {"wbits": 1, "pa": 1, "pw": 1, "dtype": 2, "k": 1}
    turns = {"term_serial": 2.0}.get(kind, 1.0)
    bits = float(f.get("bits_per_cycle", 1.0)) if kind == "bit_serial" else 1.0
    assert unit.macs_per_cycle(p, one) * float(part.instances) == pytest.approx(float(KINDS[kind].macs(f)) / turns / bits)


def test_what_a_unit_does_not_take() -> None:
    nan = [("int_mac", "fp16", "int8"), ("lut", "fp16", "int8"), ("term_serial", "fp16", "fp16"), ("popcount", "fp16", "int2"),
           ("shift", "int8", "int4"), ("bit_serial", "fp32", "int4"), ("mac", "fp32", "fp32")]
    for kind, a, w in nan:
        assert np.isnan(KINDS[kind].passes(get_format(a), get_format(w), figures(kind))), (kind, a, w)


def test_rates_follow_from_shape_and_clock() -> None:
    assert rates("int_mac", {"rows": 8, "lanes": 4}, units=3, clock=1e9, where="file") == \
        pytest.approx({"int8": 2 * 8 * 4 * 3e9, "int4": 2 * 8 * 4 * 3e9, "int1": 2 * 8 * 4 * 3e9})
    assert rates("popcount", {}, units=1, clock=1e9, where="file")["int4"] == pytest.approx(2 * 2 * 4 * 128 * 1e9 / 16)


def test_few_table_generators_slow_a_tile_down() -> None:
    """A tile of eight rows needs eight tables every W edges."""
    f = figures("lut") | {"tile_m": np.asarray(8.0)}
    m, n, k, passes = map(np.asarray, (8.0, 64.0, 4096.0, 2.0))
    one, four, eight = (float(KINDS["lut"].cycles(m, n, k, passes, f | {"generators": np.asarray(g)})) for g in (1.0, 4.0, 8.0))
    assert one > 3.9 * four
    assert four == eight


@pytest.mark.parametrize(("figure", "said"), [({}, "'rows' is missing"), ({"rows": 0}, "rows: must be at least 1, got 0"),
                                             ({"rows": 2.5}, "rows: must be a whole number, got 2.5"),
                                             ({"rows": 4, "drain": -1}, "drain: must be at least 0, got -1")])
def test_a_figure_that_cannot_be_is_named(figure: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"mine: .*{said}"):
        given("term_serial", figure, where="mine")


@pytest.mark.parametrize(("kind", "figure", "said"), [
    ("lut", {"group": 17}, r"group: must be in \[2, 16\], got 17"), ("lut", {"group": 1}, "group: must be at least 2, got 1"),
    ("mac", {"rows": 8, "mantissa": 6}, "mantissa: must be at least 7, got 6"),
    ("mac", {"rows": 1e30}, r"rows: must be in \[1, .*\], got 1e\+30"),
    ("mac", {"rows": np.nan}, "rows: must be at least 1, got nan"),
    ("mac", {"rows": 8, "weight_buffer_bytes": 0}, "weight_buffer_bytes: must be at least 1, got 0"),
    ("mac", {"rows": 8, "buffer_banks": 0}, "buffer_banks: must be at least 1, got 0"),
    ("mac", {"rows": 8, "causal_skip": 2}, r"causal_skip: must be in \[0, 1\], got 2"),
    ("shift", {"rows": 8, "code_bits": 5}, r"code_bits: must be in \[2, 4\], got 5"),
    ("bit_serial", {"rows": 8, "bits_per_cycle": 8}, r"bits_per_cycle: must be in \[1, 4\], got 8")])
def test_a_unit_that_cannot_be_built_is_refused(kind: str, figure: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=f"mine: engine.matrix.figure.{said}"):
        given(kind, figure, where="mine")


@pytest.mark.parametrize("kind", KINDS)
def test_ends_of_what_is_allowed_are_allowed(kind: str) -> None:
    built, base = KINDS[kind], {name: 8.0 for name, default in KINDS[kind].figures.items() if default is None}
    for name, ends in built.spans.items():
        assert name in built.figures
        for end in ends:
            assert given(kind, base | {name: end}, where="mine")[name] == end


@pytest.mark.parametrize(("kind", "meant"), [("intmac", "int_mac"), ("lutt", "lut"), ("sparse_dps", "sparse_dsp"),
                                             ("tensor_core", ""), ("cpu_simd", ""), ("lut", "")])
def test_a_slip_in_the_name_of_a_kind(kind: str, meant: str) -> None:
    assert slip(kind) == meant


def test_no_kind_of_a_shipped_device_is_taken_for_a_slip() -> None:
    assert not [d for d in list_devices() for e in load_device(d).engine.values() if slip(e.kind)]


@pytest.mark.parametrize(("text", "said"), [("raise RuntimeError('boom')", "RuntimeError: boom"), ("def (:", "SyntaxError"),
                                            ("import not_there_at_all", "ModuleNotFoundError"), ("ENGINE = 3", "ENGINE is 3")])
def test_an_engine_of_the_users_own_that_does_not_work_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    folder = tmp_path / f"own_{abs(hash(text))}"
    folder.mkdir()
    (folder / "__init__.py").write_text("")
    (folder / "engine.py").write_text(text)
    with pytest.raises(ValueError, match=f"engine.py: {said}") as error:
        KINDS[str(folder)]
    assert "\n" not in str(error.value)
