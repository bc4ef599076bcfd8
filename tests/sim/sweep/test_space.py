"""Points of a space, and everything that a file may get wrong."""

import numpy as np
import pytest

from sim.sweep.experiment import read as read_experiment
from tests.sim.sweep.small import HEAD, SEVERAL, made, text

BW = "hardware.memory.hbm.bandwidth"


def points(space):
    columns, good = space.columns(np.arange(space.size))
    return {k: v[good].tolist() for k, v in columns.items()}


def test_a_grid_is_the_product_of_its_axes_with_cuts_outermost():
    found = points(made(f'[sweep.grid]\n"{BW}" = ["2 TB/s", "4 TB/s"]\n"deployment.tp" = [1, 2]'))
    assert found == {"deployment.tp": [1, 1, 2, 2], BW: [2e12, 4e12, 2e12, 4e12]}


@pytest.mark.parametrize(("given", "wanted"), [
    ('{ from = "1 TB/s", to = "3 TB/s", n = 3 }', [1e12, 2e12, 3e12]),
    ('{ from = "1 TB/s", to = "4 TB/s", n = 3, scale = "log" }', [1e12, 2e12, 4e12]),
    ('{ from = "1 TB/s", to = "2 TB/s", step = "400 GB/s" }', [1e12, 1.4e12, 1.8e12]),
    ('{ from = "1 TB/s", to = "1 TB/s", n = 1 }', [1e12]),
])
def test_ranges(given, wanted):
    assert points(made(f'[sweep.range]\n"{BW}" = {given}'))[BW] == pytest.approx(wanted, rel=1e-12)


def test_integer_ranges():
    given = '[sweep.range]\n"workload.concurrency" = { from = 1, to = 10, n = 4, scale = "log" }'
    assert points(made(given))["workload.concurrency"] == [1, 2, 5, 10]
    given = '[sweep.range]\n"hardware.engine.matrix.units" = { from = 100, to = 108, step = 4, integer = true }'
    assert points(made(given))["hardware.engine.matrix.units"] == [100, 104, 108]


def sampled(method, n=64, seed=3):
    return points(made(f'[sweep.range]\n"{BW}" = {{ from = "1 TB/s", to = "9 TB/s", scale = "log" }}\n'
                       f'"workload.concurrency" = {{ from = 1, to = 64 }}\n[sweep.grid]\n"model.quant" = ["", "fp8"]\n'
                       f'[sweep.sample]\nmethod = "{method}"\nn = {n}\nseed = {seed}'))


@pytest.mark.parametrize("method", ["random", "lhs", "sobol"])
def test_samples(method):
    found = sampled(method)
    assert found == sampled(method)
    assert found != sampled(method, seed=4)
    assert len(found[BW]) == 64
    assert all(1e12 <= x <= 9e12 for x in found[BW])
    assert set(found["workload.concurrency"]) <= set(range(1, 65))
    assert found["model.quant"] == [""] * found["model.quant"].count("") + ["fp8"] * found["model.quant"].count("fp8")


@pytest.mark.parametrize("method", ["lhs", "sobol"])
def test_even_samples_visit_every_slice_once(method):
    found = sampled(method)
    assert sorted(found["workload.concurrency"]) == list(range(1, 65))
    slices = np.floor(np.log(np.array(found[BW]) / 1e12) / np.log(9) * 64)
    assert sorted(slices.tolist()) == list(range(64))
    assert found["model.quant"].count("fp8") == 32


def test_a_sobol_sample_of_any_size():
    assert len(sampled("sobol", n=37)[BW]) == 37


