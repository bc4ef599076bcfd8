"""Commands of this folder (see ``sim.commands``)."""

TABLE: dict[str, tuple[str, str, str]] = {}
