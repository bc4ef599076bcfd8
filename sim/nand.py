"""Flash reads page by page: dies, channels and decoder in integer picoseconds, first come first served.

Two ways to the same answer. ``replay`` follows every page with an event queue and takes any order of addresses and any
number of pages in flight; ``drain`` empties dies that all have their pages queued, in rounds of one read a die, as array
operations over every channel, die and batch at once. ``simulate_reads`` picks.

A die reads up to ``group`` pages (one on each plane with multi-plane reads) into its page register in ``t_read_ps``, then
asks for its channel, which serves requests in the order of their coming; each page holds it for ``t_transfer_ps`` and
leaves the decoder ``t_ecc_ps`` later. Without cache reads the die reads again when its last page is out; with them as soon
as the pages have moved to the second register, which the transfer before must have left.

Why rounds are exact: every read takes the same time, so dies that are never idle ask for their channel in the same order
again and again, and a channel's turn is a running maximum (max-plus recurrence) over its dies in that order. When a round
repeats the last one, shifted in time, those that follow are added up at once.

Host link and controller are no part of it: ``accel_models.cost.storage`` has them, and says the rest in closed form.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accel_models.bind_storage import storage
from accel_models.device import Device

Ints = NDArray[np.int64]

#: What happens in ``replay``, in the order of its coming at one instant.
_OUT, _SENT, _CELLS = range(3)
_NEVER = np.iinfo(np.int64).min // 4
#: Rounds between looks whether they repeat.
_LOOK = 16
#: Dies of all batches that are worked on at a time: some arrays of this length are all the memory it takes.
_CHUNK = 1 << 16


@dataclass(frozen=True)
class Geometry:
    """Dies and their timing. ``group`` pages are read at once (planes with multi-plane reads, else 1).

    ``t_transfer_ps`` is the channel's time for one page, command and address cycles included. Raises ``ValueError``.
    """

    channels: int
    dies: int                        # per channel, of all chips
    t_read_ps: int
    t_transfer_ps: int
    t_ecc_ps: int = 0
    group: int = 1
    cache_read: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "dies", "t_read_ps", "t_transfer_ps", "group"):
            if getattr(self, name) <= 0:
                raise ValueError(f"nand: {name} must be positive, got {getattr(self, name)}")
        if self.t_ecc_ps < 0:
            raise ValueError(f"nand: t_ecc_ps must not be negative, got {self.t_ecc_ps}")


@dataclass(frozen=True)
class Reads:
    """What became of the reads; arrays have the shape of the batches (one batch: a scalar array).

    ``makespan_ps`` from the first request to the last page out of the decoder; ``busy_ps`` time that the channels were
    held, all added; ``sum_ps`` the pages' finish times, all added (mean latency of a batch asked for at once).
    """

    n_pages: int
    makespan_ps: Ints
    busy_ps: int
    sum_ps: int

    @property
    def mean_ps(self) -> float:
        return self.sum_ps / self.n_pages if self.n_pages else 0.0


def geometry(device: Device, memory: str, *, sequential: bool = True, nbytes: float = np.inf) -> Geometry:
    """Geometry and timing of a device's storage memory: fitted dies are rounded, times are to the picosecond.

    ``sequential``: with cache reads, where the drive has them (only a stream gives a die its next page early).
    ``nbytes`` of a page that are asked for and cross the channel; default all of it.
    """
    v = storage(device, memory)
    transfer = v.get("t_command", 0.0) + min(v["page"], nbytes) / v["channel_rate"]
    return Geometry(
        channels=round(v["n_channels"]), dies=max(round(v["dies_per_channel"]), 1), t_read_ps=round(v["t_read"] * 1e12),
        t_transfer_ps=round(transfer * 1e12), t_ecc_ps=round(v.get("t_ecc", 0.0) * 1e12),
        group=round(v.get("planes", 1.0)) if v.get("multi_plane", 0.0) > 0 else 1,
        cache_read=sequential and v.get("cache_read", 0.0) > 0)


def simulate_reads(g: Geometry, reads: ArrayLike, *, queue_depth: int = 0) -> Reads:
    """Read pages, in batches that each begin on an idle drive.

    Parameters
    ----------
    reads : pages per die, integers of shape (..., channels, dies), the leading axes being batches; or, of one axis, the
        die of each page in the order of asking (channel * dies + die).
    queue_depth : pages in flight; a page that is out lets the next one in. 0: all of a batch at once. A depth needs the
        order, so it goes with die addresses only, and takes the event path (some microseconds a page).

    Raises ``ValueError`` for addresses outside, negative counts, wrong shapes.
    """
    asked = np.asarray(reads)
    if not np.issubdtype(asked.dtype, np.integer) and asked.size:
        raise ValueError(f"nand: reads must be integers, got {asked.dtype}")
    if asked.ndim >= 2:
        if queue_depth:
            raise ValueError("nand: queue_depth needs the order of the pages: give die addresses, not pages per die")
        return drain(g, asked)
    n = g.channels * g.dies
    if asked.size and not (asked.min() >= 0 and asked.max() < n):
        bad = int(asked[(asked < 0) | (asked >= n)][0])
        raise ValueError(f"nand: die address {bad} is not in 0..{n - 1}")
    if queue_depth < 0:
        raise ValueError(f"nand: queue_depth must not be negative, got {queue_depth}")
    if queue_depth:
        return replay(g, asked.tolist(), queue_depth)
    return drain(g, np.bincount(asked.astype(np.int64), minlength=n).reshape(g.channels, g.dies))


def replay(g: Geometry, addresses: Sequence[int], queue_depth: int) -> Reads:
    """The reference: every page through an event queue, ``queue_depth`` of them in flight.

    At one instant, pages that are out let others in before dies go on; dies that ask for their channel together get it in
    the order of how often they have read, then of their address.
    """
    n_dies = g.channels * g.dies
    waiting, reading, turn = [0] * n_dies, [0] * n_dies, [0] * n_dies
    register_free, channel_free = [0] * n_dies, [0] * g.channels
    coming = deque(addresses)
    events: list[tuple[int, int, int, int]] = []         # (time, what, turn of the die, die)
    busy = total = last = 0

    def start(die: int, now: int) -> None:
        """Read the pages that wait, if the page register is free (without cache reads: and sent)."""
        if waiting[die] and not reading[die] and (g.cache_read or register_free[die] <= now):
            reading[die] = min(waiting[die], g.group)
            waiting[die] -= reading[die]
            heapq.heappush(events, (now + g.t_read_ps, _CELLS, turn[die], die))
            turn[die] += 1

    for _ in range(min(queue_depth, len(coming))):
        waiting[coming.popleft()] += 1
    for die in range(n_dies):
        start(die, 0)
    while events:
        now, what, order, die = heapq.heappop(events)
        if what == _OUT:
            if coming:
                waiting[coming[0]] += 1
                start(coming.popleft(), now)
        elif what == _SENT:
            start(die, now)
        elif register_free[die] > now:                   # the second register still holds the pages read before
            heapq.heappush(events, (register_free[die], _CELLS, order, die))
        else:
            pages, reading[die] = reading[die], 0
            begin = max(now, channel_free[die // g.dies])
            end = begin + pages * g.t_transfer_ps
            channel_free[die // g.dies] = register_free[die] = end
            busy += end - begin
            for out in range(begin + g.t_transfer_ps, end + 1, g.t_transfer_ps):
                total += out + g.t_ecc_ps
                if coming:
                    heapq.heappush(events, (out + g.t_ecc_ps, _OUT, 0, die))
            last = max(last, end + g.t_ecc_ps)
            if g.cache_read:
                start(die, now)
            else:
                heapq.heappush(events, (end, _SENT, 0, die))
    return Reads(len(addresses), np.asarray(last, dtype=np.int64), busy, total)


def drain(g: Geometry, counts: ArrayLike) -> Reads:
    """Empty dies whose pages are all queued; ``counts`` (..., channels, dies), leading axes are independent batches."""
    pages = np.asarray(counts, dtype=np.int64)
    if pages.shape[-2:] != (g.channels, g.dies):
        raise ValueError(f"nand: pages per die must have the shape (..., {g.channels}, {g.dies}), got {pages.shape}")
    if pages.size and pages.min() < 0:
        raise ValueError(f"nand: pages per die must not be negative, got {pages.min()}")
    batches = pages.shape[:-2]
    rows = pages.reshape(-1, g.dies)                     # a row is one channel of one batch
    finish = np.zeros(len(rows), dtype=np.int64)
    total = 0
    step = max(_CHUNK // g.dies, 1)
    for at in range(0, len(rows), step):
        finish[at:at + step], more = _rounds(g, rows[at:at + step])
        total += more
    n = int(rows.sum())
    return Reads(n, finish.reshape(*batches, g.channels).max(axis=-1), n * g.t_transfer_ps, total)


def _rounds(g: Geometry, left: Ints) -> tuple[Ints, int]:
    """When the last page of each row is out, and the sum of all pages' finish times. ``left`` (rows, dies)."""
    asks = np.full(left.shape, g.t_read_ps, dtype=np.int64)          # when a die asks for its channel
    free = np.zeros(len(left), dtype=np.int64)                       # when a channel is
    total = done = 0
    while left.any():
        pages = np.minimum(left, g.group)
        left = left - pages
        held = pages * g.t_transfer_ps
        after = np.cumsum(held, axis=1)
        before = after - held
        ready = np.where(pages > 0, asks - before, _NEVER)
        begin = before + np.maximum(np.maximum.accumulate(ready, axis=1), free[:, None])
        end = begin + held
        old, free = (asks, free), end[:, -1]                         # a die without pages passes the channel's time on
        out = int((pages * (begin + g.t_ecc_ps) + g.t_transfer_ps * (pages * (pages + 1) // 2)).sum())
        asks = np.maximum(asks + g.t_read_ps, end) if g.cache_read else end + g.t_read_ps
        total, done = total + out, done + 1
        if done % _LOOK == 0 and (n := _alike(g, left, pages, asks - old[0], shift := free - old[1])):
            # The next n rounds are this one, each later by the shift: a max-plus recurrence that repeats goes on so.
            total += n * out + n * (n + 1) // 2 * int((pages * shift[:, None]).sum())
            left, asks, free = left - n * pages, asks + n * shift[:, None], free + n * shift
    return np.where(free > 0, free + g.t_ecc_ps, 0), total


def _alike(g: Geometry, left: Ints, pages: Ints, later: Ints, shift: Ints) -> int:
    """How many rounds will repeat the last one: all that read full groups, if everything moved by its channel's shift."""
    reads = pages > 0
    if (pages[reads] < g.group).any() or (later != shift[:, None])[reads].any():
        return 0
    return int((left[reads] // g.group).min(initial=np.iinfo(np.int64).max))
