"""Cost of products on arrays of verified units: the cycles of their contract, two buffers, one memory.

An array computes while the memory fetches for the next product, so that the longer of the two counts. Operands that fit
their buffer cross the memory once; where neither fits, one of them is kept in pieces and the other is fetched anew for
each piece, whichever is less.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, Cost, as_floats


class Traffic(NamedTuple):
    """Bytes of one product through the memory."""

    activations: Array
    weights: Array
    results: Array


def traffic(m: ArrayLike, n: ArrayLike, k: ArrayLike, *, bytes_a: ArrayLike, bytes_w: ArrayLike, bytes_out: ArrayLike,
            input_buffer: ArrayLike = np.inf, weight_buffer: ArrayLike = np.inf) -> Traffic:
    """Bytes that a product [m, k] x [k, n] moves. ``bytes_*``: of an element, scales included; ``*_buffer``: on chip. [B]

    All arguments broadcast. Larger buffers never move more.
    """
    m, n, k, bytes_a, bytes_w, bytes_out, input_buffer, weight_buffer = as_floats(
        m, n, k, bytes_a, bytes_w, bytes_out, input_buffer, weight_buffer)
    a, w = m * k * bytes_a, n * k * bytes_w
    pieces_a, pieces_w = (np.maximum(np.ceil(x / room), 1.0) for x, room in ((a, input_buffer), (w, weight_buffer)))
    again_w = w * pieces_a + a <= a * pieces_w + w
    return Traffic(a * np.where(again_w, 1.0, pieces_w), w * np.where(again_w, pieces_a, 1.0), m * n * bytes_out)


def product(m: ArrayLike, n: ArrayLike, k: ArrayLike, batch: ArrayLike = 1.0, *, compute: ArrayLike,
            dram_bandwidth: ArrayLike, bytes_a: ArrayLike = 2.0, bytes_w: ArrayLike = 2.0, bytes_out: ArrayLike = 2.0,
            input_buffer: ArrayLike = np.inf, weight_buffer: ArrayLike = np.inf, launch: ArrayLike = 0.0) -> Cost:
    """Time of ``batch`` products that keep the arrays busy for ``compute`` seconds, all of them together.

    Parameters
    ----------
    dram_bandwidth : array_like  [B/s]
    launch : array_like          What nothing hides, once. [s]

    The others as in ``traffic``. All arguments broadcast.
    """
    m, n, k, batch = as_floats(m, n, k, batch)
    nbytes = batch * sum(traffic(m, n, k, bytes_a=bytes_a, bytes_w=bytes_w, bytes_out=bytes_out, input_buffer=input_buffer,
                                 weight_buffer=weight_buffer), np.zeros(()))
    return together(nbytes, 2.0 * batch * m * n * k, compute=compute, dram_bandwidth=dram_bandwidth, launch=launch)


def together(nbytes: ArrayLike, flops: ArrayLike, *, compute: ArrayLike, dram_bandwidth: ArrayLike,
             launch: ArrayLike = 0.0) -> Cost:
    """Computing [s] beside moving ``nbytes``: the longer counts. All arguments broadcast."""
    compute, nbytes, dram_bandwidth, flops, launch = as_floats(compute, nbytes, dram_bandwidth, flops, launch)
    memory = nbytes / dram_bandwidth
    zero = np.zeros(())
    return Cost(time=np.maximum(compute, memory) + launch, compute=compute, memory=memory, link=zero, launch=launch,
                tail=zero, flops=flops, nbytes=nbytes)


class Deal(NamedTuple):
    """Tiles of a result over arrays: ``most`` of one array; how many arrays have so many, and how many one less."""

    most: Array
    with_most: Array
    with_less: Array


def dealt(tiles: ArrayLike, *, arrays: ArrayLike) -> Deal:
    """As even as can be; arrays without a tile are in neither number. All arguments broadcast."""
    tiles, arrays = as_floats(tiles, np.maximum(arrays, 1.0))
    most = np.ceil(tiles / arrays)
    with_most = tiles - (most - 1.0) * arrays
    return Deal(most, with_most, np.where(most > 1.0, arrays - with_most, 0.0))


def splits(most: float) -> Array:
    """Numbers of parts of k to try, none above ``most``: all up to 8, then four to each doubling. The same numbers for every
    shape, so that one more array is never worse."""
    found = [1.0, 2.0, 3.0, *(part * 2.0**i for i in range(int(np.log2(max(most, 1.0)))) for part in (4.0, 5.0, 6.0, 7.0))]
    return np.array([part for part in found if part <= max(most, 1.0)])