def test_a_conditional_axis_counts_only_where_it_holds():
    found = points(made('[sweep.grid]\nmodel = ["llama-3.1-8b", "mixtral-8x7b-v0.1"]\n"deployment.ep" = [1, 2, 4]\n'
                        f'"{BW}" = ["2 TB/s", "3 TB/s"]\n[sweep.when]\n"deployment.ep" = "model == \'mixtral-8x7b-v0.1\'"\n'
                        f'"{BW}" = "deployment.ep == 1"'))
    rows = list(zip(found["model"], found["deployment.ep"], map(str, found[BW]), strict=True))
    assert rows == [("llama-3.1-8b", 1, "2000000000000.0"), ("llama-3.1-8b", 1, "3000000000000.0"),
                    ("mixtral-8x7b-v0.1", 1, "2000000000000.0"), ("mixtral-8x7b-v0.1", 1, "3000000000000.0"),
                    ("mixtral-8x7b-v0.1", 2, "nan"), ("mixtral-8x7b-v0.1", 4, "nan")]


def test_derived_parameters_and_constraints():
    found = points(made(f'[sweep.grid]\n"var.stacks" = [2, 4, 6]\n"deployment.tp" = [1, 2]\n[sweep.derived]\n'
                        f'"{BW}" = "var.stacks * 0.8e12"\n"workload.concurrency" = "16 * deployment.tp"\n'
                        f'[sweep]\nconstraints = ["{BW} <= hw.mem_bw * 2", "var.stacks > 2 or deployment.tp > 1"]'))
    assert found == {"deployment.tp": [1, 1, 2, 2, 2], "var.stacks": [4, 6, 2, 4, 6], BW: pytest.approx(
        [3.2e12, 4.8e12, 1.6e12, 3.2e12, 4.8e12]), "workload.concurrency": [16, 16, 32, 32, 32]}


def test_base_values_are_known_to_expressions():
    given = text(f'[sweep.grid]\n"deployment.tp" = [1, 2, 4]\n[sweep]\nconstraints = ["workload.isl * deployment.tp < 2000", '
                 f'"{BW} == 6e12", "hardware.power.tdp > 699"]')
    space = made(given.split("[sweep.objectives]")[0].replace(HEAD, ""),
                 head=HEAD.replace('"h200_sxm"', '"h200_sxm", "memory.main.bandwidth" = "6 TB/s"'))
    assert points(space)["deployment.tp"] == [1, 2]


