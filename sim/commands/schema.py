"""``perfboard schema``: the JSON Schema of any kind of file that perfboard reads."""

from __future__ import annotations

import click
from pydantic import BaseModel

from accel_models.device import Device
from accel_models.fitted_store import FittedFile
from accel_models.registry import System
from sim.output import print_json
from sim.sweep.experiment import Experiment
from sim.task_file import TaskFile
from workloads.model_spec import ModelSpec

KINDS: dict[str, type[BaseModel]] = {"device": Device, "system": System, "model": ModelSpec, "fitted": FittedFile,
                                     "experiment": Experiment, "tasks": TaskFile}


@click.command()
@click.argument("kind", type=click.Choice(sorted(KINDS)))
def schema(kind: str) -> None:
    """JSON Schema of a device, system, fitted or experiment file, of a task graph, or of a model as it is read."""
    print_json(KINDS[kind].model_json_schema())
