"""What the parts of a board are called."""

from __future__ import annotations

import pytest

from accel_models.registry import load_system
from sim.plan.board import board


@pytest.mark.parametrize(("name", "engines"), [
    ("snapdragon_8_gen_3", ["npu", "cpu"]), ("snapdragon_8_gen_3.vector", ["cpu"]),
    ("apple_m1_max.cpu", ["cpu"]), ("pc_low", ["gpu", "cpu"]), ("vhk158", ["fpga"]),
])
def test_an_engine_is_called_what_it_is(name: str, engines: list[str]) -> None:
    assert list(board(load_system(name)).engines) == engines
