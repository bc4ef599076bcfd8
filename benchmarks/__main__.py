"""``python -m benchmarks [name ...] [--json] [--quick]``: exit code 1 if a target is missed (not with ``--quick``)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from benchmarks.measure import Figure, as_json, as_text, environment
from benchmarks.suite import SUITE


def main(argv: Sequence[str] | None = None) -> int:
    """Run the named benchmarks, or all, and print the figures."""
    about = "\n".join(f"  {name:<11} {(run.__doc__ or '').splitlines()[0]}" for name, run in SUITE.items())
    parser = argparse.ArgumentParser(prog="python -m benchmarks", formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description="Figures of the main path beside their targets.\n\n" + about)
    parser.add_argument("name", nargs="*", help="benchmarks to run (default: all)")
    parser.add_argument("--json", action="store_true", help="JSON instead of a table")
    parser.add_argument("--quick", action="store_true", help="little work, only to see that all run")
    asked = parser.parse_args(argv)
    if unknown := [n for n in asked.name if n not in SUITE]:
        parser.error(f"no benchmark {unknown[0]!r}; known: {', '.join(SUITE)}")
    figures: list[Figure] = []
    for name in asked.name or SUITE:
        if not asked.json:
            print(f"{name} ...", file=sys.stderr, flush=True)
        figures += SUITE[name](asked.quick)
    print(as_json(figures, environment()) if asked.json else as_text(figures, environment()))
    return 0 if asked.quick or all(f.met for f in figures) else 1


if __name__ == "__main__":
    sys.exit(main())
