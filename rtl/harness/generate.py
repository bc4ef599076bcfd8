"""``python -m rtl.harness.generate [UNIT]...``: brings the generated parts of READMEs up to date."""

from __future__ import annotations

import sys

from rtl.harness.interface import readme
from rtl.harness.registry import ROOT, load, names


def main(words: list[str]) -> None:
    for name in words or names():
        path = ROOT / name / "README.md"
        path.write_text(readme(load(name)), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
