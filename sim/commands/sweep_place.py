"""Which sweep a command means: an experiment file, a store, or the folder of one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import click

from sim.sweep import identity
from sim.sweep.parameters import kind
from sim.sweep.run import where
from sim.sweep.space import Space
from sim.sweep.store import Store

F = TypeVar("F", bound=Callable[..., Any])

stale_option = click.option("--stale", is_flag=True, help="Rows of an earlier model, device or code count too.")


class Place(NamedTuple):
    """A sweep to work on: the text of its experiment, the file that named it, and its store."""

    text: str
    file: str
    store: Path


def store_argument(function: F) -> F:
    function = click.option("-o", "--out", default="run", show_default=True, metavar="DIR",
                            help="Folder of the store, where SWEEP is an experiment file.")(function)
    return click.argument("sweep", metavar="SWEEP", type=click.Path(path_type=Path))(function)


def place_of(given: Path, out: str) -> Place:
    """``given``: an experiment file (its store is in ``out``), or a store, or the folder of one."""
    if given.suffix == ".toml":
        try:
            return Place(given.read_text(encoding="utf-8"), given.name, where(out))
        except UnicodeDecodeError:
            raise ValueError(f"{given}: not valid TOML: no UTF-8") from None
    path = where(given)
    with Store.open(path) as store:
        return Place(store.meta["experiment"], store.meta["file"], path)


def current(made: Space, store: Store) -> list[int]:
    """Stamps in which model, device and code are as they are now."""
    now = list(identity.contents(made).values())
    return [i for i, content in store.stamps().items() if content in now]


def dimensions(made: Space) -> dict[str, str]:
    """Parameters and the dimensions of their values."""
    return {p: kind(p, made.devices, made.file).dimension for p in made.parameters}
