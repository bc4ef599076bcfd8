"""Number formats as data: how many bits an element really takes, metadata included, and how it is multiplied.

Named formats stand in ``formats.toml``. A small grammar composes further ones, so that nobody has to edit the file::

    ELEMENT[_gN][z][_sB][+N:M][+outP%]

    int4_g128         4 + 16/128        a 16-bit scale per 128 elements
    int3_g64z         3 + (16 + 3)/64   and a zero point of the element's width
    int4_g32_s8       4 + 8/32          scale of 8 bits
    int4_g128+2:4     2 of 4 kept, each with a 2-bit index; groups count kept elements
    int4+11:16        11 of 16 kept, with a mask of 16 bits, which is smaller than eleven 4-bit indices
    int4_g16+out1%    1 % of the elements besides in a side table of 16-bit value and 16-bit index (SpQR)
    vq16x8            one 16-bit index per 8 elements, 16-bit codebook amortised over 4096 x 4096 elements
    bit3              3 binary planes, multiplied one by one as 1-bit products if both operands are (ABQ-LLM)

``ELEMENT`` is any named format; a named format that has groups already takes only the ``+`` parts. Further parts say
how a kernel goes about it, and add work rather than bits::

    int8+col0.5%      0.5 % of the columns (of k) of an activation multiplied apart in 16 bit (LLM.int8)
    int4+mix25%int8   25 % of the columns in int8, in the same kernel, at the rate of int8 (COMET, Atom)
    int4+ops4         4 more vector operations an element to unpack (a detour of the layout through the scratchpad)
    nf4+apart         unpacked to 16 bits in memory by a kernel of its own, then a 16-bit product (bitsandbytes)
    int8+ready        activations that arrive in this format: no kernel quantises them before the product
    int8+around8a8c8  8 kernels around each product that move 8 B an element of A and 8 B an element of C (LLM.int8)
"""

from __future__ import annotations

import difflib
import math
import re
import tomllib
from functools import cache
from importlib import resources
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

SCALE_BITS = 16       # of a composed group: fp16 or bf16, as GPTQ and AWQ checkpoints store it
OUTLIER_BITS = 16 + 16  # SpQR (arXiv:2306.03078, section 4.2): 16-bit value and 16-bit column index
SECTOR = 32           # bytes that a gather fetches at least: a sector of a GPU's cache line (CUDA C++ programming guide)
CODEBOOK_SPAN = 4096 * 4096  # elements that share one composed codebook: a matrix of a 7B model (assumed)


