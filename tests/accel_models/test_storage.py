"""Reads from storage: laws of the formula, its limits by hand, and binding of drives with their errors."""

from __future__ import annotations

import tomllib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accel_models.bind_storage import storage
from accel_models.cost.storage import STAGES, Read, read
from accel_models.device import Device
from accel_models.device_file import build, to_toml
from accel_models.registry import list_devices, load_device

DRIVE: dict[str, float] = {
    "n_channels": 8, "dies_per_channel": 4, "page": 16384, "t_read": 60e-6, "channel_rate": 1.2e9, "link_rate": 6e9,
    "planes": 4, "multi_plane": 0, "cache_read": 1, "t_command": 3e-7, "t_ecc": 4e-6, "request_time": 7e-6,
    "request_rate": 1e6, "n_queues": 1, "max_depth": 1023, "issue_cycles": 6000, "contention": 0.4, "spread": 0.5,
    "readahead": 128e3, "readahead_min": 8192, "mapped": 128e6, "queue_depth": 8, "sequential": 0, "span": 1e9,
    "n_cores": 1, "core_clock": 3e9,
}
sizes = st.sampled_from([512.0 * 2**k for k in range(14)])
depths = st.sampled_from([1.0, 2, 3, 4, 8, 16, 32, 64, 300])
patterns = st.sampled_from([0.0, 1.0])


def cost(n: Any, nbytes: Any, **change: Any) -> Read:
    return read(n, nbytes, **{**DRIVE, **change})


def rate(nbytes: float, **change: Any) -> float:
    """Steady throughput. [B/s]"""
    return float(1e6 * nbytes / cost(1e6, nbytes, **change).total)


# -- laws -----------------------------------------------------------------------------------------------------------------

@given(st.lists(st.tuples(st.integers(1, 1000), sizes), min_size=1, max_size=5), patterns)
def test_an_array_holds_what_each_scalar_gives(many: list[tuple[int, float]], sequential: float) -> None:
    n, nbytes = np.array(many).T
    whole = cost(n, nbytes, sequential=sequential)
    for i, (a, b) in enumerate(many):
        for term, scalar in zip(whole, cost(a, b, sequential=sequential), strict=True):
            np.testing.assert_allclose(np.broadcast_to(term, len(many))[i], scalar, rtol=1e-12)


@pytest.mark.parametrize("name", sorted(DRIVE))
def test_every_keyword_may_be_an_array(name: str) -> None:
    values = np.array([1.0, 0.5]) * DRIVE[name]
    n, nbytes = np.array([1.0, 40.0, 1e5]), np.array([4096.0, 65536.0, 1e6])
    got = np.broadcast_to(cost(n, nbytes, **{name: values[:, None]}).total, (2, 3))
    for row, value in zip(got, values, strict=True):
        np.testing.assert_allclose(row, np.broadcast_to(cost(n, nbytes, **{name: value}).total, 3), rtol=1e-12)


@settings(max_examples=200)
@given(sizes, depths, patterns, st.sampled_from(["channel_rate", "link_rate", "n_channels", "dies_per_channel", "core_clock",
                                                 "request_rate", "mapped"]), st.floats(1.0, 100.0))
def test_faster_and_more_parts_never_cost_more(nbytes: float, depth: float, sequential: float, name: str,
                                               factor: float) -> None:
    work = {"queue_depth": depth, "sequential": sequential}
    better = cost(1e4, nbytes, **work, **{name: DRIVE[name] * factor}).total
    assert better <= cost(1e4, nbytes, **work).total * (1 + 1e-9)


@given(sizes, depths, patterns, st.sampled_from(["t_read", "t_command", "t_ecc", "request_time", "issue_cycles"]),
       st.floats(1.0, 100.0))
def test_slower_parts_never_cost_less(nbytes: float, depth: float, sequential: float, name: str, factor: float) -> None:
    work = {"queue_depth": depth, "sequential": sequential}
    worse = cost(1e4, nbytes, **work, **{name: DRIVE[name] * factor}).total
    assert worse >= cost(1e4, nbytes, **work).total * (1 - 1e-9)


