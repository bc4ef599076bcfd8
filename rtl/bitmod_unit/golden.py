"""Golden model of ``bitmod_unit``, from the specification: signed power-of-two terms, alignment with jam. Integers only."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from rtl.base_fp16_mac.golden import fp16_value
from rtl.bitmod_unit.contract import FURTHEST, TERMS, in_use

#: Magnitudes of the float types by code, in units of 0.5.
MAGNITUDES = {4: (0, 1, 2, 3, 4, 6, 8, 12), 5: (0, 2, 4, 8)}

#: {sign, exponent, not zero}: (-1)^sign * not zero * 2^exponent.
Term = tuple[int, int, int]


class Step(NamedTuple):
    """One term of four weights: exponent, sum, distances of the lanes that count, whether anything fell off."""

    exp: int
    total: int
    distances: tuple[int, ...]
    jam: bool


def bitmod_terms(code: int, dtype: int, svs: Sequence[int], sel: int) -> list[tuple[Term, int]]:
    """(term, exponent that the step has in common) of each step for one code; ``svs`` are bytes {term 1, term 0}."""
    kind = in_use(dtype)
    if kind < 4:
        return [(_digit(code, k), 2 * k) for k in range(TERMS[kind])]
    width = 7 - kind                                       # bits of the magnitude's code: 3 or 2
    sign, mag = code >> width & 1, MAGNITUDES[kind][code & ((1 << width) - 1)]
    if sign and not mag:
        halves = svs[sel] & 15, svs[sel] >> 4
        return [((h >> 3, h >> 1 & 3, h & 1), b) for h, b in zip(halves, (1, 0), strict=True)]
    top = max((e for e in range(4) if mag >> (e + 1) & 1), default=None)
    rest = mag - (0 if top is None else 2 << top)
    return [((sign, top or 0, int(top is not None)), 1), ((sign, max(rest.bit_length() - 1, 0), int(rest > 0)), 0)]


def _digit(code: int, k: int) -> Term:
    """Radix-4 Booth digit k of a two's complement code."""
    low, mid, high = ((code << 1) >> (2 * k + i) & 1 for i in range(3))
    d = low + mid - 2 * high
    return int(d < 0), int(abs(d) == 2), int(d != 0)


def shift_jam(x: int, d: int) -> int:
    """x / 2^d rounded down, bit 0 set if anything was lost; in two's complement."""
    return x >> d | int(x & ((1 << d) - 1) != 0)


def steps(act: Sequence[int], codes: Sequence[int], dtype: int, svs: Sequence[int], sel: int) -> Iterator[Step | None]:
    """Every step of a group of whole quads; ``None`` where no lane counts."""
    for q in range(0, len(act), 4):
        values = [fp16_value(a) for a in act[q:q + 4]]
        terms = [bitmod_terms(c, dtype, svs, sel) for c in codes[q:q + 4]]
        for k in range(TERMS[in_use(dtype)]):
            lanes = [(m if not t[k][0][0] else -m, e + 25 + t[k][0][1]) for (m, e, _), t in zip(values, terms, strict=True)
                     if m and t[k][0][2]]
            if not lanes:
                yield None
                continue
            top = max(e for _, e in lanes)
            d = tuple(min(FURTHEST, top - e) for _, e in lanes)
            p = [shift_jam(abs(m) << 3, x) for (m, _), x in zip(lanes, d, strict=True)]
            total = sum(-x if m < 0 else x for (m, _), x in zip(lanes, p, strict=True))
            jam = any((abs(m) << 3) & ((1 << x) - 1) for (m, _), x in zip(lanes, d, strict=True))
            yield Step(top + terms[0][k][1], total, d, jam)


def accumulate(m: int, e: int, step: Step | None) -> tuple[int, int, bool]:
    """(mantissa, exponent, whether anything fell off) after one step."""
    if step is None:
        return m, e, False
    if m == 0:
        return step.total, step.exp, False
    moved, d = (m, step.exp - e) if step.exp > e else (step.total, e - step.exp)
    stays = step.total if step.exp > e else m
    return stays + shift_jam(moved, d), max(e, step.exp), moved & ((1 << d) - 1) != 0


def bitmod_group(act: Sequence[int], codes: Sequence[int], dtype: int, svs: Sequence[int], sel: int,
                 scale: int) -> tuple[int, int]:
    """(man, exp) of a group: activations uint16[n] (binary16), codes uint8[n]; a part quad is filled with zero codes.

    value = man * 2^(exp - 28) for integer types, 2^(exp - 29) for EFP types.
    """
    fill = [0] * (-len(act) % 4)
    m = e = 0
    for step in steps([*act, *fill], [*codes, *fill], dtype, svs, sel):
        m, e, _ = accumulate(m, e, step)
    return m * scale, e


def value_of(code: int, dtype: int, svs: Sequence[int], sel: int) -> float:
    """The weight that a code stands for, EFP types in whole units."""
    half = 0.5 if in_use(dtype) >= 4 else 1.0
    return half * sum((1 - 2 * s) * m * (1 << (e + b)) for (s, e, m), b in bitmod_terms(code, dtype, svs, sel))


def bitmod_exact(act: Sequence[int], codes: Sequence[int], dtype: int, svs: Sequence[int], sel: int, scale: int) -> float:
    """The group's sum in float64, for the error report."""
    total = 0.0
    for a, c in zip(act, codes, strict=True):
        m, e, _ = fp16_value(a)
        total += m * 2.0 ** e * value_of(c, dtype, svs, sel)
    return total * scale
