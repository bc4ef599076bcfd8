from importlib import resources

import pytest

from accel_models import fitted_store
from accel_models.fitted_store import lookup

HEAD = 'op = "op"\nformula = "f"\nsource = "test"\ndata_sha256 = "0"\ndate = "2026-01-01"\n'
OPS = sorted(f.name.removesuffix(".toml") for f in resources.files("accel_models.fitted").iterdir()
             if f.name.endswith(".toml"))


def _set(device: str, generation: str, framework: str, value: float, n_rows: int = 10) -> str:
    return (f'\n[[set]]\nvariant = "v"\ndevice = "{device}"\ngeneration = "{generation}"\nframework = "{framework}"\n'
            f"n_rows = {n_rows}\nvalues = {{ x = {value} }}\n")


def _forget():
    for function in (lookup, fitted_store.load, fitted_store._index, fitted_store._parse):
        function.cache_clear()


@pytest.fixture
def sets(monkeypatch):
    text = HEAD + "".join((
        _set("a", "g", "vllm-1.0", 1.0), _set("a", "g", "", 2.0), _set("a", "g", "trtllm-2", 3.0, n_rows=99),
        _set("", "g", "", 4.0), _set("", "g", "eager", 5.0), _set("", "", "", 6.0)))
    monkeypatch.setattr(fitted_store, "read", lambda op: text)
    _forget()
    yield
    _forget()


@pytest.mark.usefixtures("sets")
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


@pytest.mark.usefixtures("sets")
def test_lookup_names_a_variant_that_was_never_fitted():
    with pytest.raises(KeyError, match="no fitted set of variant 'w'"):
        lookup("op", "w", "a", "g")


def test_a_set_that_is_wrong_is_refused_with_its_file(monkeypatch):
    monkeypatch.setattr(fitted_store, "read", lambda op: HEAD + _set("", "", "", 1.0).replace("values", "valeus"))
    _forget()
    with pytest.raises(ValueError, match=r"fitted/op\.toml: .*valeus"):
        lookup("op", "v", "a", "g")
    _forget()


@pytest.mark.parametrize("op", OPS)
def test_every_set_is_valid_and_found_as_it_stands_in_the_file(op):
    """Look-ups read sets from the text one by one; all of them together must be what TOML says is there."""
    whole = fitted_store.load(op).set
    index = fitted_store._index(op)
    assert sum(map(len, index.values())) == len(whole)
    by_variant = {v: [s for s in whole if s.variant == v] for v in {s.variant for s in whole}}
    assert index.keys() == by_variant.keys()
    for variant, entries in index.items():
        for entry, expected in zip(entries, by_variant[variant], strict=True):
            assert fitted_store._parse(op, entry.text) == expected
            assert entry[:4] == (expected.device, expected.generation, expected.framework, expected.n_rows)
