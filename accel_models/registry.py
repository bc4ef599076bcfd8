"""Devices and systems by name: one file each, and only the file that is asked for is read.

A name is a shipped file (``h100_sxm``), one of its aliases, or a path to a file of the user's (``./mine.toml``);
``snapdragon_8_gen_3.vector`` is one engine of a device by itself.
A system is a shipped file (``dgx_h100``), a path, a device (a system of one), or ``8x h100_sxm``: that many of one
device on the fastest link it has.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from accel_models.device import Device, Link, Strict
from accel_models.device_file import build, expand_sources, one_line
from accel_models.units import KINDS

_DEVICES = Path(__file__).with_name("devices")
_SYSTEMS = Path(__file__).with_name("systems")
_AD_HOC = re.compile(r"(\d+)\s*[xX*×][\s_]*(\S+)")
_SCALE_UP = ("nvlink", "xgmi", "ici", "hccs", "c2c", "on_board", "pcie", "ethernet")


class Part(Strict):
    """``count`` of one device in a system, joined in domains of ``domain`` devices by the device's link ``link``."""

    name: str
    count: int = 1
    link: str = ""
    domain: int = 0                       # 0: all of them
    role: str = ""                        # what it is called in plans and timelines; empty: its kind


class Join(Strict):
    """A way between two different parts of a system, named by their roles. Bandwidth per direction."""

    between: tuple[str, str]
    link: Link


class System(Strict):
    """Devices joined by links: fast inside a domain, ``network`` (per device and direction) between domains, ``join``
    between parts of different kinds (a GPU and its host, a phone and its storage)."""

    name: str
    title: str
    aliases: tuple[str, ...] = ()
    notes: str = ""
    nodes: int = 1
    device: tuple[Part, ...]
    network: Link | None = None
    join: tuple[Join, ...] = ()
    devices: tuple[Device, ...] = ()      # the devices of ``device``, filled in by ``load_system``

    @property
    def main(self) -> Device:
        """The device that most of the work is on: the first one listed."""
        return self.devices[0]

    @property
    def n_devices(self) -> int:
        return self.device[0].count

    @property
    def domain(self) -> int:
        """Devices that reach each other through the fast link."""
        return self.device[0].domain or self.device[0].count

    def role(self, i: int) -> str:
        """What part ``i`` is called in plans and timelines."""
        return self.device[i].role or self.devices[i].kind

    def scale_up(self) -> Link | None:
        """The link inside a domain, None for a single device."""
        part = self.device[0]
        return self.main.link[part.link] if part.link else None

    def link_for(self, n_devices: int) -> Link | None:
        """The slowest link that a group of so many devices must cross; None for one device."""
        if n_devices <= 1:
            return None
        if n_devices > self.n_devices:
            raise ValueError(f"{self.name}: a group of {n_devices} devices, but there are {self.n_devices}")
        return self.scale_up() if n_devices <= self.domain else self.network


def list_devices() -> list[str]:
    return sorted(p.stem for p in _DEVICES.glob("*.toml"))


@cache
def is_shipped(name: str) -> bool:
    """Is this the name (no alias) of a device that came with the package?"""
    return bool(name) and (_DEVICES / f"{name}.toml").is_file()


def list_systems() -> list[str]:
    return sorted(p.stem for p in _SYSTEMS.glob("*.toml"))


def load_device(name_or_path: str | Path) -> Device:
    """A device by name, alias or path. Raises ``ValueError`` with the nearest names."""
    text = str(name_or_path)
    if text.endswith(".toml") or "/" in text:
        return _user_file(Path(text))
    return _shipped(text)


@cache
def _shipped(text: str) -> Device:
    stem = _resolve(text, _DEVICES)
    whole, _, engine = text.rpartition(".")
    if stem is None and whole and _resolve(whole, _DEVICES):
        return _shipped(whole).seen_by(engine)
    if stem is None:
        raise ValueError(unknown(text))
    return build(_raw(_DEVICES / f"{stem}.toml"), file=f"{stem}.toml", base=_base_of(f"{stem}.toml"))


def _user_file(path: Path) -> Device:
    return build(_with_own_units(_raw(path), path), file=path.name, base=_base_of(path.name))


def _with_own_units(raw: dict[str, Any], path: Path) -> dict[str, Any]:
    """Kinds of engines that name the folder of a user's own unit, which stands relative to the device file, made absolute."""
    engines = raw.get("engine", {})
    own = {name: e["kind"] for name, e in engines.items() if isinstance(e, dict) and "/" in str(e.get("kind", ""))}
    made = {name: {**engines[name], "kind": str((path.parent / str(kind)).resolve())} for name, kind in own.items()}
    for name, engine in made.items():
        if engine["kind"] not in KINDS:
            raise ValueError(f"{path.name}: engine.{name}.kind: {own[name]!r}: no engine.py in {engine['kind']}; expected the "
                             "folder of a unit as perfboard rtl new writes it, or a kind of engine")
    return raw | {"engine": engines | made} if made else raw


