"""What a serving system reports, beside what its kernels take: waiting, scheduling, tokeniser and network come on top.

Kernel times bound a served figure from below, roughly; how far above it lies was learned from published serving points
(``accel_models/fitted/serving.toml``), every system weighing the same and each tested without itself. It is a spread
over systems and not a model of one: kept apart from the kernels' own interval, and given only where a serving framework
is named.
"""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from accel_models.cost.terms import Array, as_floats
from accel_models.fitted_store import lookup

#: Frameworks whose served figures were compared.
FRAMEWORKS = ("vllm", "sglang", "trtllm")


def interrupted(tpot: ArrayLike, ttft: ArrayLike, batch: ArrayLike, osl: ArrayLike) -> Array:
    """Mean time per output token where the prefills of the others come between one's own steps [s].

    In the steady state of ``batch`` requests each of the others is replaced once while one writes its ``osl`` tokens.
    """
    tpot, ttft, batch, osl = as_floats(tpot, ttft, batch, osl)
    out: Array = tpot + (batch - 1.0) * ttft / osl
    return out


def served(metrics: dict[str, Any], batch: float, osl: float, framework: str) -> dict[str, dict[str, float]]:
    """TTFT and TPOT as a load generator reports them: the kernels' figure and the 80 % interval over systems [s].

    Empty without a serving framework, or where nothing is generated.
    """
    if framework.split("-")[0].lower() not in FRAMEWORKS or "tpot_s" not in metrics:
        return {}
    ttft = metrics["ttft_s"]["value"]
    tpot = float(interrupted(metrics["tpot_s"]["value"], ttft, batch, osl))
    out = {}
    for name, value in (("ttft_s", ttft), ("tpot_s", tpot)):
        found = lookup("serving", name.removesuffix("_s"), "", "", framework).params
        out[name] = {"value": value, "lo": value * found.lo["all"], "hi": value * found.hi["all"]}
    return out


def note(figures: dict[str, dict[str, float]]) -> str:
    """The served figures in one line."""
    said = [f"{title} {1e3 * f['lo']:.3g} .. {1e3 * f['hi']:.3g} ms" for key, title in (("ttft_s", "TTFT"), ("tpot_s", "TPOT"))
            if (f := figures.get(key))]
    return "with host and software, over measured serving systems (80 %): " + ", ".join(said)
