"""Commands of this folder (see ``sim.commands``)."""

TABLE: dict[str, tuple[str, str, str]] = {
    "validate": ("validate.command:validate", "how wrong the models are, on rows that no fit has seen", "trust"),
}
