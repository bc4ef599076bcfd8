"""Time of reads from flash storage: NAND dies on channels, a controller, a host link, a queue of requests.

A request waits for its pages (tR in a die, then the channel, then the decoder), passes the controller and the host link.
Steady throughput is that of the slowest stage, or of the queue when it is not deep enough to keep one busy (Little's
law: requests in flight / round trip). What makes the measured curves bend, each with one parameter:

- *placement*: n pages in a row lie on ``n^spread`` dies, so that a large request reads several pages after another from
  the same die, and neighbours in a sequential stream get into each other's way;
- *waiting*: a die that serves equal pages makes a newcomer wait half of what stands before it (Pollaczek and Khinchine,
  service without variance), here for the other requests in flight, shared among the dies that they touch;
- *coalescing and read-ahead*: small sequential requests share a page, and the drive fetches ahead of them;
- *address map*: beyond the range that the controller's memory maps, a read costs one more page read for its address;
- *issue*: a request costs cycles of the host core that issues it, and cores that share one queue disturb each other.

Page-level events of the same parts: ``sim.nand``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, as_floats, smooth_max


class Read(NamedTuple):
    """Time of all requests and the time that each stage alone would need for them [s]; the arrays broadcast.

    ``cell`` array reads in the dies, ``transfer`` channels, ``controller``, ``link`` to the host, ``issue`` host cores,
    ``latency`` round trips at the given queue depth. ``total`` is that of the longest, with the first request's own time
    and the end of the last ones.
    """

    total: Array
    cell: Array
    transfer: Array
    controller: Array
    link: Array
    issue: Array
    latency: Array


#: Sharpness of the corner where dies take over from the queue, for random reads: chance leaves some dies idle while others
#: have a queue. From page events (``sim.nand``: within 6 % at any depth), not from a drive. Streams have a sharp corner.
KNEE = 3.0
#: The stages of ``Read`` that a request passes, in order, and the round trip.
STAGES = ("cell", "transfer", "controller", "link", "issue", "latency")


def read(n_requests: ArrayLike, nbytes: ArrayLike, *, n_channels: ArrayLike, dies_per_channel: ArrayLike, page: ArrayLike,
         t_read: ArrayLike, channel_rate: ArrayLike, link_rate: ArrayLike, queue_depth: ArrayLike = 32.0,
         sequential: ArrayLike = 0.0, span: ArrayLike = 0.0, n_cores: ArrayLike = 1.0, core_clock: ArrayLike = 3e9,
         planes: ArrayLike = 1.0, multi_plane: ArrayLike = 0.0, cache_read: ArrayLike = 0.0, t_command: ArrayLike = 0.0,
         t_ecc: ArrayLike = 0.0, request_time: ArrayLike = 0.0, request_rate: ArrayLike = np.inf,
         n_queues: ArrayLike = 1.0, max_depth: ArrayLike = np.inf, issue_cycles: ArrayLike = 0.0,
         contention: ArrayLike = 0.0, spread: ArrayLike = 1.0, readahead: ArrayLike = 0.0, readahead_min: ArrayLike = 0.0,
         mapped: ArrayLike = np.inf) -> Read:
    """Time to read ``n_requests`` of ``nbytes`` each, ``queue_depth`` of them in flight.

    Parameters
    ----------
    n_requests, nbytes : array_like    Requests, and bytes of one. [-], [B]
    queue_depth : array_like           Requests in flight, of all cores together; at most ``n_queues * max_depth``. [-]
    sequential : array_like            1: each request begins where the last one ended; 0: anywhere in ``span``. [-]
    span : array_like                  Range that random requests fall in; beyond ``mapped`` the address costs a read. [B]
    n_cores, core_clock : array_like   Host cores that issue, and their clock. [-], [Hz]
    n_channels, dies_per_channel, planes : array_like  Geometry (dies: of all chips of the channel). [-]
    page, t_read : array_like          Page and time from cells to page register. [B], [s]
    multi_plane, cache_read : array_like  1: all planes of a die are read at once; the next page is read while the last is
                                       transferred. [-]
    channel_rate, t_command, t_ecc : array_like  Channel rate, its time per page beside the data, decoder latency. [B/s], [s]
    link_rate : array_like             Host link as reached. [B/s]
    request_time, request_rate : array_like  Latency of a request beside NAND and link, and the most that the controller
                                       takes. [s], [1/s]
    n_queues, max_depth : array_like   Host queues, and commands that one holds. [-]
    issue_cycles, contention : array_like  Host core cycles of a request; share of the rate lost when many cores share a
                                       queue, (1 - 1/cores) of it for a few. [-]
    spread : array_like                n pages in a row lie on n^spread dies: 1 perfect striping, 0 one die. [-]
    readahead, readahead_min : array_like  Bytes fetched ahead of sequential requests, and the smallest request that the
                                       drive does so for (a smaller one still finds its page read by the last). [B]
    mapped : array_like                Range whose addresses the controller knows without a read. [B]

    All arguments broadcast. Idle drive, reads only, no wear. More bytes never cost less and faster parts never more; a
    deeper queue never lowers the steady rate, but its last requests may end later on their fullest die.
    """
    n, nbytes, depth, seq, span, cores, clock = as_floats(
        n_requests, nbytes, queue_depth, sequential, span, n_cores, core_clock)
    channels, dies, page, t_read, channel_rate, link_rate = as_floats(
        n_channels, dies_per_channel, page, t_read, channel_rate, link_rate)
    planes, multi, cache, command, ecc, own, request_rate = as_floats(
        planes, multi_plane, cache_read, t_command, t_ecc, request_time, request_rate)
    queues, slots, cycles, loss, spread, ahead, ahead_min, mapped = as_floats(
        n_queues, max_depth, issue_cycles, contention, spread, readahead, readahead_min, mapped)
    stream = seq > 0
    in_flight = np.maximum(np.minimum(np.minimum(depth, np.maximum(n, 1.0)), queues * slots), 1.0)
    # Neighbours share a page. A random request reads whole pages, and one more where the map does not know its address.
    missing = np.where(stream, 0.0, np.clip(1.0 - mapped / np.maximum(span, 1.0), 0.0, 1.0))
    pages = np.where(stream, nbytes / page, np.ceil(nbytes / page))
    reads = pages + missing
    units = channels * dies * np.where(multi > 0, planes, 1.0)
    transfer = command + np.minimum(nbytes, page) / channel_rate
    # Only a stream gives a die its next page early; else it waits until the last one has left its register.
    busy = np.where((cache > 0) & stream, np.maximum(t_read, transfer), t_read + transfer)

    fetched = (nbytes >= ahead_min) & (ahead > page)
    window = np.where(stream, np.where(fetched, ahead, page), 0.0)
    asked = in_flight * nbytes
    fetching = np.where(fetched, asked + window, np.maximum(asked, window))      # of a stream [B]
    under_way = np.where(stream, fetching / page, in_flight * pages)
    touched = np.where(stream, _dies(under_way, spread, units), units)
    whole = np.maximum(pages, 1.0)
    first = own + (1.0 + missing) * (t_read + transfer) + ecc + np.minimum(nbytes, page) / link_rate
    alone = first + busy * (whole / _dies(whole, spread, units) - 1.0)
    others = np.where(stream, under_way, in_flight * reads) - np.where(stream, pages, reads)
    trip = alone + 0.5 * busy * others / touched
    # A page is read once for the requests that share it. What is fetched ahead comes while the host takes the rest.
    share = np.where(stream, asked / np.maximum(fetching, 1.0), 1.0)
    served = np.minimum(own + nbytes / link_rate, trip)
    mean = np.where(fetched, np.maximum(served, share * trip), share * trip + (1.0 - share) * served)

    issue = _issue(cores, queues, cycles, clock, loss)
    stages = (busy * reads / units, transfer * reads / channels, 1.0 / request_rate, nbytes / link_rate, issue,
              mean / in_flight)
    chance = smooth_max(stages[0], stages[-1], np.where(stream, np.inf, KNEE))
    interval = np.maximum.reduce(np.broadcast_arrays(chance, *stages))
    # The last requests in flight are a burst that ends with its fullest die.
    burst = np.maximum.reduce(np.broadcast_arrays(
        mean - alone, busy * np.where(stream, 0.0, _fullest(in_flight * reads, units) - _fullest(reads, units)),
        *((in_flight - 1.0) * stage for stage in stages[:-1])))
    total = np.minimum(n, 1.0) * (np.maximum(alone, interval) + burst) + np.maximum(n - in_flight, 0.0) * interval
    return Read(total, *(n * stage for stage in stages))


def _dies(pages: Array, spread: Array, units: Array) -> Array:
    """Dies that a run of pages touches."""
    return np.minimum(np.power(np.maximum(pages, 1.0), spread), units)


def _fullest(pages: Array, units: Array) -> Array:
    """Expected pages on the fullest die when pages fall on dies by chance: mean and sqrt(2 ln dies) standard deviations."""
    mean = pages / units
    return np.maximum(mean + np.sqrt(2.0 * mean * (1.0 - 1.0 / np.maximum(units, 1.0)) * np.log(np.maximum(units, 1.0))), 1.0)


def _issue(cores: Array, queues: Array, cycles: Array, clock: Array, contention: Array) -> Array:
    """Time between requests that the issuing cores need: a queue takes from one core at a time. [s]"""
    sharing = np.maximum(cores / queues, 1.0)
    lost = 1.0 - contention * (1.0 - 1.0 / sharing)
    return cycles / (clock * np.minimum(cores, queues) * lost)
