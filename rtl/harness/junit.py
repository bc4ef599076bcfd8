"""JUnit of runs: one suite per unit, parameter set and simulator; what failed before any test ran is a test case as well."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Sequence

from rtl.harness.run import Outcome

#: Entries of ``Outcome.failed`` that are no tests: the run could not be made or not be finished.
BROKEN = ("build", "run")


def junit(runs: Sequence[Outcome]) -> str:
    """XML of these runs. Times in s."""
    root = ET.Element("testsuites", name="perfboard rtl verify")
    for o in runs:
        root.append(_suite(o))
    ET.indent(root)
    return ET.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(o: Outcome) -> ET.Element:
    name = f"{o.unit} {' '.join(f'{k}={v}' for k, v in o.params.items()) or 'default'} on {o.simulator}"
    errors = sum(t in BROKEN for t in o.failed)
    suite = ET.Element("testsuite", name=name, tests=str(len(o.passed) + len(o.failed)), errors=str(errors),
                       failures=str(len(o.failed) - errors), time=f"{o.build_s + o.run_s:.3f}")
    properties = ET.SubElement(suite, "properties")
    for key in ("seeds", "clock_seed", "edges"):
        if key in o.record:
            ET.SubElement(properties, "property", name=key, value=str(o.record[key]))
    for test in (*o.passed, *o.failed):
        case = ET.SubElement(suite, "testcase", classname=f"rtl.{o.unit}", name=test, time=f"{o.seconds.get(test, 0.0):.3f}")
        if why := o.failed.get(test):
            ET.SubElement(case, "error" if test in BROKEN else "failure", message=why.splitlines()[0]).text = why
    return suite
