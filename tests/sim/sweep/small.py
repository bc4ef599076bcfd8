"""Small experiments for tests, as text with parts replaced."""

from sim.sweep.run import read
from sim.sweep.space import Space

HEAD = """version = 1
model = "llama-3.1-8b"
hardware = { base = "h200_sxm" }
workload = { isl = 512, osl = 64 }
"""
OBJECTIVES = """
[sweep.objectives]
tokens_per_s_per_gpu = "max"
j_per_output_token = "min"
"""


def text(sweep: str, *, head: str = HEAD, objectives: str = OBJECTIVES) -> str:
    return f"{head}\n{sweep}\n{objectives}"


def made(sweep: str, **parts: str) -> Space:
    return read(text(sweep, **parts), "x.toml")


#: 1176 points in 19 chunks, of several groups, some of which cannot be and some of which do not fit.
SEVERAL = """[sweep.grid]
"deployment.tp" = [1, 2, 3]
"model.quant" = ["", "fp8"]
[sweep.range]
"hardware.memory.hbm.capacity" = { from = "10 GB", to = "150 GB", n = 14 }
"workload.concurrency" = { from = 1, to = 400, n = 15, scale = "log" }
"""
