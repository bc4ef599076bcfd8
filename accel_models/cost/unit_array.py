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
    pieces_a = np.maximum(np.ceil(a / np.maximum(input_buffer, 1.0)), 1.0)
    pieces_w = np.maximum(np.ceil(w / np.maximum(weight_buffer, 1.0)), 1.0)
    fits = (pieces_a == 1.0) | (pieces_w == 1.0)
    again_w = ~fits & (w * pieces_a + a <= a * pieces_w + w)
    again_a = ~fits & ~again_w
    return Traffic(a * np.where(again_a, pieces_w, 1.0), w * np.where(again_w, pieces_a, 1.0), m * n * bytes_out)


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


class Share(NamedTuple):
    """What one array does of a product: ``tiles`` of the result, each over 1 / ``splits`` of k."""

    tiles: Array
    splits: Array


def share(m: ArrayLike, n: ArrayLike, batch: ArrayLike = 1.0, *, tile_m: ArrayLike, tile_n: ArrayLike, arrays: ArrayLike,
          split: ArrayLike = 0.0) -> Share:
    """Tiles of ``batch`` results dealt over the arrays; with ``split`` 1, arrays that would get none share the k of others.

    All arguments broadcast.
    """
    m, n, batch, tile_m, tile_n, arrays, split = as_floats(m, n, batch, tile_m, tile_n, arrays, split)
    tiles = batch * np.ceil(m / tile_m) * np.ceil(n / tile_n)
    splits = np.maximum(np.where(split > 0, np.floor(arrays / tiles), 1.0), 1.0)
    return Share(np.ceil(tiles / np.maximum(arrays, 1.0)), splits)