class Format(BaseModel):
    """One way to store numbers.

    ``bits`` is the average per element *including* scales, zero points, outlier tables and codebooks, so that
    ``nbytes = numel * bits / 8``. ``compute`` names the engine rate used when both operands have this format
    (``fp16, bf16, tf32, fp32, fp64, fp8, int8, int4, fp4, fp6, int1``); a weight-only format is first turned into the
    activation's format, at ``dequant_ops`` vector operations per element.
    ``sparsity`` is (kept, of) for N:M formats; (1, 1) is dense. ``kind`` "pot" are powers of two: a sign and an exponent.

    How a kernel goes about it: ``planes`` binary planes multiplied one by one; ``codebook`` bytes of tables, of which
    ``gather`` bytes an element are fetched where they exceed the scratchpad; ``elements`` and ``columns`` shares that
    a kernel of their own multiplies in 16 bit; ``mix`` the share of columns in ``mix_format``; ``apart`` unpacked in
    memory first; ``ready`` not quantised before the product; ``kernels`` further kernels around it, which move
    ``moved_a`` and ``moved_c`` bytes an element of A and C. ``base`` is the name without the parts that are kernels.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    element_bits: float
    bits: float
    compute: str
    kind: Literal["float", "int", "ternary", "codebook", "block", "pot"]
    group: int = 0
    dequant_ops: float = 0.0
    source: str = ""
    sparsity: tuple[int, int] = (1, 1)
    base: str = ""
    planes: int = 0
    codebook: float = 0.0
    gather: float = 0.0
    elements: float = 0.0
    columns: float = 0.0
    mix: float = 0.0
    mix_format: str = ""
    apart: bool = False
    ready: bool = False
    kernels: float = 0.0
    moved_a: float = 0.0
    moved_c: float = 0.0

    @property
    def nbytes(self) -> float:
        return self.bits / 8


@cache
def _tables() -> dict[str, Any]:
    return tomllib.loads(resources.files("workloads").joinpath("formats.toml").read_text(encoding="utf-8"))


@cache
def list_formats() -> tuple[str, ...]:
    """Names in the file, aliases apart; the grammar makes more."""
    t = _tables()
    return (*t["plain"], *t["grouped"], *t["blocks"])


def _unknown(name: str, why: str = "unknown number format") -> ValueError:
    names = [*list_formats(), *_tables()["alias"]]
    near = difflib.get_close_matches(name.lower(), names, n=3, cutoff=0.5) or ["bf16", "fp8", "int4_g128"]
    return ValueError(f"{why} {name!r}; did you mean {', '.join(near)}?")


def _named(name: str) -> Format | None:
    t = _tables()
    name = t["alias"].get(name, name)
    if found := re.fullmatch(r"bit([1-8])", name):
        bits = int(found[1])
        return Format(name=name, element_bits=bits, bits=bits, compute="int1", kind="int", dequant_ops=2, planes=bits,
                      source=t["sources"]["planes"])
    if name in t["plain"]:
        bits, compute, kind, ops, src = t["plain"][name]
        return Format(name=name, element_bits=bits, bits=bits, compute=compute, kind=kind, dequant_ops=ops,
                      source=t["sources"][src])
    if name in t["grouped"]:
        element, group, scale, zero, compute, kind, src = t["grouped"][name]
        bits, ops = t["plain"][element][0], t["plain"][element][3]
        return Format(name=name, element_bits=bits, bits=bits + (scale + zero) / group, compute=compute, kind=kind,
                      group=group, dequant_ops=ops, source=t["sources"][src])
    if name in t["blocks"]:
        nbytes, numel, compute, kind, ops, src = t["blocks"][name]
        return Format(name=name, element_bits=math.floor(8 * nbytes / numel), bits=8 * nbytes / numel, compute=compute,
                      kind=kind, group=numel, dequant_ops=ops, source=t["sources"][src],
                      **dict(zip(("codebook", "gather"), t["codebooks"].get(name, ()), strict=False)))
    return None


def _codebook(name: str) -> Format | None:
    found = re.fullmatch(r"vq(\d+)x(\d+)", name)
    if not found:
        return None
    index, length = int(found[1]), int(found[2])
    if not (1 <= index <= 24 and length >= 1):
        raise _unknown(name, "codebook of 1 to 24 index bits and vectors of 1 element or more expected, found")
    bits = index / length + 2**index * length * 16 / CODEBOOK_SPAN
    return Format(name=name, element_bits=index / length, bits=bits, compute="bf16", kind="codebook", group=length,
                  dequant_ops=2, codebook=2.0**index * length * 2, gather=math.ceil(2 * length / SECTOR) * SECTOR / length,
                  source="composed; table look-up and scale, assumed")


def _grouped(name: str) -> Format | None:
    """ELEMENT_gN[z][_sB]"""
    found = re.fullmatch(r"(\w+?)_g(\d+)(z?)(?:_s(\d+))?", name)
    base = _named(found[1]) if found else None
    if not found or base is None:
        return None
    group, scale = int(found[2]), int(found[4] or SCALE_BITS)
    if base.group or group < 1:
        raise _unknown(name, "a group of 1 element or more over a format without groups expected, found")
    zero = math.ceil(base.element_bits) if found[3] else 0
    return base.model_copy(update={
        "name": name, "bits": base.bits + (scale + zero) / group, "group": group,
        "dequant_ops": base.dequant_ops + (1 if zero else 0), "source": f"{base.source}; {scale}-bit scale a group"})


def _with_part(base: Format, part: str, name: str) -> Format:
    """Add one ``+`` part to a format: N:M sparsity, a side table, or how the kernel goes about it."""
    if found := re.fullmatch(r"(\d+):(\d+)", part):
        kept, of = int(found[1]), int(found[2])
        if not 1 <= kept <= of or base.sparsity != (1, 1):
            raise _unknown(name, "one N:M sparsity with 1 <= N <= M expected, found")
        index = min(math.ceil(math.log2(of)), of / kept) if kept < of else 0      # or a mask of one bit per position
        return base.model_copy(update={"bits": (base.bits + index) * kept / of, "sparsity": (kept, of),
                                       "base": f"{base.base}+{part}"})
    if (found := re.fullmatch(r"(out|col|mix)(\d+(?:\.\d+)?)%(\w*)", part)) and float(found[2]) <= 100:
        return base.model_copy(update=_share(base, found[1], float(found[2]) / 100, found[3], name))
    if found := re.fullmatch(r"ops(\d+)", part):
        return base.model_copy(update={"dequant_ops": base.dequant_ops + int(found[1]), "base": f"{base.base}+{part}"})
    if part == "apart":
        return base.model_copy(update={"apart": True})
    if part == "ready":
        return base.model_copy(update={"ready": True, "base": f"{base.base}+ready"})
    if found := re.fullmatch(r"around(\d+)a(\d+)c(\d+)", part):
        return base.model_copy(update={"kernels": float(found[1]), "moved_a": float(found[2]), "moved_c": float(found[3])})
    raise _unknown(name, f"part {part!r} is none of N:M, outP%, colP%, mixP%FORMAT, opsN, apart, ready, aroundKaXcY in number "
                         f"format")


def _share(base: Format, kind: str, share: float, other: str, name: str) -> dict[str, Any]:
    """Fields that change when a share of the elements is held in another format."""
    if kind == "mix":
        second = _named(other)
        if second is None or base.mix:
            raise _unknown(name, "one mixP% with a named format behind it expected, found")
        return {"bits": base.bits + share * (second.bits - base.element_bits), "mix": share, "mix_format": second.name,
                "base": f"{base.base}+mix{100 * share:g}%{other}"}
    if other:
        raise _unknown(name, f"{kind}P% takes no format behind it, found")
    if kind == "col":
        return {"bits": base.bits + share * (16 - base.element_bits), "columns": share}
    # one more multiply-add per outlier on top of the dense part
    return {"bits": base.bits + share * OUTLIER_BITS, "dequant_ops": base.dequant_ops + share, "elements": share}


@cache
def get_format(name: str) -> Format:
    """The format of that name, from the file or composed by the grammar above. Case does not matter."""
    head, *parts = name.strip().lower().split("+")
    found = _named(head) or _codebook(head) or _grouped(head)
    if found is None:
        raise _unknown(name)
    found = found.model_copy(update={"base": head})
    for part in parts:
        found = _with_part(found, part, name)
    return found.model_copy(update={"name": name.strip().lower()}) if parts else found
