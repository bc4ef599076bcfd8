"""Golden model of ``base_fp16_mac``: exact products, one rounding per addition, half to even. Integers only."""

from __future__ import annotations

from collections.abc import Iterable

#: The largest finite binary16: infinities and NaNs read as it, with their sign.
LARGEST = 0x7BFF


def fp16_value(bits: int) -> tuple[int, int, bool]:
    """(signed significand, exponent, was infinity or NaN): value = significand * 2^exponent, exponent >= -24."""
    bad = (bits >> 10) & 31 == 31
    code = (bits & 0x8000) | LARGEST if bad else bits
    e, f = (code >> 10) & 31, code & 1023
    m = f | (1024 if e else 0)
    return (-m if code >> 15 else m), max(e, 1) - 25, bad


def round_even(m: int, bits: int) -> tuple[int, int]:
    """(m', s): |m| rounded half to even to at most ``bits`` bits, value m' * 2^s, sign kept."""
    s = max(0, abs(m).bit_length() - bits)
    q, rest = divmod(abs(m), 1 << s)
    half = (1 << s) >> 1
    q += int(rest > half or (rest == half and s > 0 and q & 1 == 1))
    return (-q if m < 0 else q), s


def fp16_mac(pairs: Iterable[tuple[int, int]], am: int) -> int:
    """Bits {sign, 8-bit exponent, am-bit fraction} of the running sum over pairs of binary16 codes.

    Every addition is rounded to am + 1 significant bits; an exact zero is +0. am = 23 is binary32.
    """
    m, e = 0, 0                                                   # sum = m * 2^e
    for a, w in pairs:
        (ma, ea, _), (mw, ew, _) = fp16_value(a), fp16_value(w)
        low = min(e, ea + ew) if m else ea + ew
        m, s = round_even((m << (e - low) if m else 0) + ((ma * mw) << (ea + ew - low)), am + 1)
        e = low + s
    if m == 0:
        return 0
    top = abs(m).bit_length() - 1
    fraction = (abs(m) << am >> top) & ((1 << am) - 1)
    return (int(m < 0) << (am + 8)) | ((e + top + 127) << am) | fraction
