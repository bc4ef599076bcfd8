"""Cost of communication among devices: all-reduce, all-gather, reduce-scatter, all-to-all, send/recv.

Every algorithm is a number of steps, each with a latency, and a number of bytes through each device's link
(``Cost.link``). Libraries choose among them by size, so the model takes the cheapest: a bandwidth-optimal ring, a
latency-optimal tree or direct exchange through a low-latency protocol at a part of the link rate, and a one-shot
kernel in which every device reads all others. Rings and trees: Thakur, Rabenseifner, Gropp, "Optimization of
Collective Communication Operations in MPICH" (2005), sections 3 and 4; message sizes are those of nccl-tests
(PERFORMANCE.md). Between nodes the exchange is hierarchical: within the node, among equal ranks of the nodes, within
the node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats

#: Link class -> the class with measured rows whose parameters it takes.
BORROWS = {
    "nvswitch": "nvswitch", "pcie": "pcie", "nvlink-pair": "nvlink-pair", "internode": "internode",
    "nvlink": "nvswitch",                                     # links of an SXM board go through NVSwitch
    "xgmi": "nvswitch", "hccs": "nvswitch", "ici": "nvswitch",   # direct links, the same ring and direct protocols
    "c2c": "nvswitch", "on_board": "nvswitch", "ucie": "nvswitch",
    "ethernet": "internode", "infiniband": "internode",
    "cxl": "pcie", "storage": "pcie",
}

#: Start of a link's name -> link class. Pairs bridged by NVLink hang on PCIe as a whole.
_CLASSES = (("pairwise-nvlink", "nvlink-pair"), ("nvswitch", "nvswitch"), ("nvlink", "nvswitch"), ("pcie", "pcie"))
#: Rate of a node's network that ``internode_efficiency`` is relative to [B/s]: the source of the multi-node rows does
#: not state theirs, 100 Gbit/s is assumed.
NODE_NETWORK = 12.5e9


#: Most bytes to one peer that NCCL sends through its low-latency protocol (``NCCL_P2P_LL_THRESHOLD``; src/enqueue.cc).
FAST_TO_PEER = 16384.0


def link_class(link: str, devices_per_node: float = 2.0) -> str:
    """Link class of a name as measured tables write it ("nvswitch+internode", "pcie4"). Raises ``ValueError``.

    A bridge joins two devices: more of a node speak through PCIe.
    """
    if "internode" in link:
        return "internode"
    found = next((name for start, name in _CLASSES if link.startswith(start)), "")
    if found == "nvlink-pair" and devices_per_node > 2:
        return "pcie"
    if not found:
        raise ValueError(f"link {link!r} is not known; it must begin with {', '.join(start for start, _ in _CLASSES)}")
    return found


class _Pattern(NamedTuple):
    """Within a group of ``n``: steps of the ring, steps of the low-latency exchange, traffic per message byte."""

    steps: Array
    fast_steps: Array
    traffic: Array


def _all_reduce(n: Array, hop: Array) -> _Pattern:
    return _Pattern(2.0 * (n - 1.0), 2.0 * np.minimum(n - 1.0, hop * np.log2(n)), 2.0 * (n - 1.0) / n)


def _all_gather(n: Array, hop: Array) -> _Pattern:
    return _Pattern(n - 1.0, np.minimum(n - 1.0, hop * np.log2(n)), (n - 1.0) / n)


def _alltoall(n: Array, hop: Array) -> _Pattern:
    one = np.minimum(n - 1.0, 1.0)          # every device writes to all others at once
    return _Pattern(one, one, (n - 1.0) / n)


def _send_recv(n: Array, hop: Array) -> _Pattern:
    one = np.minimum(n - 1.0, 1.0)
    return _Pattern(one, one, one)


_PATTERNS: dict[str, Callable[[Array, Array], _Pattern]] = {
    "all_reduce": _all_reduce, "all_gather": _all_gather, "reduce_scatter": _all_gather,
    "alltoall": _alltoall, "send_recv": _send_recv,
}


def collective(nbytes: ArrayLike, n_devices: ArrayLike, *, kind: str, bandwidth: ArrayLike,
               devices_per_node: ArrayLike = np.inf, internode_bandwidth: ArrayLike = np.inf,
               latency: ArrayLike = 0.0, internode_latency: ArrayLike = 0.0, launch: ArrayLike = 0.0,
               efficiency: ArrayLike = 0.75, congestion: ArrayLike = 0.0, step_time: ArrayLike = 1.5e-6,
               ramp: ArrayLike = 0.7, fast_efficiency: ArrayLike = 0.25, fast_step_time: ArrayLike = 1e-6,
               tree_hop: ArrayLike = 2.5, gather_share: ArrayLike = 1.0, exchange_share: ArrayLike = 1.0,
               exchange_time: ArrayLike = 0.0, p2p_share: ArrayLike = 1.0, direct_efficiency: ArrayLike = 0.0,
               direct_time: ArrayLike = 4e-6, direct_step: ArrayLike = 1e-6, direct_limit: ArrayLike = np.inf,
               internode_efficiency: ArrayLike = 0.8, internode_step_time: ArrayLike = 5e-6,
               rails: ArrayLike = 0.0, overhead: ArrayLike = 6e-6, arrival: ArrayLike = 0.0) -> Cost:
    """Time of one collective of ``nbytes`` among ``n_devices``.

    Parameters
    ----------
    nbytes : array_like               Message: all-reduce, all-to-all and send/recv the buffer of one device; all-gather
                                      and reduce-scatter the whole of it (nccl-tests). [B]
    n_devices : array_like            Ranks; 1 costs nothing but the launch. [-]
    kind : str                        One of ``workloads.ops.COLLECTIVE_KINDS``.
    bandwidth : array_like            Peak of one device's links inside the node, one direction. [B/s]
    devices_per_node : array_like     Ranks that share a node. [-]
    internode_bandwidth : array_like  Peak of one device's share of the network, one direction. [B/s]
    latency, internode_latency : array_like  Flight time of the link itself, per step. [s]
    launch : array_like               What the host or graph adds per call, beside ``overhead``. [s]
    efficiency, step_time : array_like            Bandwidth-optimal (ring) protocol: share of the peak, time a step.
    congestion : array_like           The share falls as (n/2)^-congestion (devices under one root complex); it is kept
                                      at 1 at most where the exponent is negative (more channels with more peers). [-]
    ramp : array_like                 Weight of the pipeline's filling, 2 sqrt(steps' time x wire time): 1 is one chain
                                      cut into the best chunks, 0 no pipeline. [-]
    fast_efficiency, fast_step_time : array_like  Low-latency protocol: the same.
    tree_hop : array_like             Steps that one tree level counts for (trees beat rings among many devices). [-]
    gather_share, exchange_share, p2p_share : array_like  Share of ``efficiency`` that all-gather and reduce-scatter,
                                      all-to-all, send/recv reach beside all-reduce. [-]
    exchange_time : array_like        What setting up the bandwidth-optimal protocol adds to all-to-all. [s]
    direct_efficiency : array_like    Share of the peak of direct all-reduce kernels (one-shot, two-shot); 0: none. [-]
    direct_time, direct_step : array_like  Time of an empty one-shot kernel, and what the second shot adds. [s]
    direct_limit : array_like         Largest message that the software gives to them. [B]
    internode_efficiency, internode_step_time : array_like  Share of the network's peak, time per step.
    rails : array_like                How a node's rate grows with its ranks, which open more of its network cards: 0 not
                                      at all, 1 in proportion (``internode_bandwidth`` is the share of one rank at 0). [-]
    overhead : array_like             Time of an empty call of the library. [s]
    arrival : array_like              How long a rank waits for the others to come, on average, where each is issued by a
                                      process of its own; send/recv, issued together, do not. [s]

    All arguments but ``kind`` broadcast. More bandwidth never costs more. More bytes never cost less. More devices of
    one node never cost less while ``congestion`` is not negative.
    """
    if kind not in _PATTERNS:
        raise ValueError(f"collective: kind must be one of {', '.join(_PATTERNS)}, got {kind!r}")
    nbytes, n, bandwidth, per_node, inter_bw = as_floats(
        nbytes, n_devices, bandwidth, devices_per_node, internode_bandwidth)
    latency, inter_latency, launch, overhead, ramp, hop = as_floats(
        latency, internode_latency, launch, overhead, ramp, tree_hop)
    step, fast_step, inter_step, inter_eff = as_floats(
        step_time, fast_step_time, internode_step_time, internode_efficiency)
    share = {"all_gather": gather_share, "reduce_scatter": gather_share, "alltoall": exchange_share,
             "send_recv": p2p_share}.get(kind, 1.0)
    # All-to-all and send/recv have a channel a peer as it is: more peers open no more of them.
    pairs = kind in ("alltoall", "send_recv")
    crowd = np.maximum(np.asarray(congestion, dtype=np.float64), 0.0 if pairs else -np.inf)
    local = np.maximum(np.minimum(n, per_node), 1.0)
    nodes = np.maximum(n / local, 1.0)
    inside, between = _PATTERNS[kind](local, hop), _PATTERNS[kind](nodes, hop)
    scale = np.power(np.maximum(local, 2.0) / 2.0, -crowd) * share
    moved = inside.traffic * nbytes / bandwidth
    fixed = launch + overhead + (0.0 if kind == "send_recv" else 1.0) * np.asarray(arrival, dtype=np.float64)
    best = _pipeline(moved / np.minimum(np.asarray(efficiency, dtype=np.float64) * scale, 1.0),
                     inside.steps * (step + latency + (kind == "alltoall") * np.asarray(exchange_time)), ramp)
    fast = (moved / np.minimum(np.asarray(fast_efficiency, dtype=np.float64) * scale, 1.0),
            inside.fast_steps * (fast_step + latency))
    if pairs:
        to_peer = nbytes / (local if kind == "alltoall" else 1.0)
        fast = np.where(to_peer <= FAST_TO_PEER, fast[0], np.inf), fast[1]
    best = _cheaper(best, fast)
    # Among nodes every rank carries its part of the buffer; send/recv and all-to-all carry all of it.
    part = nbytes if kind in ("send_recv", "alltoall") else nbytes / local
    far_rate = inter_bw * inter_eff * np.power(local, rails)
    far = _pipeline(between.traffic * part / far_rate, between.fast_steps * (inter_step + inter_latency), ramp)
    wire, wait = best[0] + far[0], best[1] + far[1]
    if kind == "all_reduce":
        d_wire, d_wait = _direct(nbytes, local, nodes, bandwidth, direct_efficiency, direct_step, direct_limit)
        d_fixed = launch + np.asarray(direct_time, dtype=np.float64)
        direct = d_wire + d_wait + d_fixed < wire + wait + fixed
        wire, wait, fixed = (np.where(direct, a, b) for a, b in ((d_wire, wire), (d_wait, wait), (d_fixed, fixed)))
    zero = np.zeros_like(wire)
    return Cost(time=fixed + wait + wire, compute=zero, memory=zero, link=wire, launch=fixed, tail=wait,
                flops=zero, nbytes=inside.traffic * nbytes + between.traffic * part)


def _pipeline(wire: Array, wait: Array, ramp: Array) -> tuple[Array, Array]:
    """(wire, wait) of a chain cut into the best number of chunks: the cross term counts as waiting."""
    return wire, wait + 2.0 * ramp * np.sqrt(wire * wait)


def _cheaper(a: tuple[Array, Array], b: tuple[Array, Array]) -> tuple[Array, Array]:
    first = a[0] + a[1] <= b[0] + b[1]
    return np.where(first, a[0], b[0]), np.where(first, a[1], b[1])


def _direct(nbytes: Array, n: Array, nodes: Array, bandwidth: Array, efficiency: ArrayLike, step: ArrayLike,
            limit: ArrayLike) -> tuple[Array, Array]:
    """(wire, wait) of the better of one-shot and two-shot all-reduce; never, above the limit and across nodes."""
    efficiency, step, limit = as_floats(efficiency, step, limit)
    per_byte = 1.0 / np.maximum(bandwidth * efficiency, 1e-30)      # efficiency 0: as good as never
    one = ((n - 1.0) * nbytes * per_byte, np.zeros_like(n))
    two = (2.0 * (n - 1.0) / n * nbytes * per_byte, np.minimum(n - 1.0, 1.0) * step)
    wire, wait = _cheaper(one, two)
    usable = (nbytes <= limit) & (nodes <= 1.0) & (efficiency > 0)
    return np.where(usable, wire, np.inf), wait