@settings(max_examples=200)
@given(sizes, depths, patterns, st.integers(0, 500), st.floats(1.0, 20.0))
def test_more_requests_and_more_bytes_never_cost_less(nbytes: float, depth: float, sequential: float, n: int,
                                                      factor: float) -> None:
    work = {"queue_depth": depth, "sequential": sequential, "readahead_min": 0}
    base = cost(n, nbytes, **work).total
    assert cost(n * factor, nbytes, **work).total >= base * (1 - 1e-9)
    assert cost(n, nbytes * factor, **work).total >= base * (1 - 1e-9)


@given(sizes, patterns, st.sampled_from([1.0, 2, 4, 8, 16, 64]), st.integers(1, 8))
def test_a_deeper_queue_never_lowers_the_steady_rate(nbytes: float, sequential: float, depth: float, more: int) -> None:
    deep = cost(1e10, nbytes, queue_depth=depth + more, sequential=sequential).total
    assert deep <= cost(1e10, nbytes, queue_depth=depth, sequential=sequential).total * (1 + 1e-9)


@given(sizes, depths, patterns, st.integers(0, 1000))
def test_no_stage_alone_needs_more_than_the_whole(nbytes: float, depth: float, sequential: float, n: int) -> None:
    r = cost(n, nbytes, queue_depth=depth, sequential=sequential)
    for name in STAGES:
        assert 0 <= getattr(r, name) <= r.total * (1 + 1e-9)
    assert (r.total == 0) == (n == 0)


# -- limits by hand -------------------------------------------------------------------------------------------------------

def test_one_random_page_is_the_sum_of_its_parts() -> None:
    parts = 7e-6 + 60e-6 + (3e-7 + 4096 / 1.2e9) + 4e-6 + 4096 / 6e9
    assert cost(1, 4096, queue_depth=1, span=0).total == pytest.approx(parts, rel=1e-4)
    assert cost(10, 4096, queue_depth=1, span=0).total == pytest.approx(10 * parts, rel=1e-4)


def test_the_slowest_stage_gives_the_rate() -> None:
    assert rate(2**20, queue_depth=256, sequential=1) == pytest.approx(6e9, rel=1e-4)                        # link
    channels = 8 * 16384 / (3e-7 + 16384 / 4e8)
    assert rate(2**20, queue_depth=256, sequential=1, channel_rate=4e8) == pytest.approx(channels)
    dies = 32 * 16384 / (60e-6 + 3e-7 + 16384 / 1.2e9)
    assert rate(2**20, queue_depth=1023, span=0, link_rate=1e11) == pytest.approx(dies, rel=0.05)            # no cache reads
    assert rate(4096, queue_depth=300, span=0, request_rate=1e5) == pytest.approx(1e5 * 4096, rel=1e-4)
    assert rate(4096, queue_depth=300, span=0, issue_cycles=6e4) == pytest.approx(3e9 / 6e4 * 4096, rel=1e-4)


def test_planes_and_cache_reads_lift_the_dies_limit() -> None:
    slow = {"queue_depth": 1023, "sequential": 1, "link_rate": 1e12, "channel_rate": 1e12, "issue_cycles": 0, "spread": 1,
            "t_command": 10e-6}
    assert rate(2**20, multi_plane=1, cache_read=0, **slow) == pytest.approx(8 * 16384 / 10e-6, rel=0.01)    # channels now
    assert rate(2**20, cache_read=0, **slow) == pytest.approx(32 * 16384 / 70e-6, rel=0.01)
    assert rate(2**20, cache_read=1, **slow) == pytest.approx(32 * 16384 / 60e-6, rel=0.01)


