"""``perfboard schema``: the JSON Schema of any kind of file that perfboard reads."""

from __future__ import annotations

import click
from pydantic import BaseModel

from accel_models.device import Device
from accel_models.fitted_store import FittedFile
from accel_models.registry import System
from sim.output import print_json
from sim.sweep.experiment import Experiment
from workloads.model_spec import ModelSpec

KINDS: dict[str, type[BaseModel]] = {"device": Device, "system": System, "model": ModelSpec, "fitted": FittedFile,
                                     "experiment": Experiment}


@click.command()
@click.argument("kind", type=click.Choice(sorted(KINDS)))
def schema(kind: str) -> None:
    """JSON Schema of a device or system file, of a fitted file, of an experiment, or of a model as it is read."""
    print_json(KINDS[kind].model_json_schema())
