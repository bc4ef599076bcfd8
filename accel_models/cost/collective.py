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

#: Link class without measured rows -> the one whose parameters it borrows.
BORROWS = {
    "nvswitch": "nvswitch", "pcie": "pcie", "internode": "internode",
    "nvlink": "nvswitch",        # direct links between all pairs: the same protocols
    "nvlink-pair": "nvlink-pair",
    "xgmi": "nvswitch",          # fully connected direct links
    "ethernet": "internode", "infiniband": "internode",
    "cxl": "pcie", "ucie": "nvswitch", "ici": "nvswitch",
}


class _Pattern(NamedTuple):
    """Steps and traffic per message byte within a group of ``n``: of the ring, and of the low-latency exchange."""

    ring_steps: Array
    ring_bytes: Array
    fast_steps: Array
    fast_bytes: Array


def _log2(n: Array) -> Array:
    return np.log2(np.maximum(n, 1.0))


def _all_reduce(n: Array) -> _Pattern:
    share = (n - 1.0) / n
    return _Pattern(2.0 * (n - 1.0), 2.0 * share, 2.0 * _log2(n), 2.0 * share)


def _all_gather(n: Array) -> _Pattern:
    share = (n - 1.0) / n
    return _Pattern(n - 1.0, share, _log2(n), share)


def _alltoall(n: Array) -> _Pattern:
    share = (n - 1.0) / n
    return _Pattern(n - 1.0, share, np.minimum(n - 1.0, 1.0), share)


def _send_recv(n: Array) -> _Pattern:
    one = np.minimum(n - 1.0, 1.0)
    return _Pattern(one, one, one, one)


_PATTERNS: dict[str, Callable[[Array], _Pattern]] = {
    "all_reduce": _all_reduce, "all_gather": _all_gather, "reduce_scatter": _all_gather,
    "alltoall": _alltoall, "send_recv": _send_recv,
}


def collective(nbytes: ArrayLike, n_devices: ArrayLike, *, kind: str, bandwidth: ArrayLike,
               devices_per_node: ArrayLike = np.inf, internode_bandwidth: ArrayLike = np.inf,
               latency: ArrayLike = 0.0, internode_latency: ArrayLike = 0.0, launch: ArrayLike = 0.0,
               efficiency: ArrayLike = 0.8, step_time: ArrayLike = 1.5e-6,
               fast_efficiency: ArrayLike = 0.25, fast_step_time: ArrayLike = 7e-7,
               oneshot_efficiency: ArrayLike = 0.0, internode_efficiency: ArrayLike = 0.8,
               internode_step_time: ArrayLike = 5e-6, overhead: ArrayLike = 8e-6) -> Cost:
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
    fast_efficiency, fast_step_time : array_like  Low-latency protocol: the same.
    oneshot_efficiency : array_like   Share of the peak of one-shot kernels, all-reduce only; 0 is none.
    internode_efficiency, internode_step_time : array_like  The same for the network.
    overhead : array_like             Time of an empty call. [s]

    All arguments but ``kind`` broadcast. More bandwidth never costs more, more bytes never cost less; with more
    devices a collective never costs less while they stay inside one node.
    """
    if kind not in _PATTERNS:
        raise ValueError(f"collective: kind must be one of {', '.join(_PATTERNS)}, got {kind!r}")
    nbytes, n, bandwidth, per_node, inter_bw = as_floats(
        nbytes, n_devices, bandwidth, devices_per_node, internode_bandwidth)
    latency, inter_latency, launch, overhead = as_floats(latency, internode_latency, launch, overhead)
    efficiency, step, fast_eff, fast_step, shot_eff, inter_eff, inter_step = as_floats(
        efficiency, step_time, fast_efficiency, fast_step_time, oneshot_efficiency, internode_efficiency,
        internode_step_time)
    n = np.maximum(n, 1.0)
    local = np.maximum(np.minimum(n, per_node), 1.0)
    nodes = np.maximum(n / local, 1.0)
    inside, between = _PATTERNS[kind](local), _PATTERNS[kind](nodes)
    ring_wire = inside.ring_bytes * nbytes / (bandwidth * efficiency)
    ring_wait = inside.ring_steps * (step + latency)
    fast_wire = inside.fast_bytes * nbytes / (bandwidth * fast_eff)
    fast_wait = inside.fast_steps * (fast_step + latency)
    fast = fast_wire + fast_wait < ring_wire + ring_wait
    wire, wait = np.where(fast, fast_wire, ring_wire), np.where(fast, fast_wait, ring_wait)
    if kind == "all_reduce":
        shot_wire = (local - 1.0) * nbytes / np.maximum(bandwidth * shot_eff, 1e-30)   # 1e-30: as good as never
        shot_wait = np.minimum(local - 1.0, 1.0) * (fast_step + latency)
        shot = shot_wire + shot_wait < wire + wait
        wire, wait = np.where(shot, shot_wire, wire), np.where(shot, shot_wait, wait)
    # Among nodes every rank carries its part of the buffer; send/recv carries all of it.
    part = nbytes if kind in ("send_recv", "alltoall") else nbytes / local
    wire = wire + between.ring_bytes * part / (inter_bw * inter_eff)
    wait = wait + between.fast_steps * (inter_step + inter_latency)
    fixed = launch + overhead
    zero = np.zeros_like(wire)
    return Cost(time=fixed + wait + wire, compute=zero, memory=zero, link=wire, launch=fixed, tail=wait,
                flops=zero, nbytes=inside.ring_bytes * nbytes + between.ring_bytes * part)