def test_beyond_the_mapped_range_every_address_costs_a_read() -> None:
    inside, far = cost(1, 4096, queue_depth=1, span=128e6), cost(1, 4096, queue_depth=1, span=1e15)
    assert float(far.total - inside.total) == pytest.approx(60e-6 + 3e-7 + 4096 / 1.2e9, rel=1e-3)
    assert cost(1, 4096, queue_depth=1, span=256e6).total == pytest.approx(float(inside.total + far.total) / 2, rel=1e-3)
    assert cost(1, 4096, queue_depth=1, span=1e15, sequential=1).total == cost(1, 4096, queue_depth=1, sequential=1).total


def test_cores_on_one_queue_disturb_each_other() -> None:
    bound = {"queue_depth": 300, "issue_cycles": 6e4}
    one = rate(4096, **bound)
    assert rate(4096, n_cores=2, **bound) == pytest.approx(0.8 * one, rel=1e-4)
    assert rate(4096, n_cores=1e6, **bound) == pytest.approx(0.6 * one, rel=1e-4)
    assert rate(4096, n_cores=4, n_queues=4, **bound) == pytest.approx(4 * one, rel=1e-4)       # a queue for each


def test_a_queue_holds_only_so_many() -> None:
    assert rate(4096, queue_depth=300, max_depth=4) == rate(4096, queue_depth=4)


def test_read_ahead_serves_small_sequential_requests() -> None:
    assert rate(16384, sequential=1, queue_depth=1) > 2 * rate(16384, queue_depth=1, span=0)
    assert rate(4096, sequential=1, queue_depth=1) < rate(4096, sequential=1, queue_depth=1, readahead_min=0)
    served = 16384 / (7e-6 + 16384 / 6e9)              # a long window: the host, not the dies
    assert rate(16384, sequential=1, queue_depth=1, readahead=64e6, spread=1) == pytest.approx(served, rel=1e-4)


# -- drives ---------------------------------------------------------------------------------------------------------------

FLASH = ["ufs_3_0", "ufs_3_1", "ufs_4_0", "nvme_pcie4", "samsung_990_pro_1tb", "apple_m1_max_ssd", "cambricon_llm_s",
         "cambricon_llm_m", "cambricon_llm_l"]


def test_every_storage_device_has_its_dies() -> None:
    assert {n for n in list_devices() if load_device(n).kind == "flash"} <= set(FLASH)


@pytest.mark.parametrize("name", FLASH)
def test_every_drive_reads_no_faster_than_its_link(name: str) -> None:
    keywords = storage(load_device(name), "flash")
    r = read(1e5, 2.0**20, queue_depth=256, sequential=1, **keywords)
    assert 0.8 < 1e5 * 2**20 / r.total / keywords["link_rate"] <= 1.0 + 1e-9


def test_fitted_values_lie_over_the_file_and_values_set_by_hand_over_both() -> None:
    device = load_device("nvme_pcie4")
    plain, fitted = storage(device, "flash", fitted=False), storage(device, "flash")
    assert plain["t_read"] == pytest.approx(61e-6)
    assert fitted["t_read"] != plain["t_read"]
    assert fitted["page"] == plain["page"]
    assert storage(device.with_value("memory.flash.nand.t_read", "20 us"), "flash")["t_read"] == pytest.approx(20e-6)
    assert storage(device.with_value("memory.flash.nand.chips", 16), "flash")["dies_per_channel"] == 16.0


def made(nand: dict[str, Any] | None, **memory: Any) -> Device:
    raw = {"level": "storage", "bandwidth": quantity("4 GB/s")} | ({"nand": nand} if nand is not None else {}) | memory
    return build({"name": "toy", "title": "T", "vendor": "V", "kind": "phone", "generation": "g", "main_memory": "ram",
                  "memory": {"ram": {"level": "dram", "bandwidth": quantity("50 GB/s")}, "disk": raw}},
                 file="toy.toml", base={}.__getitem__)


