"""The benchmarks still run on the code as it is; what they measure is for ``python -m benchmarks`` alone."""

import json

import pytest

from benchmarks.__main__ import main
from benchmarks.measure import Figure, as_text
from benchmarks.suite import SUITE


@pytest.mark.parametrize("name", SUITE)
def test_each_benchmark_runs_and_gives_figures(name, capsys):
    assert main(["--quick", "--json", name]) == 0
    printed = json.loads(capsys.readouterr().out)
    assert printed["schema"] == "perfboard/benchmarks/1"
    assert printed["environment"]["cpus"] >= 1
    assert printed["figures"]
    for row in printed["figures"]:
        assert row["benchmark"] == name
        assert row["value"] > 0
        assert row["target"] > 0


def test_a_share_above_one_is_a_missed_target_for_times_and_for_rates():
    slow = Figure("b", "time", 2.0, "s", 1.0)
    low = Figure("b", "rate", 50.0, "/s", 100.0, floor=True)
    good = Figure("b", "rate", 400.0, "/s", 100.0, floor=True)
    assert (slow.share, low.share, good.share) == (2.0, 2.0, 0.25)
    assert [f.met for f in (slow, low, good)] == [False, False, True]
    text = as_text([slow, good], {"cpus": 1}).splitlines()
    assert text[2].endswith("MISSED")
    assert text[3].endswith("25 %")


def test_an_unknown_benchmark_is_named(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["gird"])
    assert stop.value.code == 2
    assert "no benchmark 'gird'" in capsys.readouterr().err
