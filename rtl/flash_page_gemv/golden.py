"""Golden model of ``flash_page_gemv``, from the specification: address code, votes, threshold. Integer numpy only."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Ints = NDArray[np.int64]
CHECK_BITS, COPIES = 6, 9


class Entry(NamedTuple):
    """A protected weight as stored: address and its check bits, two copies (raw bytes)."""

    addr: int
    chk: int
    copy1: int
    copy2: int


@cache
def columns(aw: int) -> tuple[int, ...]:
    """Column of each data bit: five-bit words with at least two ones, ascending."""
    return tuple(c for c in range(32) if c.bit_count() >= 2)[:aw]


def secded_encode(addr: int, aw: int) -> int:
    """Check bits of an address: five Hamming bits and, above them, the parity of everything."""
    hamming = 0
    for i, column in enumerate(columns(aw)):
        hamming ^= column * (addr >> i & 1)
    return hamming | ((addr.bit_count() + hamming.bit_count()) & 1) << 5


def secded_decode(addr: int, chk: int, aw: int) -> tuple[int, bool, bool]:
    """(address, whether one bit was wrong and is right now, whether more were wrong)."""
    for flip in (None, *range(aw + CHECK_BITS)):
        word = (addr | chk << aw) ^ (0 if flip is None else 1 << flip)
        there, check = word & ((1 << aw) - 1), word >> aw
        if secded_encode(there, aw) == check:
            return there, flip is not None, False
    return addr, False, True


def majority(a: int, b: int, c: int) -> int:
    """Bitwise majority of three."""
    return a & b | a & c | b & c


def vote(copies: ArrayLike) -> int:
    """Bitwise majority of the nine copies of a threshold, uint8[9]."""
    bits = np.asarray(copies, dtype=np.int64)[:, None] >> np.arange(8) & 1
    return int(((bits.sum(axis=0) > COPIES // 2) << np.arange(8)).sum())


def signed(raw: ArrayLike) -> Ints:
    """Bytes as two's complement."""
    return (np.asarray(raw, dtype=np.int64) + 128) % 256 - 128


def flash_encode(page: ArrayLike, frac: float, aw: int) -> tuple[int, list[Entry]]:
    """(threshold, entries by ascending address) protecting the share ``frac`` of largest magnitude of int8[n]."""
    w = np.asarray(page, dtype=np.int64)
    order = np.argsort(-np.abs(w), kind="stable")
    n = round(frac * len(w))
    entries = [Entry(int(i), secded_encode(int(i), aw), int(w[i]) & 255, int(w[i]) & 255) for i in np.sort(order[:n])]
    return int(np.abs(w[order[n:]]).max(initial=0)), entries


def flash_gemv(raw: ArrayLike, x: ArrayLike, thr9: ArrayLike, entries: Sequence[Entry], cols: int, aw: int,
               nmac: int) -> tuple[Ints, int, int, int]:
    """(sums int[PAGE / cols], addresses corrected, entries dropped, weights zeroed) of a page of bytes uint8[PAGE].

    Entries are used in order: one before the beat that its forerunner lay in, one that cannot be corrected, and all
    from the first beyond the page on are dropped; of two for one weight the later one counts.
    """
    page = np.asarray(raw, dtype=np.int64)
    value, thr = signed(page), vote(thr9)
    zero = np.abs(value) > thr
    fixed = drop = beat = 0
    for e in entries:
        addr, was_fixed, bad = secded_decode(e.addr, e.chk, aw)
        fixed += was_fixed
        if bad or addr // nmac < beat or addr >= len(page):
            drop += 1
            beat = beat if bad or addr < len(page) else len(page)
            continue
        beat = addr // nmac
        value[addr], zero[addr] = signed(majority(int(page[addr]), e.copy1, e.copy2)), False
    value[zero] = 0
    return value.reshape(-1, cols) @ np.asarray(x, dtype=np.int64), fixed, drop, int(zero.sum())