@pytest.mark.parametrize("name", ["ufs_4_0", "cambricon_llm_s"])
def test_a_drive_written_back_reads_the_same(name: str) -> None:
    device = load_device(name)
    again = build(tomllib.loads(to_toml(device)), file="again.toml", base={}.__getitem__)
    assert storage(again, "flash", fitted=False) == pytest.approx(storage(device, "flash", fitted=False))
    slower = device.with_value("memory.flash.nand.t_read", "90 us")
    text = to_toml(slower.model_copy(update={"name": "slow", "base": name}), device)
    assert "[memory.flash.nand]\nt_read" in text
    assert "channel_rate" not in text                                    # only what differs


def quantity(value: Any) -> dict[str, Any]:
    return {"value": value, "kind": "assumed", "note": "test"}


NAND = {"channels": quantity(4), "page": quantity("16 KiB"), "t_read": quantity("60 us"), "channel_rate": quantity("1 GB/s")}


def test_a_part_built_in_is_that_device_with_its_own_figures_over_it() -> None:
    phone = storage(made({"like": "ufs_4_0", "request_time": quantity("20 us")}), "disk", fitted=False)
    assert phone == storage(load_device("ufs_4_0"), "flash", fitted=False) | {"request_time": pytest.approx(20e-6),
                                                                             "link_rate": 4e9}
    older = storage(made({"like": "ufs_4_0", "request_time": quantity("20 us")}), "disk")       # the fit knows the part
    assert older["request_time"] == pytest.approx(20e-6)
    assert older["spread"] == storage(load_device("ufs_4_0"), "flash")["spread"]
    assert storage(made({"like": "ufs_4_0"}), "disk") == storage(load_device("ufs_4_0"), "flash") | {"link_rate": 4e9}


def test_four_figures_are_enough() -> None:
    assert storage(made(NAND), "disk") == {"n_channels": 4.0, "dies_per_channel": 1.0, "page": 16384.0,
                                           "t_read": pytest.approx(60e-6), "channel_rate": 1e9, "link_rate": 4e9}


@pytest.mark.parametrize(("nand", "memory", "message"), [
    (None, {}, r"toy: memory\.disk\.nand: missing; give \[memory\.disk\.nand\]"),
    ({k: v for k, v in NAND.items() if k != "t_read"}, {}, r"toy: memory\.disk\.nand\.t_read: missing; a read needs channels"),
    (NAND | {"channel_rate": quantity(0)}, {}, r"toy: memory\.disk\.nand\.channel_rate: must be positive, found 0"),
    (NAND | {"request_rate": quantity(0)}, {}, r"toy: memory\.disk\.nand\.request_rate: must be positive, found 0"),
    (NAND | {"spread": quantity(1.5)}, {}, r"toy: memory\.disk\.nand\.spread: must be in 0\.\.1, found 1\.5"),
    (NAND, {"block": quantity("4 KiB")}, r"toy: memory\.disk\.nand\.page: 16 KiB is larger than the memory's block of 4 KiB"),
    (NAND, {"bandwidth": None}, r"toy: memory\.disk\.nand\.link_rate: missing"),
    ({"like": "h200_sxm"}, {}, r"toy: memory\.disk\.nand\.like: 'h200_sxm' has no \[memory\.\*\.nand\] of its own"),
])
def test_bad_drives_are_named(nand: dict[str, Any] | None, memory: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as error:
        storage(made(nand, **memory), "disk")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("nand", "message"), [
    (NAND | {"t_reed": quantity("60 us")}, r"toy\.toml: memory\.disk\.nand\.t_reed: unknown key \(did you mean 't_read'\?\)"),
    (NAND | {"t_read": quantity("-60 us")}, "negative"),
    (NAND | {"t_read": quantity("60 GB")}, "is a unit of bytes"),
])
def test_bad_figures_are_refused_on_loading(nand: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        made(nand)


def test_a_memory_that_is_not_there() -> None:
    with pytest.raises(ValueError, match=r"toy: memory\.ssd: no such memory; it has ram, disk"):
        storage(made(NAND), "ssd")
