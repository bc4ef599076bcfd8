import re
import time
from pathlib import Path

import pytest

from accel_models import registry
from accel_models.registry import list_devices, list_systems, load_device, load_system

MEASURED = {
    "a100_sxm4_80gb", "a100_sxm4_40gb", "a100_pcie_40gb", "a100_pcie_80gb", "a100_80gb", "a40", "rtx_a6000", "rtx_4090",
    "l40s", "rtx_pro_6000_server", "h200_sxm", "v100_pcie_32gb", "p100_pcie_16gb", "t4", "p4", "mi210", "arc_pro_b60",
    "ascend_910b",
}
OTHERS = {"h100_sxm", "h100_pcie", "b200_sxm", "mi300x", "dream_hbm4", "alveo_u280", "raspberry_pi_5"}


def test_names_that_the_measured_tables_use() -> None:
    assert set(list_devices()) >= MEASURED | OTHERS
    assert len(list_devices()) >= 45


@pytest.mark.parametrize("name", list_devices())
def test_every_device_loads_and_its_figures_hold_together(name: str) -> None:
    device = load_device(name)
    assert device.name == name
    for key, q in device.quantities().items():
        assert q.source or q.note, key
        assert q.value > 0, key
    engine = device.engine.get("matrix")
    if engine and engine.units and engine.clock and device.vendor == "NVIDIA" and device.name != "dream_hbm4":
        rate = engine.rate.get("bf16") or engine.rate["fp16"]
        per_clock = rate.value / (engine.units.value * engine.clock.value)
        # A multiply-add array has a power of two of lanes: a wrong clock, SM count or sparse figure shows here.
        assert min(abs(per_clock / 2**k - 1) for k in range(8, 15)) < 0.02, per_clock


def test_narrower_formats_are_never_slower() -> None:
    for name in list_devices():
        engine = load_device(name).engine.get("matrix")
        rates = {f: q.value for f, q in engine.rate.items()} if engine else {}
        for wide, narrow in (("bf16", "fp8"), ("fp16", "int8"), ("int8", "int4"), ("fp8", "fp4"), ("tf32", "bf16")):
            if wide in rates and narrow in rates:
                assert rates[narrow] >= rates[wide], (name, wide, narrow)


def test_imaginary_device_is_labelled() -> None:
    device = load_device("dream_hbm4")
    assert "magin" in device.title
    assert set(device.assumed()) >= {"memory.hbm.bandwidth", "engine.matrix.rate.bf16"}
    assert device.get("hw.mem_bw") == 2 * load_device("h200_sxm").get("hw.mem_bw")


@pytest.mark.parametrize("name", list_systems())
def test_every_system_loads(name: str) -> None:
    system = load_system(name)
    assert system.name == name
    assert system.link_for(1) is None
    if system.n_devices > 1:
        assert system.link_for(2) is system.scale_up()
    else:                                # one main device and what stands beside it, joined by links of their own
        assert len(system.devices) > 1
        assert system.join
    if system.domain < system.n_devices:
        assert system.link_for(system.domain + 1) is system.network
    with pytest.raises(ValueError, match=f"there are {system.n_devices}"):
        system.link_for(system.n_devices + 1)


@pytest.mark.parametrize("text", ["8x h100_sxm", "8xh100_sxm", "8 x h100_sxm", "8*h100_sxm"])
def test_ad_hoc_system(text: str) -> None:
    system = load_system(text)
    assert (system.n_devices, system.domain) == (8, 8)
    link = system.link_for(8)
    assert link is not None
    assert link.bandwidth.value == 4.5e11


def test_system_names() -> None:
    assert load_system("h200_sxm").n_devices == 1
    assert load_system("2x dgx_h100") is load_system("dgx_h100_2n")
    assert load_system("2x dgx_h100").n_devices == 16


@pytest.mark.parametrize(("text", "message"), [
    ("h100", "unknown hardware 'h100'. Did you mean h100_sxm or h100_pcie?   "
             "(perfboard hw list; perfboard hw new h100 --from h100_sxm)"),
    ("h2OO_sxm", "Did you mean h200_sxm"),
    ("16x h100_sxm", "its nvlink joins 8 devices"),
    ("2x raspberry_pi_5", "no link joins such devices"),
    ("2x pc_low", "pc_low is a system, and only devices can be counted out"),
    ("0x h100_sxm", "at least one device"),
    ("./nowhere.toml", "no such file"),
])
def test_unknown_names(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=re.escape(message)) as error:
        load_system(text)
    assert "\n" not in str(error.value)


def test_aliases() -> None:
    assert load_device("NVIDIA H200").name == "h200_sxm"
    assert load_device("h100-sxm5-80gb").name == "h100_sxm"


def test_aliases_are_unique() -> None:
    names = [a for n in list_devices() for a in {x.lower() for x in (n, *load_device(n).aliases)}]
    assert sorted({*names}) == sorted(names)


def test_only_the_asked_file_is_read_and_fast(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[str] = []
    original = registry._raw
    monkeypatch.setattr(registry, "_raw", lambda p: read.append(p.name) or original(p))
    registry._shipped.cache_clear()
    best = min(_timed("h100_sxm") for _ in range(5))
    assert set(read) == {"h100_sxm.toml"}
    assert best < 0.02           # 1 ms here; the rest is room for a busy machine


def _timed(name: str) -> float:
    registry._shipped.cache_clear()
    start = time.perf_counter()
    load_device(name)
    return time.perf_counter() - start


def test_user_files(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "mine"\ntitle = "Mine"\nbase = "h200_sxm"\n[memory.hbm]\n'
                    'bandwidth = { value = "6 TB/s", kind = "assumed", note = "a wish" }\n')
    assert load_device(path).get("hw.mem_bw") == 6e12
    assert load_system(f"4x {path}").n_devices == 4
    path.write_text("name = \n")
    with pytest.raises(ValueError, match=r"mine\.toml: not valid TOML"):
        load_device(path)
    path.write_text('base = "h20"\n')
    with pytest.raises(ValueError, match="base: unknown hardware 'h20'"):
        load_device(path)


@pytest.mark.parametrize(("text", "message"), [
    ('[[device]]\nname = "h100_sxm"\ncount = 8\nlink = "nvlnk"\n', "device[0].link: 'nvlnk' is no link of h100_sxm"),
    ('[[device]]\nname = "h100_sxm"\ncount = 12\nlink = "nvlink"\ndomain = 8\n', "domain: 8 does not divide count 12"),
    ('[[device]]\nname = "h100_sxm"\ncount = 16\nlink = "nvlink"\ndomain = 8\n', "network: missing"),
    ('[[device]]\nname = "h100_sxm"\ncuont = 8\n', "device.0.cuont: unknown key (did you mean 'count'?)"),
])
def test_bad_systems(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "s.toml"
    path.write_text('name = "s"\ntitle = "S"\n' + text)
    with pytest.raises(ValueError, match=re.escape(message)):
        load_system(path)


def test_the_systems_of_the_readme_load(tmp_path: Path) -> None:
    text = (Path(registry.__file__).parent / "devices" / "README.md").read_text(encoding="utf-8")
    found = [block for block in re.findall(r"```toml\n(.*?)```", text, re.DOTALL) if "[[device]]" in block]
    assert len(found) == 2
    for block in found:
        path = tmp_path / "mine.toml"
        path.write_text(block, encoding="utf-8")
        assert load_system(path).name in block
