"""``python -m rtl.harness.generate [UNIT]...``: brings the generated parts of READMEs, RESULTS.md and DENSITY.md up to date."""

from __future__ import annotations

import sys

from rtl.harness import density, figures, results
from rtl.harness.interface import readme
from rtl.harness.registry import home, load, names


def main(words: list[str]) -> None:
    for unit in map(load, words or names()):
        path = home(unit) / "README.md"
        path.write_text(readme(unit), encoding="utf-8")
        path.write_text(figures.readme(unit), encoding="utf-8")
    results.PAGE.write_text(results.page(), encoding="utf-8")
    density.PAGE.write_text(density.page(), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
