"""Energy of an op: what the board draws while idle, what each operation costs, what each byte costs.

A linear model of switching energy (cf. M. Horowitz, ISSCC 2014, "Computing's energy problem"): no published total is
multiplied in. A board holds its power limit by lowering the clock; the time of the op already contains that where it
was fitted to measurements, so here the dynamic part is cut to what the limit leaves, and ``limited`` says where.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, as_floats


class Energy(NamedTuple):
    """Joules of one op by term; ``power`` is the mean over the op [W]; ``limited`` 1 where the limit binds."""

    total: Array
    static: Array
    compute: Array
    memory: Array
    power: Array
    limited: Array


class Joules(NamedTuple):
    """Keyword arguments of :func:`energy` that depend on the device. [J/FLOP, J/B, J/B, W]"""

    j_per_op: Array
    j_per_byte: Array
    j_per_byte_cache: Array
    idle_power: Array


def transfer(values: Mapping[str, float], *, peak: ArrayLike, dram_bandwidth: ArrayLike, tdp: ArrayLike) -> Joules:
    """Energies for a device from a fitted set (variant = compute format) of ``accel_models/fitted/energy.toml``.

    Boards are built so that neither full matrix rate nor full memory rate alone exceeds the power limit by much, so
    the limit per rate carries an energy from one device to another: ``j_per_op`` goes with tdp / peak, ``j_per_byte``
    with tdp / bandwidth (350 W / 864 GB/s of GDDR6 against 700 W / 4.8 TB/s of HBM3e is 2.8 times, as are the 15 and
    5.4 pJ/bit of the two memories), static power with tdp. On the device that was fitted the factors are 1.

    Parameters
    ----------
    peak : array_like            Dense matrix rate of the format that is multiplied. [FLOP/s]
    dram_bandwidth, tdp : array_like  [B/s, W]
    """
    peak, dram_bandwidth, tdp = as_floats(peak, dram_bandwidth, tdp)
    per_byte = tdp / dram_bandwidth / values["tdp_per_byte"]
    return Joules(values["j_per_op"] * (tdp / peak) / values["tdp_per_op"], values["j_per_byte"] * per_byte,
                  values["j_per_byte_cache"] * per_byte, values["static_share"] * tdp)


def energy(time: ArrayLike, flops: ArrayLike, nbytes_dram: ArrayLike, nbytes_cache: ArrayLike = 0.0, *,
           j_per_op: ArrayLike, j_per_byte: ArrayLike, idle_power: ArrayLike, j_per_byte_cache: ArrayLike = 0.0,
           tdp: ArrayLike = np.inf) -> Energy:
    """Energy of work that takes ``time``.

    Parameters
    ----------
    time : array_like                    Duration of the op. [s]
    flops : array_like                   Multiplications and additions. [FLOP]
    nbytes_dram, nbytes_cache : array_like  Traffic of main memory and of the last cache. [B]
    j_per_op, j_per_byte, j_per_byte_cache : array_like  Dynamic energy, clocks and control included. [J/FLOP, J/B, J/B]
    idle_power : array_like              Drawn at all times while powered and clocked. [W]
    tdp : array_like                     Board power limit. [W]

    All arguments broadcast. When static and dynamic power exceed ``tdp`` the power is ``tdp``, and the dynamic terms
    are cut by one factor (the voltage and frequency that the board falls back to make each operation cheaper).
    """
    time, flops, nbytes_dram, nbytes_cache, j_per_op, j_per_byte, idle_power, j_per_byte_cache, tdp = as_floats(
        time, flops, nbytes_dram, nbytes_cache, j_per_op, j_per_byte, idle_power, j_per_byte_cache, tdp)
    static = np.minimum(idle_power, tdp) * time
    compute = flops * j_per_op
    memory = nbytes_dram * j_per_byte + nbytes_cache * j_per_byte_cache
    dynamic = compute + memory
    room = np.where(time > 0, tdp, 0.0) * np.where(time > 0, time, 1.0) - static
    limited = (dynamic > room) & (time > 0)
    cut = np.where(limited, room / np.where(dynamic > 0, dynamic, 1.0), 1.0)
    compute, memory = compute * cut, memory * cut
    total = static + compute + memory
    power = total / np.where(time > 0, time, 1.0)
    return Energy(total, static + 0.0 * total, compute + 0.0 * total, memory + 0.0 * total, power,
                  limited.astype(np.float64))
