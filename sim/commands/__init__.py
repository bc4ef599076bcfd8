"""Commands of this folder: name -> (module:function, one-line help, group). Imports nothing, so that help is instant."""

TABLE: dict[str, tuple[str, str, str]] = {
    "whatif": ("sim.commands.whatif:whatif", "one model on one system: how fast, how hungry, how dear, and why", "ask"),
    "fit": ("sim.commands.fit:fit", "memory only: weights, KV per token, largest batch and context, smallest TP", "ask"),
    "roofline": ("sim.commands.roofline:roofline", "the operations on the roofline: terminal, SVG/PNG, HTML", "ask"),
    "predict": ("sim.commands.predict:predict", "a table of operations in, the same table with predicted times out", "ask"),
    "simulate": ("sim.commands.simulate:simulate", "event simulation of a step, with techniques and a timeline", "simulate"),
    "tasks": ("sim.commands.tasks:tasks", "a task graph of your own: schedule, bounds, critical path, timeline", "simulate"),
    "sweep": ("sim.commands.sweep:sweep", "design spaces of millions of points: run, pareto, explain, page, study",
              "explore"),
    "hw": ("sim.commands.hw:hw", "devices and systems: show, list, check, new, diff", "data"),
    "model": ("sim.commands.model:model", "models: show, list, check", "data"),
    "report": ("sim.commands.report:report", "one HTML file with everything about one question; opens offline", "data"),
    "doctor": ("sim.commands.doctor:doctor", "what is installed, and what each extra would add", "data"),
    "schema": ("sim.commands.schema:schema", "JSON Schema of any kind of file", "data"),
    "demo": ("sim.commands.demo:demo", "a tour: a real model on real devices and on one that does not exist", "data"),
}