def load_system(name_or_path: str | Path) -> System:
    """A system by name, alias or path; ``8x h100_sxm``; or a device by name, as a system of one."""
    text = str(name_or_path).strip()
    if match := _AD_HOC.fullmatch(text):
        stem = _resolve(f"{match[1]}x_{match[2]}", _SYSTEMS)
        if stem is None and _resolve(match[2], _SYSTEMS):
            raise ValueError(f"{text}: {match[2]} is a system, and only devices can be counted out; write a system file "
                             f"(accel_models/systems), or try '{match[1]}x {_shipped_system(match[2]).main.name}'")
        return _shipped_system(stem) if stem else ad_hoc(int(match[1]), load_device(match[2]))
    if text.endswith(".toml") or "/" in text:
        raw = _raw(Path(text))
        return _system(raw, Path(text).name) if isinstance(raw.get("device"), list) else ad_hoc(1, load_device(text))
    stem = _resolve(text, _SYSTEMS)
    return _shipped_system(stem) if stem else ad_hoc(1, load_device(text), name=text)


@cache
def _shipped_system(stem: str) -> System:
    return _system(_raw(_SYSTEMS / f"{stem}.toml"), f"{stem}.toml")


def ad_hoc(count: int, device: Device, name: str = "") -> System:
    """``count`` of one device on its fastest own link, in domains of that link's size."""
    if count < 1:
        raise ValueError(f"{count}x {device.name}: at least one device")
    if count == 1:
        alone = (Part(name=device.name, count=1),)
        shown = name if name.startswith(f"{device.name}.") else device.name
        return System(name=shown, title=device.title, device=alone, devices=(device,))
    usable = [k for kind in _SCALE_UP for k, v in device.link.items() if v.kind == kind]
    if not usable:
        has = ", ".join(device.link) or "none"
        raise ValueError(f"{count}x {device.name}: no link joins such devices; it has {has}")
    link = device.link[usable[0]]
    domain = min(count, int(link.peers.value)) if link.peers else count
    if domain < count:
        raise ValueError(f"{count}x {device.name}: its {usable[0]} joins {domain} devices; write a system file with a "
                         f"network (perfboard hw list shows the shipped ones)")
    part = Part(name=device.name, count=count, link=usable[0], domain=domain)
    return System(name=f"{count}x_{device.name}", title=f"{count} x {device.title}", device=(part,), devices=(device,))


def unknown(name: str) -> str:
    """One line for a name that nobody knows, with the nearest ones."""
    known = [*list_devices(), *list_systems()]
    low = name.lower().replace("-", "_")
    near = [k for k in known if k.startswith(low)] or [k for k in known if low in k]
    near = sorted(near, key=lambda k: (not k.endswith("_sxm"), not k.endswith("_pcie"), k))   # common variants first
    near = (near or difflib.get_close_matches(low, known, n=2, cutoff=0.5))[:2]
    mean = f" Did you mean {' or '.join(near)}?" if near else ""
    if Path(f"{name}.toml").is_file():
        mean = f" The file here is --hw ./{name}.toml."
    start = next((k for k in near if k in list_devices()), "h100_sxm")
    return f"unknown hardware {name!r}.{mean}   (perfboard hw list; perfboard hw new {low} --from {start})"


def _system(raw: Mapping[str, Any], file: str) -> System:
    data = expand_sources({k: v for k, v in raw.items() if k != "sources"}, raw.get("sources", {}))
    try:
        system = System.model_validate(data)
    except ValidationError as error:
        raise ValueError(one_line(error, file, System)) from None
    if not system.device:
        raise ValueError(f"{file}: device: a system needs at least one [[device]]")
    devices = tuple(load_device(part.name) for part in system.device)
    for i, (part, device) in enumerate(zip(system.device, devices, strict=True)):
        if part.link and part.link not in device.link:
            has = ", ".join(device.link) or "none"
            raise ValueError(f"{file}: device[{i}].link: {part.link!r} is no link of {device.name}; it has {has}")
        if part.count < 1:
            raise ValueError(f"{file}: device[{i}].count: must be at least 1, found {part.count}")
        if part.domain and part.count % part.domain:
            raise ValueError(f"{file}: device[{i}].domain: {part.domain} does not divide count {part.count}")
    if system.domain < system.n_devices and system.network is None:
        raise ValueError(f"{file}: network: missing; {system.n_devices} devices in domains of {system.domain} need one")
    joined = system.model_copy(update={"devices": devices})
    roles = [joined.role(i) for i in range(len(devices))]
    if len(devices) > 1 and len(set(roles)) < len(roles):
        raise ValueError(f"{file}: device: two parts are called {max(roles, key=roles.count)!r}; give each its own role")
    for i, join in enumerate(system.join):
        for name in join.between:
            if name not in roles:
                raise ValueError(f"{file}: join[{i}].between: no part {name!r}; there are {', '.join(roles)}")
    return joined


def _raw(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ValueError(f"{path}: no such file") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path.name}: not valid TOML: {error}") from None


def _base_of(file: str) -> Any:
    def base(name: str) -> dict[str, Any]:
        if not (_DEVICES / f"{name}.toml").is_file():
            raise ValueError(f"{file}: base: {unknown(name)}")
        return _raw(_DEVICES / f"{name}.toml")
    return base


@cache
def _resolve(text: str, folder: Path) -> str | None:
    """File stem for a name or an alias. Aliases are looked for as text, so that a slip costs no parsing of all."""
    if re.fullmatch(r"[\w.+-]+", text) and (folder / f"{text}.toml").is_file():
        return text
    wanted = f'"{text.lower()}"'
    for path in folder.glob("*.toml"):
        line = next((row for row in path.read_text(encoding="utf-8").splitlines() if row.startswith("aliases")), "")
        if wanted in line.lower():
            return path.stem
    return None


__all__ = ["Part", "System", "ad_hoc", "list_devices", "list_systems", "load_device", "load_system", "unknown"]
