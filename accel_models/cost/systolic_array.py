"""A systolic array cycle by cycle: real data move one processing element a cycle. The check of ``cost.systolic``.

Registers of every element are NumPy planes of R x C. Operands enter at the left edge, element i one cycle after element
i - 1, and move right; sums (weight-stationary) or second operands (output-stationary) move down. All control travels with
the data as a wave: element (i, j) does at cycle t + i + j what element (0, 0) does at cycle t. Nothing is taken from the
closed form: a tile starts as soon as the registers that it needs are free, and a clash would spoil the product.

Input-stationary is weight-stationary on the transposed product. Operands are padded with zeros to whole tiles.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


class Run(NamedTuple):
    """What came out of the array, and the cycles from the first element in to the last sum out."""

    product: Values
    cycles: int


class _Tile(NamedTuple):
    """One tile under way: its operands and the cycles at which its fill and its stream enter element (0, 0)."""

    row: int                          # of the result, first element
    col: int
    held: Values                      # (R, C) weights; empty in output-stationary
    left: Values                      # (stream, R) entering at the left edge
    top: Values                       # (stream, C) entering at the top edge; empty in weight-stationary
    fill: int
    start: int


def simulate(a: Values, w: Values, *, array_rows: int, array_cols: int, dataflow: str = "weight",
             shadow: bool = True) -> Run:
    """``a`` (m, k) times ``w`` (k, n), all sizes at least 1, on an array of R x C elements; ``dataflow`` is one of
    ``cost.systolic.DATAFLOWS``. Raises ``ValueError`` for another."""
    rows, cols = array_rows, array_cols
    if dataflow == "input":
        turned = simulate(w.T, a.T, array_rows=rows, array_cols=cols, dataflow="weight", shadow=shadow)
        return Run(turned.product.T, turned.cycles)
    if dataflow == "weight":
        tiles = _weight_tiles(_padded(a, 1, rows), _padded(w, rows, cols), rows, cols, shadow)
        out, cycles = _weight_stationary(tiles, rows, cols, (len(a), _up(w.shape[1], cols)))
    elif dataflow == "output":
        tiles = _output_tiles(_padded(a, rows, 1), _padded(w, 1, cols), rows, cols, shadow)
        out, cycles = _output_stationary(tiles, rows, cols, (_up(len(a), rows), _up(w.shape[1], cols)))
    else:
        raise ValueError(f"dataflow: {dataflow!r}, known: weight, output, input")
    return Run(out[:len(a), :w.shape[1]], cycles)


def _up(size: int, step: int) -> int:
    return -(-size // step) * step


def _padded(x: Values, down: int, across: int) -> Values:
    out = np.zeros((_up(x.shape[0], down), _up(x.shape[1], across)))
    out[:x.shape[0], :x.shape[1]] = x
    return out


# -- weight-stationary -------------------------------------------------------------------------------------------------

def _weight_tiles(a: Values, w: Values, rows: int, cols: int, shadow: bool) -> list[_Tile]:
    """Tiles of W, k inner. The next fill follows the wave that takes this tile's weights into use (second registers), or
    waits until the array is empty; a stream starts when its weights are in and the one before has entered."""
    tiles: list[_Tile] = []
    fill = free = 0
    for col in range(0, w.shape[1], cols):
        for part in range(0, w.shape[0], rows):
            start = max(fill + rows, free)
            tiles.append(_Tile(0, col, w[part:part + rows, col:col + cols], a[:, part:part + rows], np.empty(0), fill, start))
            free = start + len(a)
            fill = start if shadow else free + rows + cols - 2
    return tiles


def _weight_stationary(tiles: list[_Tile], rows: int, cols: int, shape: tuple[int, int]) -> tuple[Values, int]:
    """Element (i, j): sum from above + weight x operand from the left. Sums leave below row R - 1."""
    out = np.zeros(shape)
    i, j = np.arange(rows)[:, None], np.arange(cols)[None, :]
    weight, spare, moving, total = (np.zeros((rows, cols)) for _ in range(4))
    missing, t = sum(len(x.left) * cols for x in tiles), 0
    while missing:
        arriving = np.zeros(rows)
        weight = np.where(np.any([t == x.start + i + j for x in tiles], axis=0), spare, weight)
        for x in tiles:
            s = t - x.start - i[:, 0]
            on = (s >= 0) & (s < len(x.left))
            arriving[on] = x.left[s[on], np.flatnonzero(on)]
        moving = np.concatenate([arriving[:, None], moving[:, :-1]], axis=1)
        total = np.concatenate([np.zeros((1, cols)), total[:-1]]) + weight * moving
        for x in tiles:
            s = t - x.start - (rows - 1) - j[0]
            on = (s >= 0) & (s < len(x.left))
            out[s[on], x.col + np.flatnonzero(on)] += total[-1, on]
            missing -= int(on.sum())
            spare = _filled(spare, x, t, i, j)
        t += 1
    return out, t


def _filled(spare: Values, x: _Tile, t: int, i: NDArray[np.int_], j: NDArray[np.int_]) -> Values:
    """Second registers after a cycle of the fill wave: the weight of the last row enters first and moves down."""
    rows = len(spare)
    since = t - x.fill - j
    entering = np.where((since >= 0) & (since < rows), x.held[np.clip(rows - 1 - since, 0, rows - 1), j], 0.0)
    above = np.concatenate([entering, spare[:-1]])
    return np.where((since >= i) & (since < rows), above, spare)


# -- output-stationary -------------------------------------------------------------------------------------------------

def _output_tiles(a: Values, w: Values, rows: int, cols: int, shadow: bool) -> list[_Tile]:
    """Tiles of C. The next stream enters behind this one (second registers take the sums, which need R cycles to leave),
    or waits until the array is empty."""
    tiles: list[_Tile] = []
    start, k = 0, a.shape[1]
    for col in range(0, w.shape[1], cols):
        for row in range(0, a.shape[0], rows):
            tiles.append(_Tile(row, col, np.empty(0), a[row:row + rows].T, w[:, col:col + cols], start, start))
            start += max(k, rows) if shadow else k + 2 * rows + cols - 2
    return tiles


def _output_stationary(tiles: list[_Tile], rows: int, cols: int, shape: tuple[int, int]) -> tuple[Values, int]:
    """Element (i, j): own sum + operand from the left x operand from above; finished sums move down and out."""
    out = np.zeros(shape)
    i, j = np.arange(rows)[:, None], np.arange(cols)[None, :]
    moving, falling, total, leaving = (np.zeros((rows, cols)) for _ in range(4))
    missing, t = len(tiles) * rows * cols, 0
    while missing:
        left, top = np.zeros(rows), np.zeros(cols)
        for x in tiles:
            for edge, operand in ((left, x.left), (top, x.top)):
                s = t - x.start - np.arange(len(edge))
                on = (s >= 0) & (s < len(operand))
                edge[on] = operand[s[on], np.flatnonzero(on)]
        moving = np.concatenate([left[:, None], moving[:, :-1]], axis=1)
        falling = np.concatenate([top[None, :], falling[:-1]])
        first = np.any([t == x.start + i + j for x in tiles], axis=0)
        total = np.where(first, 0.0, total) + moving * falling
        for x in tiles:
            gone = t - (x.start + len(x.left) - 1 + j[0]) - rows        # cycles of the drain of each column
            on = (gone >= 0) & (gone < rows)
            out[x.row + rows - 1 - gone[on], x.col + np.flatnonzero(on)] = leaving[-1, on]
            missing -= int(on.sum())
            down = np.concatenate([np.zeros((1, cols)), leaving[:-1]])
            leaving = np.where(on & (i > gone), down, leaving)
        done = np.any([t == x.start + len(x.left) - 1 + i + j for x in tiles], axis=0)
        leaving = np.where(done, total, leaving)
        t += 1
    return out, t