@pytest.mark.parametrize(("sweep", "wanted"), [
    ('[sweep.grid]\n"hardware.memory.hbm.bandwith" = [1]', "nearest: memory.hbm.bandwidth"),
    ('[sweep.grid]\n"deployment.tpp" = [1]', r"unknown axis 'deployment.tpp'; nearest: deployment.tp"),
    ('[sweep.grid]\nbogus = [1]', r"x.toml: sweep.grid: unknown axis 'bogus'"),
    ('[sweep.grid]\n"model.n_layer" = [1]', r"x.toml: sweep: model.n_layer: .* has no key 'n_layer'; nearest"),
    ('[sweep.grid]\n"deployment.tp" = []', "has no values: the space is empty"),
    ("[sweep.grid]", "no axis: give"),
    (f'[sweep.grid]\n"{BW}" = ["2 TB/s", "80 GB"]', r"'80 GB': 'GB' is a unit of bytes; expected bytes/s"),
    (f'[sweep.grid]\n"{BW}" = ["2 TB/s", 8]', "mixed units: 8 has none"),
    (f'[sweep.grid]\n"{BW}" = ["2 TB/s", "2 TB/s"]', "a value stands there twice"),
    ('[sweep.grid]\n"deployment.tp" = [1, 2.5]', "found 2.5, expected a whole number"),
    ('[sweep.grid]\n"deployment.tp" = ["two"]', "found 'two', expected a whole number"),
    ('[sweep.grid]\nhardware = ["h100"]', "Did you mean h100_sxm or h100_pcie"),
    (f'[sweep.range]\n"{BW}" = {{ from = "3 TB/s", to = "2 TB/s", n = 3 }}', "the space is empty"),
    (f'[sweep.range]\n"{BW}" = {{ from = "0 TB/s", to = "2 TB/s", n = 3, scale = "log" }}', "needs bounds above 0"),
    (f'[sweep.range]\n"{BW}" = {{ from = "1 TB/s", to = "2 TB/s" }}', r"give n \(how many values\) or step"),
    (f'[sweep.range]\n"{BW}" = {{ from = "1 TB/s", to = "2 TB/s", n = 0 }}', r"sweep.range.*greater than or equal to 1"),
    (f'[sweep.range]\n"{BW}" = {{ from = "1 TB/s", to = "2 TB/s", steps = 3 }}', r"unknown key \(did you mean 'step'\?\)"),
    ('[sweep.range]\nmodel = { from = 1, to = 2, n = 2 }', "has no order"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep.when]\n"var.y" = "var.x > 0"', "'var.y' is no axis"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep.derived]\n"deployment.tp" = "var.z"', "neither an axis nor derived"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep.derived]\n"deployment.tp" = "tpot_s"', "'tpot_s' is no parameter"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep.derived]\n"tpot_s" = "var.x"', "'tpot_s' is taken"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep]\nconstraints = ["tpot < 1"]', "no figure 'tpot'; nearest: tpot_s"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep]\nconstraints = ["model * 2 < 1"]', "a text where a number is needed"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep]\nkeep = ["tpott_s"]', "no figure 'tpott_s'; nearest: tpot_s"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep]\nevaluator = "magic"', "'magic' is not known; there is closed"),
    ('[sweep.grid]\n"var.x" = [1]\n"hw.power.tdp" = [1]\n"hardware.power.tdp" = [2]', "is an axis twice"),
    ('[sweep.grid]\n"var.x" = [1]\n[sweep.sample]\nmethod = "halton"\nn = 3', "found 'halton'"),
])
def test_bad_input_is_one_line_that_names_file_and_key(sweep, wanted):
    with pytest.raises(ValueError, match=wanted) as error:
        made(sweep)
    assert "\n" not in str(error.value)
    assert str(error.value).startswith(("x.toml", "unknown hardware", "sweep.range"))


def test_objectives_that_do_not_exist():
    with pytest.raises(ValueError, match="no figure 'token_per_s'; nearest: tokens_per_s_per_gpu"):
        made('[sweep.grid]\n"deployment.tp" = [1]', objectives='[sweep.objectives]\ntoken_per_s = "max"')
    with pytest.raises(ValueError, match="'min' or 'max'"):
        made('[sweep.grid]\n"deployment.tp" = [1]', objectives='[sweep.objectives]\ntpot_s = "least"')


def test_a_space_without_end_is_refused():
    axes = "\n".join(f'"var.{x}" = {{ from = 0, to = 1, n = 100 }}' for x in "abcdef")
    with pytest.raises(ValueError, match="are too many"):
        made(f"[sweep.range]\n{axes}")


def test_the_example_of_the_interface_is_read():
    found = read_experiment("""version = 1
model = { path = "Qwen/Qwen3-32B", quant = "fp8" }
hardware = { base = "h200_sxm", "memory.hbm.bandwidth" = "6 TB/s", "memory.hbm.capacity" = "192 GB" }
deployment = { tp = 4, mode = "agg", max_num_seqs = 256, max_num_batched_tokens = 8192, block_size = 16 }
workload = { isl = 4000, osl = 500, concurrency = 64 }
slo = { ttft = "300 ms", tpot = "30 ms" }
[sweep.grid]
"hardware.memory.hbm.bandwidth" = ["3.35 TB/s", "4.8 TB/s", "8 TB/s"]
[sweep.objectives]
tokens_per_s_per_gpu = "max"
""", "x.toml")
    assert (found.slo.ttft, found.slo.tpot) == (0.3, 0.03)
    assert found.hardware.overrides == {"memory.hbm.bandwidth": "6 TB/s", "memory.hbm.capacity": "192 GB"}


def test_several_is_as_large_as_it_says():
    assert made(SEVERAL).size == 1176
