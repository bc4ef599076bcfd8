"""Bits per element of the formats against bytes that tiny encoders really write, and against published figures."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from workloads.formats import get_format, list_formats

RNG = np.random.default_rng(0)


def pack_bits(codes: np.ndarray, width: int) -> bytes:
    """Codes of ``width`` bits one after another, no gaps."""
    bits = (codes.astype(np.uint32).ravel()[:, None] >> np.arange(width, dtype=np.uint32)) & 1
    return np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()


def pack_groups(w: np.ndarray, width: int, group: int, *, zero: bool = False) -> bytes:
    x = w.reshape(-1, group)
    low, top = (x.min(1), x.max(1)) if zero else (-np.abs(x).max(1), np.abs(x).max(1))
    scale = (top - low) / (2**width - 1)
    codes = np.clip(np.round((x - low[:, None]) / scale[:, None]), 0, 2**width - 1)
    zeros = pack_bits(np.clip(np.round(-low / scale), 0, 2**width - 1), width) if zero else b""
    return pack_bits(codes, width) + scale.astype(np.float16).tobytes() + zeros


def pack_mx(w: np.ndarray, width: int, group: int) -> bytes:
    x = w.reshape(-1, group)
    exponent = np.floor(np.log2(np.abs(x).max(1))) + 127
    codes = RNG.integers(0, 2**width, x.shape)     # the code's meaning does not change its size
    return pack_bits(codes, width) + exponent.astype(np.uint8).tobytes()


def pack_2of4(w: np.ndarray) -> tuple[bytes, np.ndarray]:
    x = w.reshape(-1, 4)
    keep = np.sort(np.argsort(-np.abs(x), axis=1)[:, :2], axis=1)
    return pack_bits(keep, 2), np.take_along_axis(x, keep, 1)


def pack_ternary(t: np.ndarray) -> bytes:
    return bytes(((t.reshape(-1, 5) + 1) @ 3 ** np.arange(5)).astype(np.uint8))


def unpack_ternary(b: bytes) -> np.ndarray:
    return (np.frombuffer(b, np.uint8)[:, None] // 3 ** np.arange(5) % 3).astype(int).ravel() - 1


W = RNG.normal(size=(64, 1280))


@pytest.mark.parametrize(("name", "width", "group", "zero"), [
    ("int4_g128", 4, 128, False), ("int4_g128z", 4, 128, True), ("int3_g64z", 3, 64, True), ("int8_g32", 8, 32, False),
    ("int2_g16", 2, 16, False), ("int5_g80z", 5, 80, True),
])
def test_groups_take_what_an_encoder_writes(name: str, width: int, group: int, zero: bool) -> None:
    assert len(pack_groups(W, width, group, zero=zero)) == W.size * get_format(name).bits / 8


@pytest.mark.parametrize(("name", "width", "group"),
                         [("mxfp4", 4, 32), ("mxfp6", 6, 32), ("mxfp8", 8, 32), ("nvfp4", 4, 16), ("msfp12", 4, 16)])
def test_blocks_take_what_an_encoder_writes(name: str, width: int, group: int) -> None:
    assert len(pack_mx(W, width, group)) == W.size * get_format(name).bits / 8


def test_two_of_four_takes_what_an_encoder_writes() -> None:
    index, values = pack_2of4(W)
    assert len(index) + values.size * 2 == W.size * get_format("bf16+2:4").bits / 8
    assert len(index) + len(pack_groups(values, 4, 128)) == W.size * get_format("int4_g128+2:4").bits / 8


def test_ternary_five_in_a_byte() -> None:
    t = RNG.integers(-1, 2, 1280)
    packed = pack_ternary(t)
    assert np.array_equal(unpack_ternary(packed), t)
    assert len(packed) == t.size * get_format("ternary").bits / 8


def test_powers_of_two_fill_their_codes() -> None:
    """A sign and an exponent and no zero: 2^bits values, all of them in the 8 bits of ``compute`` but the largest of four."""
    for name, largest in (("pot2", 2), ("pot3", 8), ("pot4", 128)):
        f = get_format(name)
        values = {s * 2**e for s in (-1, 1) for e in range(2 ** (int(f.bits) - 1))}
        assert len(values) == 2**f.bits
        assert max(values) == largest
        assert len(values - set(range(-128, 128))) == (name == "pot4")
        assert (f.kind, f.compute) == ("pot", "int8")
    assert get_format("pot3_g128").bits == 3 + 16 / 128


def test_outliers_pay_value_and_index() -> None:
    n = W.size
    k = n // 100
    table = np.zeros(k, np.float16).tobytes() + np.zeros(k, np.uint16).tobytes()
    got = n * get_format("int4_g16+out1%").bits / 8
    assert got == pytest.approx(len(pack_groups(W, 4, 16)) + len(table), rel=1e-3)


# Published figures, not computed by the loader's rule.
@pytest.mark.parametrize(("name", "bits"), [
    ("fp8", 8), ("nvfp4", 4.5), ("mxfp4", 4.25), ("mxfp8", 8.25), ("q4_0", 4.5), ("Q4_K", 4.5), ("q8_0", 8.5),
    ("q6_k", 6.5625), ("q2_k", 2.625), ("nf4_dq", 4.127), ("fp8_block128", 8 + 32 / 128**2), ("ternary2", 2),
    ("msfp12", 4.5), ("q5_k", 5.5), ("iq4_xs", 4.25), ("iq2_xs", 2.3125), ("vq16x8", 2.5), ("vq8x8", 1.001953125),
])
def test_published_bits(name: str, bits: float) -> None:
    assert get_format(name).bits == pytest.approx(bits, rel=1e-4)


def test_every_listed_format_is_whole() -> None:
    rates = {"fp16", "bf16", "tf32", "fp32", "fp64", "fp8", "int8", "int4", "fp4", "fp6", "int1"}
    for name in list_formats():
        f = get_format(name)
        assert f.bits >= f.element_bits > 0, name
        assert f.compute in rates, name
        assert f.source, name


@given(width=st.integers(1, 8), group=st.integers(1, 4096), zero=st.booleans(), m=st.integers(1, 16),
       n=st.integers(1, 16), share=st.integers(0, 100))
def test_composition_laws(width: int, group: int, zero: bool, m: int, n: int, share: int) -> None:
    n, m = min(n, m), max(n, m)
    name = f"int{width}_g{group}{'z' if zero else ''}"
    base = get_format(name)
    assert base.bits > get_format(f"int{width}").bits
    sparse = get_format(f"{name}+{n}:{m}")
    assert sparse.sparsity == (n, m)
    index_bits = 0 if n == m else min(max(1, int(m - 1).bit_length()), m / n)        # indices, or a mask of m bits
    assert sparse.bits == pytest.approx((base.bits + index_bits) * n / m)
    assert get_format(f"{name}+out{share}%").bits == pytest.approx(base.bits + 0.32 * share)


@pytest.mark.parametrize("bad", ["int44", "q4_9", "int4_g0", "int4+3:2", "int4+zap", "mxfp4_g32", "vq40x8", "",
                                 "int4_g8+2:4+1:4"])
def test_bad_names_say_so_in_one_line(bad: str) -> None:
    with pytest.raises(ValueError, match=r"found|format") as e:
        get_format(bad)
    assert "\n" not in str(e.value)
    assert "did you mean" in str(e.value)
