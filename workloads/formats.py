"""Number formats as data: how many bits an element really takes, metadata included, and how it is multiplied."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib import resources
from typing import Literal

from pydantic import BaseModel, ConfigDict


class Format(BaseModel):
    """One way to store numbers.

    ``bits`` is the average per element *including* scales, zero points, outlier tables and codebooks, so that
    ``nbytes = numel * bits / 8``. ``compute`` names the engine rate used when both operands have this format
    (``fp16, bf16, tf32, fp32, fp64, fp8, int8, int4, fp4, fp6, int1``); a weight-only format is first turned into the
    activation's format, at ``dequant_ops`` vector operations per element.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    element_bits: float
    bits: float
    compute: str
    kind: Literal["float", "int", "ternary", "codebook", "block"]
    group: int = 0
    dequant_ops: float = 0.0
    source: str = ""

    @property
    def nbytes(self) -> float:
        return self.bits / 8
