"""Max-min fair sharing of memories and links by progressive filling: one rate for each flow over all of its route.

All flows rise together; a flow stops at its cap or when a resource of its route is full, the others go on. Every flow
is then at its cap or crosses a full resource on which none is faster (Bertsekas and Gallager, Data Networks, 2nd ed.,
section 6.5.2). One consequence is used by the laws: with n flows on the fullest resource of its route, a flow has
at least 1/n of the rate that it would have alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from sim.tasks import PS, Flow

#: Rates that differ by less than this share are one rate: the order of additions must not move the end of a flow.
SAME = 1e-12


class Link:
    """A shared memory or link and the flows that are on it now."""

    __slots__ = ("flows", "name", "rate")

    def __init__(self, name: str, rate: float) -> None:
        self.name, self.rate = name, rate              # [B/s]
        self.flows: dict[Stream, None] = {}            # an ordered set: sets of objects differ from process to process


class Stream:
    """A flow on its way: ``left`` bytes at ``since``, at ``rate`` from then on, so that it is over at ``end`` [ps]."""

    __slots__ = ("cap", "due", "end", "left", "over", "owner", "rate", "since")

    def __init__(self, flow: Flow, over: tuple[Link, ...], owner: Any = None) -> None:
        self.cap, self.over, self.owner = flow.cap, over, owner
        self.left, self.rate, self.since = flow.nbytes, 0.0, 0
        self.end = self.due = -1                       # due: the instant for which its end was last put on the agenda

    def join(self) -> None:
        for link in self.over:
            link.flows[self] = None

    def leave(self) -> None:
        for link in self.over:
            del link.flows[self]
        self.end = -1

    def move_at(self, rate: float, now: int) -> None:
        """Go on at ``rate``; a rate that stays leaves the end as it was, free of roundings."""
        if abs(rate - self.rate) > SAME * rate:
            self.left = max(0.0, self.left - self.rate * (now - self.since) / PS)
            self.rate, self.since = rate, now
            self.end = now + drain_ps(self.left, rate)


def drain_ps(nbytes: float, rate: float) -> int:
    """Time of ``nbytes`` at ``rate`` [B/s], to the nearest picosecond. The closed form and the engine both use it."""
    return round(nbytes / rate * PS)


def alone(flow: Flow, rates: Mapping[str, float]) -> float:
    """Rate of a flow that shares nothing. [B/s]"""
    return min(flow.cap, *(rates[name] for name in flow.over))


def connected(touched: Iterable[Link]) -> Iterator[tuple[list[Link], list[Stream]]]:
    """The links that can feel a change on those ``touched``, as groups that share flows, with all their flows."""
    seen: set[Link] = set()
    for first in touched:
        if first in seen:
            continue
        seen.add(first)
        links, flows = [first], dict[Stream, None]()
        for link in links:                             # grows while it is walked
            for flow in link.flows:
                if flow not in flows:
                    flows[flow] = None
                    for other in flow.over:
                        if other not in seen:
                            seen.add(other)
                            links.append(other)
        yield links, list(flows)


def fair_rates(links: Sequence[Link], flows: Sequence[Stream]) -> list[float]:
    """Max-min fair rate of each flow, in order. [B/s] ``links``: all that the flows cross, with no other flows on them."""
    if len(flows) == 1:
        return [min(flows[0].cap, *(link.rate for link in flows[0].over))]
    if len(links) == 1:
        return _fair_on_one(links[0].rate, [flow.cap for flow in flows])
    rates: dict[Stream, float] = {}
    left = {link: link.rate for link in links}
    count = {link: len(link.flows) for link in links}
    rising = list(flows)
    while rising:
        shares = {link: left[link] / n for link, n in count.items() if n}
        level = min(shares.values())
        just = level * (1 + SAME)
        stopped = {flow: flow.cap for flow in rising if flow.cap <= just}
        if not stopped:                                # caps first: they leave more to the others, never less
            full = {link for link, share in shares.items() if share <= just}
            stopped = {flow: level for flow in rising if not full.isdisjoint(flow.over)}
        for flow, rate in stopped.items():
            for link in flow.over:
                left[link] -= rate
                count[link] -= 1
        rates |= stopped
        rising = [flow for flow in rising if flow not in stopped]
    return [rates[flow] for flow in flows]


def _fair_on_one(rate: float, caps: Sequence[float]) -> list[float]:
    """The same for flows that share one link alone, without the search for the fullest."""
    left, n = rate, len(caps)
    level = left / n
    for cap in sorted(caps):
        if cap > level * (1 + SAME):
            return [c if c <= level * (1 + SAME) else level for c in caps]
        left, n = left - cap, n - 1
        level = left / n if n else cap
    return list(caps)
