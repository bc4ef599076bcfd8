"""Which neurons or experts are active at each step: made from a power law and a seed, or read from a file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sim.plan.neurons import activity

Active = NDArray[np.bool_]


def rounded(steps: int) -> int:
    """Steps to make where so many are needed, a power of 2: consecutive steps of a plan then ask for one and the same trace,
    which is made once, instead of each for one that is a step longer."""
    return 1 << max(steps - 1, 0).bit_length()


def synthetic(steps: int, layers: int, items: int, *, active: float, hot: float, mass: float, reuse: float, seed: int,
              tokens: float = 1.0, lo: float = 0.0, hi: float = 1.0, routed: float = 1.0) -> Active:
    """(steps, layers, items): which of ``items`` each layer uses. Item j stands at quantile ``lo`` + (j + 1/2) / items of the
    way to ``hi`` and is active for a token with the probability of that place in the power law (``sim.plan.neurons``), times
    ``routed``, in every step the same on average; used is what any of ``tokens`` tokens activates. With probability ``reuse``
    an item does at a step what it did at the one before, so that consecutive tokens share more than chance would have it.

    The same seed gives the same trace, and a longer one begins with the shorter one. Raises ``ValueError`` for a share
    outside its range.
    """
    if not 0 <= reuse < 1:
        raise ValueError(f"trace: reuse: must be at least 0 and below 1, found {reuse:g}")
    rng = np.random.default_rng(seed)
    p = routed * activity(lo + (np.arange(items) + 0.5) / items * (hi - lo), active, hot, mass)
    used = -np.expm1(tokens * np.log1p(-np.minimum(p, 1 - 1e-12)))
    out = np.empty((steps, layers, items), bool)
    now = rng.random((layers, items)) < used
    for s in range(steps):
        # One draw says whether an item does as before, and if not, what it does.
        draw = rng.random((layers, items))
        now = np.where(draw < reuse, now, draw < reuse + (1 - reuse) * used)
        out[s] = now
    return out


def routed(steps: int, layers: int, items: int, *, topk: int, skew: float, reuse: float, tokens: int,
           seed: int) -> NDArray[np.int64]:
    """(steps, layers, items): how many of ``tokens`` tokens each expert gets, ``topk`` experts a token. Expert j of a layer
    (in an order of its own) is liked in proportion to (j + 1)^-skew; with probability ``reuse`` a token picks an expert
    again that the token at its place picked a step before.

    Picks without replacement by the Gumbel method: the ``topk`` largest of log-weight plus noise.
    """
    if not 1 <= topk <= items:
        raise ValueError(f"trace: topk: must be between 1 and the {items} experts, found {topk}")
    if not 0 <= reuse < 1:
        raise ValueError(f"trace: reuse: must be at least 0 and below 1, found {reuse:g}")
    rng = np.random.default_rng(seed)
    liked = -skew * np.log(rng.permuted(np.broadcast_to(np.arange(1.0, items + 1), (layers, items)), axis=1))
    before = np.zeros((tokens, layers, items), bool)
    out = np.empty((steps, layers, items), np.int64)
    for s in range(steps):
        score = liked + rng.gumbel(size=(tokens, layers, items))
        score = np.where(before & (rng.random(before.shape) < reuse), np.inf, score)
        picks = np.argpartition(-score, topk - 1, axis=-1)[..., :topk]
        before = np.zeros_like(before)
        np.put_along_axis(before, picks, True, axis=-1)
        out[s] = before.sum(axis=0)
    return out


def read(path: str | Path, layers: int, items: int) -> Active:
    """A trace of a user's: an ``.npy`` file of booleans (steps, layers, items). Raises ``ValueError`` with one line."""
    try:
        found = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: not a readable .npy file: {error}") from None
    if found.ndim != 3 or found.dtype != bool or found.shape[1:] != (layers, items):
        raise ValueError(f"{path}: expected booleans of shape (steps, {layers}, {items}), found {found.dtype} {found.shape}")
    trace: Active = found
    return trace
