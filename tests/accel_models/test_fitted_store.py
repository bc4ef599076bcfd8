import pytest

from accel_models import fitted_store
from accel_models.fitted_store import FittedFile, ParameterSet, lookup


def _set(device: str, generation: str, framework: str, value: float, n_rows: int = 10) -> ParameterSet:
    return ParameterSet(variant="v", device=device, generation=generation, framework=framework,
                        values={"x": value}, n_rows=n_rows)


@pytest.fixture(autouse=True)
def sets(monkeypatch):
    file = FittedFile(op="op", formula="f", source="test", data_sha256="0", date="2026-01-01", set=(
        _set("a", "g", "vllm-1.0", 1.0), _set("a", "g", "", 2.0), _set("a", "g", "trtllm-2", 3.0, n_rows=99),
        _set("", "g", "", 4.0), _set("", "g", "eager", 5.0), _set("", "", "", 6.0)))
    monkeypatch.setattr(fitted_store, "load", lambda op: file)
    lookup.cache_clear()
    yield
    lookup.cache_clear()


@pytest.mark.parametrize(("device", "generation", "framework", "value", "source"), [
    ("a", "g", "vllm-1.0", 1.0, "fitted"),            # exactly what was asked
    ("a", "g", "vllm-7.0", 1.0, "fitted"),            # another version of it
    ("a", "g", "", 2.0, "fitted"),                    # nothing asked: the set for any framework, not the largest
    ("a", "g", "sglang", 2.0, "fitted"),              # never measured here: the set for any framework
    ("b", "g", "", 4.0, "transferred"),               # unseen device of a known generation
    ("b", "g", "torch-2.1.0-cu121", 5.0, "transferred"),
    ("b", "other", "", 6.0, "transferred"),           # unseen generation: the pool
])
def test_lookup_prefers_the_nearest_set(device, generation, framework, value, source):
    found = lookup("op", "v", device, generation, framework)
    assert (found.params.values["x"], found.source) == (value, source)


def test_lookup_names_a_variant_that_was_never_fitted():
    with pytest.raises(KeyError, match="no fitted set of variant 'w'"):
        lookup("op", "w", "a", "g")
