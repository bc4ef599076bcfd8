"""The bundled models, each read once in a test run."""

from __future__ import annotations

from functools import cache

from sim.query import load_spec
from workloads.model_spec import ModelSpec
from workloads.registry import list_models

NAMES = list_models()


@cache
def spec(name: str) -> ModelSpec:
    return load_spec(name)
