"""Points by event simulation: what a sweep finds is what ``simulate`` finds."""

import numpy as np
import pytest

from sim.query import Query
from sim.simulate import simulate
from sim.sweep import identity
from sim.sweep.evaluate import ERROR, INFEASIBLE, OK
from sim.sweep.run import chunk_size, evaluator
from sim.techniques import TECHNIQUES
from sim.techniques.technique import make
from tests.sim.sweep.small import made

HEAD = """version = 1
model = "llama-3.2-1b"
hardware = { base = "pc_high" }
workload = { isl = 64, osl = 16 }
simulation = { steps = 2 }
techniques = [{ use = "offload", via = "stream" }]
"""
OBJECTIVES = '\n[sweep.objectives]\ntpot_s = "min"\nused_bytes = "min"\n'
AXES = """[sweep]
evaluator = "events"
[sweep.grid]
"technique.offload.layers" = [4, 8]
"workload.concurrency" = [1, 4]
"""


def swept(sweep, head=HEAD, objectives=OBJECTIVES):
    space = made(sweep, head=head, objectives=objectives)
    columns, good = space.columns(np.arange(space.size))
    columns = {k: v[good] for k, v in columns.items()}
    return space, columns, evaluator(space)(space, columns)


def test_each_point_is_a_simulation():
    _, columns, found = swept(AXES)
    assert found.status.tolist() == [OK] * 4
    for i in range(4):
        technique = make("offload", {"via": "stream", "layers": int(columns["technique.offload.layers"][i])}, TECHNIQUES)
        batch = int(columns["workload.concurrency"][i])
        alone = simulate(Query(model="llama-3.2-1b", hw="pc_high", isl=64, osl=16, batch=batch), [technique], steps=2)
        assert found.figures["tpot_s"][i] == alone.metrics["tpot_s"]
        assert found.figures["tokens_per_s_per_gpu"][i] == alone.metrics["tokens_per_s"]
        assert (found.figures["tpot_s_lo"][i], found.figures["tpot_s_hi"][i]) == alone.intervals["tpot_s"]
    assert np.isnan(found.figures["ttft_s"]).all()           # not asked for, not simulated
    held = found.figures["used_bytes"][columns["workload.concurrency"] == 1]
    assert held[0] != held[1]


def test_hardware_numbers_prefill_and_what_does_not_fit():
    sweep = ('[sweep]\nevaluator = "events"\n[sweep.grid]\n"hardware.mem_bw" = ["500 GB/s", "1 TB/s"]\n'
             '"workload.concurrency" = [1, 100000]')
    _, columns, found = swept(sweep, head=HEAD.replace('{ use = "offload", via = "stream" }', ""),
                              objectives='\n[sweep.objectives]\ntpot_s = "min"\nttft_s = "min"\n')
    one = columns["workload.concurrency"] == 1
    assert found.status.tolist() == np.where(one, OK, INFEASIBLE).tolist()
    slow, fast = found.figures["tpot_s"][one]
    assert slow > 1.5 * fast
    assert (found.figures["ttft_s"][one] > 0).all()


def test_a_setting_that_cannot_be_is_an_error_of_its_points():
    _, _, found = swept(AXES.replace("[4, 8]", "[4, -7]"))
    assert found.status.tolist() == [OK, OK, ERROR, ERROR]
    assert "layers" in found.error[2]


@pytest.mark.parametrize(("old", "new", "wanted"), [
    ("technique.offload.layers", "technique.offload.layer", "unknown axis 'technique.offload.layer'; nearest: technique.offl"),
    ("technique.offload.layers", "technique.page_in.resident", "expected page_in once in techniques, found offload"),
    ('evaluator = "events"', "", "techniques are simulated: give evaluator = \"events\""),
    ('evaluator = "events"', 'evaluator = "event"', "'event' is not known; there is closed, events"),
    ('tpot_s = "min"', 'usd_per_m_output_tokens = "min"', 'evaluator = "events" gives no \'usd_per_m_output_tokens\''),
    ("workload.concurrency", "deployment.tp", "simulates one device"),
    ('via = "stream"', 'vai = "stream"', "technique offload: vai: unknown key"),
])
def test_bad_input_is_one_line(old, new, wanted):
    with pytest.raises(ValueError, match="(?s)" + wanted.replace("(", r"\(")) as error:
        made(AXES.replace(old, new), head=HEAD.replace(old, new), objectives=OBJECTIVES.replace(old, new))
    assert "\n" not in str(error.value)


def test_chunks_are_small_and_code_of_the_simulation_counts():
    space = made(AXES, head=HEAD, objectives=OBJECTIVES)
    assert chunk_size(space) == 2
    closed = made('[sweep.grid]\n"workload.concurrency" = [1]', head=HEAD.split("simulation")[0])
    (content,), (plain,) = (identity.contents(s).values() for s in (space, closed))
    assert content["code"] == plain["code"] + identity.simulated_version()
    assert content["code"] != plain["code"]
