"""Commands of this folder (see ``sim.commands``)."""

TABLE: dict[str, tuple[str, str, str]] = {
    "validate": ("validate.command:validate", "how wrong the models are, on rows that no fit has seen", "trust"),
    "cases": ("validate.cases_command:cases", "published systems as executable cases: claimed against modelled", "trust"),
    "rtl": ("validate.rtl_command:rtl", "hardware units: verify, synthesise, compare with their cycle contracts", "trust"),
    "calibrate": ("validate.calibrate:calibrate", "measure this machine, import measurements, fit parameters", "trust"),
}
