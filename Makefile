# Two commands do everything: `make demo` and `make test`. Both set up .venv themselves and rerun quickly.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test setup bench clean
setup: $(VENV)/.done

$(VENV)/.done: pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[plots,dev]"
	touch $@

demo: setup
	$(BIN)/perfboard demo

test: setup
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pytest -n auto

bench: setup
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) out build *.egg-info
