"""Matrix-vector products whose weights stay in flash: a compute core in every NAND die, the rest of the pages to an NPU.

Cambricon-LLM (arXiv 2409.15654, section V). A *tile* is one page for every core: ``H`` rows by ``W`` columns, the columns
spread over the channels and the rows over the cores of a channel. Each channel broadcasts its ``W / channels`` inputs to
its cores, every core multiplies one page as it leaves the cells, and the channel takes ``H`` results back. A flat tile
moves more results, a tall one more inputs: the least lies at H = sqrt(cores * page), and matrices narrower than W need
taller tiles, so the tile is one more axis and a minimum.

Between inputs and results the channel is idle. Pages that no core works on go through it to the NPU, cut into slices
that fit the gaps (*read slicing*): with whole pages most of a gap stays empty. The share ``alpha`` that the cores take is
best where both ways end together, alpha = R_f / (R_f + R_n).

The core's cycles per page are those of the unit ``flash_page_gemv``: one beat of ``macs`` weights a cycle, one more for each
protected outlier. Its clock is the device's assumption.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, as_floats
from rtl.flash_page_gemv import contract


class InFlash(NamedTuple):
    """Time of one product and its parts [s]; ``flash`` and ``npu`` overlap, ``fill`` is what nothing hides.

    ``flash`` the cores' way: of it ``cell`` array reads, ``core`` multiplication (hidden behind reads as far as it is
    shorter), ``vector`` inputs; ``results`` and ``npu`` (pages to the NPU) share the channels with it. ``share`` of the
    weights that the cores take, ``tile_rows`` the tile's H.
    """

    total: Array
    flash: Array
    npu: Array
    cell: Array
    core: Array
    vector: Array
    results: Array
    fill: Array
    share: Array
    tile_rows: Array


def page_cycles(page: ArrayLike, *, macs: ArrayLike, outliers: ArrayLike = 0.0) -> Array:
    """Cycles of a core from the page's command to its last row: the unit's contract, for weights of one byte."""
    page, macs, outliers = as_floats(page, macs, outliers)
    return np.asarray(contract.page_cycles(page, macs=macs, entries=outliers))


#: Heights that a tile may have.
_TILES = np.exp2(np.arange(21.0))


def gemv(n_out: ArrayLike, n_in: ArrayLike, *, n_channels: ArrayLike, cores_per_channel: ArrayLike, page: ArrayLike,
         t_read: ArrayLike, channel_rate: ArrayLike, core_clock: ArrayLike, macs: ArrayLike = 2.0, outliers: ArrayLike = 0.0,
         planes: ArrayLike = 2.0, input_bytes: ArrayLike = 1.0, result_bytes: ArrayLike = 4.0,
         slice_bytes: ArrayLike = 256.0, share: ArrayLike = np.nan, tile_rows: ArrayLike = np.nan) -> InFlash:
    """Time of y[n_out] = W[n_out, n_in] x[n_in], one byte a weight, W in flash, with the best tile and the best share.

    Parameters
    ----------
    n_out, n_in : array_like           Rows and columns of the matrix. [-]
    n_channels, cores_per_channel, planes : array_like  Channels, dies with a core on each, planes of a die (the core works
                                       on one page at a time, other planes can read pages for the NPU meanwhile). [-]
    page, t_read, channel_rate : array_like  Page, cells to register, rate of one channel. [B], [s], [B/s]
    core_clock, macs, outliers : array_like  Clock of a core, its multiply-accumulate units, protected weights per page.
    input_bytes, result_bytes : array_like  Of an element of x and of a partial sum (the core accumulates in 32 bits). [B]
    slice_bytes : array_like           Piece in which pages cross to the NPU; a page: no slicing. [B]
    share : array_like                 Of the weights that the cores take, 0..1; NaN: the best one.
    tile_rows : array_like             H of the tile; NaN: the best power of two.

    All arguments broadcast. Many products follow each other, so that part tiles are filled up by the next (no rounding of
    the share to whole tiles); a product waits for its input, so that its first read and its last results stay visible.
    More channel rate and faster cells never cost more; more channels may, where the matrix no longer fills a tile.
    """
    rows, cols, channels, cores, page, t_read, rate = (x[..., None] for x in as_floats(
        n_out, n_in, n_channels, cores_per_channel, page, t_read, channel_rate))
    clock, macs, outliers, planes, in_bytes, out_bytes, piece, share, given = (x[..., None] for x in as_floats(
        core_clock, macs, outliers, planes, input_bytes, result_bytes, slice_bytes, share, tile_rows))
    height = np.where(np.isnan(given), _TILES, given)
    width = cores * page / height                        # columns of one channel
    possible = (height >= cores) & (width >= 1.0)
    tiles_down, tiles_across = np.maximum(np.ceil(rows / height), 1.0), np.maximum(np.ceil(cols / (width * channels)), 1.0)
    used = rows * cols / (tiles_down * height * tiles_across * width * channels)

    t_core = (page_cycles(page, macs=macs, outliers=outliers) + width / macs) / clock
    t_vector, t_results = width * in_bytes / rate, height * out_bytes / rate
    traffic = t_vector + t_results
    period = np.maximum(np.maximum(t_read, t_core) + t_vector, traffic)      # of one tile
    # Pages to the NPU: whole slices in what the channel leaves, from the planes that no core is busy with.
    pieces = np.floor((period - traffic) * rate / piece * (1.0 + 1e-12)) * piece
    spare = cores * np.maximum(planes * period / t_read - 1.0, 0.0) * page
    flash_rate = channels * cores * page * np.maximum(used, 1e-12) / period
    npu_rate = channels * np.minimum(pieces, spare) / period

    alpha = np.where(np.isnan(share), flash_rate / (flash_rate + npu_rate), share)
    weights = rows * cols
    flash = alpha * weights / flash_rate
    npu = np.where(alpha < 1.0, (1.0 - alpha) * weights / np.maximum(npu_rate, 1e-12), 0.0)
    fill = np.where(weights > 0, t_vector + np.maximum(t_read, t_core) + t_results, 0.0)
    total = np.where(possible, np.maximum(flash, npu) + fill, np.inf)
    tiles = flash / period
    every = np.broadcast_arrays(total, flash, npu, tiles * t_read, tiles * t_core, tiles * t_vector, tiles * t_results,
                                fill, alpha, height)
    best = np.argmin(every[0], axis=-1)[..., None]
    return InFlash(*(np.take_along_axis(term, best, axis=-1)[..., 0] for term in every))
