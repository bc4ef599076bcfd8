"""Points of the unit cube: random, Latin hypercube, Sobol. Same seed, same points, on any machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def random(n: int, d: int, seed: int) -> Array:
    """Independent and uniform, shape (n, d) in [0, 1)."""
    return np.random.default_rng(seed).random((n, d))


def latin_hypercube(n: int, d: int, seed: int) -> Array:
    """One point in each of n slices of every axis [McKay, Beckman, Conover, Technometrics 21, 1979]."""
    rng = np.random.default_rng(seed)
    slices = np.stack([rng.permutation(n) for _ in range(d)], axis=1)
    return np.asarray((slices + rng.random((n, d))) / n)


def sobol(n: int, d: int, seed: int) -> Array:
    """Scrambled Sobol sequence (Owen scrambling, direction numbers of Joe and Kuo), by SciPy. Balanced where n is a power
    of two; any n is taken."""
    # scipy.stats takes half a second to import, more than everything else together; a sweep without Sobol pays nothing.
    from scipy.stats import qmc
    made: Any = qmc.Sobol(d, scramble=True, seed=np.random.default_rng(seed))
    whole = made.random_base2(int(np.ceil(np.log2(max(n, 1)))))
    return np.asarray(whole[:n], dtype=np.float64)


METHODS: dict[str, Callable[[int, int, int], Array]] = {"random": random, "lhs": latin_hypercube, "sobol": sobol}
