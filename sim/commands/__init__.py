"""Commands of this folder: name -> (module:function, one-line help, group). Imports nothing, so that help is instant."""

TABLE: dict[str, tuple[str, str, str]] = {
    "hw": ("sim.commands.hw:hw", "devices and systems: show, list, check, new, diff", "data"),
    "model": ("sim.commands.model:model", "models: show, list, check", "data"),
}
