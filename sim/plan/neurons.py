"""Neurons of a feed-forward part that are rarely active: which are, how many a batch needs, and the work for a part of them.

Activity over the neurons follows a power law: ordered from the most to the least active, the neuron at the share u of all
is active for a token with probability p(u) = min(1, c u^-s). Both follow from a measured locality (the share ``hot`` of
the neurons makes the share ``mass`` of all activations) and the mean activity.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from workloads.formats import get_format
from workloads.ops import Elementwise, Gemm, Moe, Op

#: Quantiles on which the power law is summed; halving them moves no share by more than 0.1 %.
_GRID = 4096


@dataclass(frozen=True)
class Neurons:
    """``dense``: ops of the whole part before any neuron was left out. ``active``: mean share active for a token (of the
    experts that it is routed to). ``lo`` to ``hi``: the neurons meant, as quantiles of their order; ``of``: share of those,
    taken without regard to activity. ``mass`` <= ``hot``: all equally active. ``whole``: computed whether active or not."""

    dense: tuple[Op, ...]
    active: float
    hot: float
    mass: float
    lo: float = 0.0
    hi: float = 1.0
    of: float = 1.0
    whole: bool = False

    def part(self, lo: float, hi: float) -> Neurons:
        """Those between two quantiles of these."""
        width = self.hi - self.lo
        return replace(self, lo=self.lo + lo * width, hi=self.lo + hi * width)

    def thinned(self, share: float) -> Neurons:
        """A share of these, each as likely as the other."""
        return replace(self, of=self.of * share)

    @property
    def width(self) -> float:
        """Share of all neurons that lie here."""
        return self.of * (self.hi - self.lo)

    @property
    def routed(self) -> float:
        """Share of the neurons whose expert a token is routed to; 1 without experts."""
        return next((min(_number(op.topk) / _number(op.n_experts), 1.0) for op in self.dense if isinstance(op, Moe)), 1.0)

    @property
    def count(self) -> int:
        """Neurons of the whole part, all experts together: inputs of the product that comes back from them."""
        if (moe := next((op for op in self.dense if isinstance(op, Moe)), None)) is not None:
            return round(_number(moe.n_experts) * _number(moe.inter))
        return round(max(_number(op.k) for op in self.dense if isinstance(op, Gemm)))

    @property
    def matrices(self) -> int:
        """Matrices that a neuron has a row of: two, or three where a gate goes beside."""
        if (moe := next((op for op in self.dense if isinstance(op, Moe)), None)) is not None:
            return 3 if moe.gated else 2
        sides = [(_number(op.n), _number(op.k)) for op in self.dense if isinstance(op, Gemm)]
        return 1 + round(sum(n for n, k in sides if n > k) / self.count)

    @property
    def record(self) -> float:
        """Stored bytes of one neuron's rows in all matrices; biases, which no read should need, are not among them."""
        if (moe := next((op for op in self.dense if isinstance(op, Moe)), None)) is not None:
            return self.matrices * _number(moe.hidden) * get_format(moe.w).nbytes
        return sum(_number(op.n) * _number(op.k) * get_format(op.w).nbytes for op in self.dense
                   if isinstance(op, Gemm)) / self.count

    def share(self, tokens: float) -> float:
        """Share of all neurons (of an expert in use: of its own) that lie here and that at least one of ``tokens`` tokens
        needs."""
        if self.whole:
            return self.width
        # An expert sees the tokens routed to it, at least the one for which it is computed.
        each = max(tokens * self.routed, 1.0)
        return self.of * _share_of(self.lo, self.hi, self.active, self.hot, self.mass, each)

    def ops(self, tokens: float, part: float = 1.0) -> tuple[Op, ...]:
        """The dense ops shrunk to the neurons that ``tokens`` tokens need here, or to a part of them. Outputs of the first
        products and inputs of the last are neurons. A neuron is read once and multiplied for the tokens that activate it
        alone, so that operations stay in proportion to the tokens while bytes go with the union."""
        share = self.share(tokens)
        rows = 1.0 if self.whole or share == 0 else min(tokens * self.share(1.0) / share, tokens) / tokens
        experts = any(isinstance(op, Moe) for op in self.dense)     # then the products beside them are the router's
        return tuple(_shrunk(op, part * share, rows) if isinstance(op, Moe) or not experts else op for op in self.dense)


@lru_cache(maxsize=4096)
def _share_of(lo: float, hi: float, active: float, hot: float, mass: float, tokens: float) -> float:
    u = lo + (np.arange(_GRID) + 0.5) / _GRID * (hi - lo)
    p = activity(u, active, hot, mass)
    return float(-np.expm1(tokens * np.log1p(-np.minimum(p, 1 - 1e-12))).mean()) * (hi - lo)


def activity(u: NDArray[np.float64], active: float, hot: float, mass: float) -> NDArray[np.float64]:
    """Probability that the neuron at quantile ``u`` is active for a token. Its mean is ``active``, and the first ``hot`` of
    the neurons make the share ``mass`` of it.

    Raises ``ValueError`` for shares outside (0, 1], and where so few neurons cannot make so much: none is active more often
    than always.
    """
    for name, value in (("active", active), ("hot", hot), ("mass", mass)):
        if not 0 < value <= 1:
            raise ValueError(f"neurons: {name}: must be above 0 and at most 1, found {value:g}")
    if hot >= mass:
        return np.full_like(u, active)
    if mass * active >= hot:
        raise ValueError(f"neurons: mass: {hot:g} of the neurons make less than {hot / active:.3g} of the activations, each at "
                         f"most one a token, found {mass:g}")
    c, s = _law(active, hot, mass)
    return _capped(u, c, s)


def _capped(u: NDArray[np.float64], c: float, s: float) -> NDArray[np.float64]:
    found: NDArray[np.float64] = np.exp(np.minimum(c - s * np.log(np.maximum(u, 1e-300)), 0.0))
    return found


@lru_cache(maxsize=256)
def _law(active: float, hot: float, mass: float) -> tuple[float, float]:
    """(ln c, s) of min(1, c u^-s), by bisection: a larger ``s`` gives more to the first, ``c`` then keeps the mean."""
    grid = (np.arange(_GRID) + 0.5) / _GRID
    first = np.clip(hot * _GRID - np.arange(_GRID), 0.0, 1.0) / _GRID      # the cell at the border counts in part

    def scale(s: float) -> float:
        low, high = math.log(active), s * math.log(_GRID)
        low, high = min(low - s * math.log(_GRID * 2), low), max(high, 0.0)
        for _ in range(50):
            c = (low + high) / 2
            low, high = (c, high) if _capped(grid, c, s).mean() < active else (low, c)
        return (low + high) / 2

    low, high = 0.0, 64.0
    for _ in range(40):
        s = (low + high) / 2
        low, high = (s, high) if (_capped(grid, scale(s), s) * first).sum() < mass * active else (low, s)
    return scale(low), low


def _shrunk(op: Op, share: float, rows: float) -> Op:
    if isinstance(op, Moe):
        return replace(op, inter=_number(op.inter) * share)
    if isinstance(op, Gemm):
        # The product that widens to the neurons has more outputs than inputs; the one that comes back has fewer.
        m, n, k = rows * _number(op.m), _number(op.n), _number(op.k)
        return replace(op, m=m, n=n * share) if n > k else replace(op, m=m, k=k * share)
    if isinstance(op, Elementwise):
        cols, read, written = (share * _number(x) for x in (op.cols, op.bytes_read, op.bytes_written))
        return replace(op, cols=cols, bytes_read=read, bytes_written=written)
    return op


def _number(value: ArrayLike) -> float:
    return float(np.asarray(value))
