"""The board: engines and memories of a system by the names that plans use, and the ways between the memories.

Names: an engine is called by what it is (``gpu``, ``cpu``, ``npu``, ``fpga``, ``in_flash``), a memory by its place
(``vram`` of a GPU, ``dram`` of a host, a phone or an NPU, ``hbm`` of an FPGA, ``flash``); where a system has two of one,
its parts' roles stand before the name (``gpu2.vram``).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import NamedTuple, TypeVar

from accel_models.bind import Hardware, bind
from accel_models.device import Device, Memory
from accel_models.registry import System
from sim.tasks import Resource

T = TypeVar("T")

#: What an engine is called: by its kind where that says it, else by the kind of its device.
_BY_KIND = {"cpu_simd": "cpu", "amx": "cpu", "hexagon_npu": "npu", "neural_engine": "npu", "systolic": "npu",
            "in_flash": "in_flash", "simt": "gpu", "simdgroup_matrix": "gpu"}
_BY_DEVICE = {"gpu": "gpu", "cpu": "cpu", "fpga": "fpga", "npu": "npu", "tpu": "npu", "phone": "npu",
              "accelerator": "npu"}
_MAIN = {"gpu": "vram", "fpga": "hbm", "flash": "flash"}


@dataclass(frozen=True)
class Engine:
    """Something that computes. ``home``: the memory that it computes from. ``handover_s``: what it costs to give it work
    whose inputs another engine left in that memory (an assumption of the device file)."""

    name: str
    device: Device
    hardware: Hardware
    home: str
    handover_s: float


@dataclass(frozen=True)
class Tier:
    """A memory where tensors lie. Rates [B/s]; capacity NaN where it is not known. ``spec``: storage by its own model."""

    name: str
    device: Device
    key: str                          # name of the memory in the device file
    capacity: float
    bandwidth: float

    @property
    def spec(self) -> Memory:
        return self.device.memory[self.key]

    @property
    def storage(self) -> bool:
        return self.spec.level == "storage"


class Hop(NamedTuple):
    """A link between two memories: its shared resource (one a direction), bandwidth [B/s], latency [s], and whether copies
    over it reach only a share of its peak (what a storage memory delivers is its own model's business)."""

    resource: str
    bandwidth: float
    latency: float
    lossy: bool


@dataclass(frozen=True)
class Board:
    """Engines and tiers by name; ``ways``: the link from one tier to another next to it (None: on one device)."""

    name: str
    engines: Mapping[str, Engine]
    tiers: Mapping[str, Tier]
    ways: Mapping[tuple[str, str], Hop | None]

    def engine(self, name: str) -> Engine:
        """Raises ``ValueError`` with the names there are."""
        return _named(self.engines, name, f"{self.name}: no engine")

    def tier(self, name: str) -> Tier:
        """Raises ``ValueError`` with the names there are."""
        return _named(self.tiers, name, f"{self.name}: no memory")

    @property
    def main(self) -> Engine:
        return next(iter(self.engines.values()))

    def route(self, src: str, dst: str) -> tuple[Hop, ...]:
        """Links from one memory to another, the fewest. Raises ``ValueError`` where nothing joins them."""
        self.tier(src), self.tier(dst)
        came: dict[str, str] = {src: src}
        waiting = deque([src])
        while waiting:
            here = waiting.popleft()
            for a, b in self.ways:
                if a == here and b not in came:
                    came[b] = here
                    waiting.append(b)
        if dst not in came:
            raise ValueError(f"{self.name}: nothing joins {src!r} and {dst!r}; add a [[join]] to the system file")
        steps: list[Hop] = []
        while dst != src:
            if (hop := self.ways[came[dst], dst]) is not None:
                steps.append(hop)
            dst = came[dst]
        return tuple(reversed(steps))

    def resources(self) -> tuple[Resource, ...]:
        """Everything that tasks can contend for, without buffers."""
        found = [Resource(e.name, "engine", 1, e.device.name) for e in self.engines.values()]
        found += [Resource(t.name, "shared", t.bandwidth, t.device.name) for t in self.tiers.values()]
        hops = {h.resource: h for h in self.ways.values() if h is not None}
        found += [Resource(h.resource, "shared", h.bandwidth, "links") for h in hops.values()]
        # Copies between two memories queue one behind the other, as on a copy engine; their bytes share what they cross.
        found += [Resource(copier(a, b), "engine", 1, "links") for a in self.tiers for b in self.tiers if a != b]
        return tuple(found)


def copier(src: str, dst: str) -> str:
    """The queue of copies from one memory to another."""
    return f"copy {src}>{dst}"


def board(system: System) -> Board:
    """The board of a system, one device of each part. Raises ``ValueError`` where a name would mean two things."""
    engines: dict[str, Engine] = {}
    tiers: dict[str, Tier] = {}
    ways: dict[tuple[str, str], Hop | None] = {}
    homes: dict[str, list[str]] = {}
    for i, device in enumerate(system.devices):
        role = system.role(i)
        prefix = "" if role in (device.kind, *_BY_DEVICE.values(), "ssd", "flash") else f"{role}."
        names = {key: prefix + _tier_name(device, key) for key in _places(device)}
        for key, name in names.items():
            memory = device.memory[key]
            if name in tiers:
                raise ValueError(f"{system.name}: two memories are called {name!r} ({tiers[name].device.name} and "
                                 f"{device.name}); give the parts roles")
            tiers[name] = Tier(name, device, key, memory.capacity.value if memory.capacity else float("nan"),
                               memory.bandwidth.value if memory.bandwidth else float("nan"))
        for name, seen in _engines(device, role):
            if prefix + name in engines:
                raise ValueError(f"{system.name}: two engines are called {prefix + name!r}; give the parts roles")
            handover = seen.matrix.figure.get("handover_s") if seen.matrix else None
            engines[prefix + name] = Engine(prefix + name, seen, bind([seen]), names[device.main_memory],
                                            handover.value if handover else 0.0)
        homes[role] = list(names.values())
        ways |= {(a, b): None for a in names.values() for b in names.values() if a != b}
    for join in system.join:
        a, b = join.between
        latency = join.link.latency.value if join.link.latency else 0.0
        for src, dst in ((a, b), (b, a)):
            hop = Hop(f"{join.link.kind} {src}>{dst}", join.link.bandwidth.value, latency, join.link.kind != "storage")
            ways[homes[src][0], homes[dst][0]] = hop
    if not engines:
        raise ValueError(f"{system.name}: nothing on it computes")
    return Board(system.name, engines, tiers, ways)


def _places(device: Device) -> Sequence[str]:
    """Memories that tensors can lie in, the main one first; caches and scratchpads belong to the engines."""
    rest = [k for k, m in device.memory.items() if m.level in ("dram", "storage") and k != device.main_memory and m.bandwidth]
    return [device.main_memory, *rest]


def _tier_name(device: Device, key: str) -> str:
    if key == device.main_memory:
        shared = key.startswith(("lpddr", "ddr"))           # memory that a GPU shares with its host, as in a phone
        return "dram" if shared else _MAIN.get(device.kind, "dram")
    return "flash" if key in ("flash", "ssd") else key


def _engines(device: Device, role: str) -> Iterator[tuple[str, Device]]:
    """Engines by name, each as its own view of the device. Matrix and vector engine of one sort are one."""
    if not device.engine:
        return
    first = _BY_DEVICE.get(device.kind, role)
    named: dict[str, str] = {}
    for key, engine in device.engine.items():
        alone = key == "vector" and "matrix" not in device.engine
        name = _BY_KIND.get(engine.kind, first if key == "matrix" or alone else key)
        named.setdefault(name, key)
    for name, key in named.items():
        yield name, device if len(named) == 1 else device.seen_by(key)


def _named(known: Mapping[str, T], name: str, problem: str) -> T:
    if name not in known:
        near = get_close_matches(name, known, n=2, cutoff=0.5)
        raise ValueError(f"{problem} {name!r}; it has {', '.join(known)}" + (f" (did you mean {near[0]!r}?)" if near else ""))
    return known[name]
