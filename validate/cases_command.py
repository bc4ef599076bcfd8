"""``perfboard cases``: published systems as executable cases, claimed against modelled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from sim.output import FORMATS, as_markdown, note, print_json, print_rows
from validate.case import absent, load, names, plain
from validate.case_verdict import VERDICTS, Result, Summary, Verdict, run
from validate.parallel import each

COLUMNS = ("case", "claimed", "modelled", "interval_80", "verdict", "conditions", "reason")
DETAIL = ("condition", "against", "quantity", "claimed", "modelled", "interval_80", "limit", "verdict", "reason")

#: A claim whose ends are this far apart says "at least".
OPEN = 500.0

_format = click.option("--format", "fmt", type=click.Choice(FORMATS), default="table", show_default=True,
                       envvar="PERFBOARD_FORMAT", help="Form of the result on stdout.")


@click.group()
def cases() -> None:
    """Published systems as cases: what was claimed, what the mechanism gives, and what would have to change."""


@cases.command("list")
@_format
def list_cases(fmt: str) -> None:
    """All cases, and the systems that have none with the reason."""
    rows: list[list[Any]] = [[n, (c := load(n)).system, c.title] for n in names()]
    rows += [["-", a.system, f"{a.claim}: {a.why}"] for a in absent()]
    print_rows(("case", "system", "title"), rows, fmt)


@cases.command("run")
@click.argument("chosen", nargs=-1, metavar="[NAME]...")
@click.option("--write", type=click.Path(dir_okay=False, writable=True), default=None,
              help="Write the page with all conditions to this file.")
@_format
def run_cases(chosen: tuple[str, ...], write: str | None, fmt: str) -> None:
    """Evaluate cases (all, or those named; a system's id names all of its cases)."""
    done = run_all(select(chosen))
    if write:
        Path(write).write_text(page(done), encoding="utf-8")
        note(f"{write}: {len(done)} cases")
        return
    if fmt == "json":
        print_json([as_data(s) for s in done])
        return
    print_rows(COLUMNS, [row(s) for s in done], fmt)


@cases.command("show")
@click.argument("name")
@_format
def show_case(name: str, fmt: str) -> None:
    """Every condition of one case, and its setting."""
    for s in [run(load(n)) for n in select((name,))]:
        if fmt == "json":
            print_json(as_data(s))
            continue
        c = s.case
        for line in (c.title, f"mechanism: {c.mechanism}", f"source: {c.source}", c.warning and f"warning: {c.warning}",
                     c.assumed and f"assumed: {c.assumed}", *(f"{k}: {setting(s, k)}" for k in c.sides)):
            if line:
                note(line)
        print_rows(DETAIL, [detail(r) for r in s.results], fmt)


def run_all(chosen: Sequence[str]) -> list[Summary]:
    """Several cases side by side, with progress on stderr where it takes a while."""
    begun, done = time.perf_counter(), []
    for summary in each(run_named, chosen):
        done.append(summary)
        if (spent := time.perf_counter() - begun) > 2.0:
            click.echo(f"\r {len(done)}/{len(chosen)} cases  {spent:.0f} s", err=True, nl=len(done) == len(chosen))
    return done


def run_named(name: str) -> Summary:
    return run(load(name))


def select(chosen: tuple[str, ...]) -> list[str]:
    """Names of cases; a system's id stands for all its cases. Raises ``ValueError`` for an unknown one."""
    if not chosen:
        return list(names())
    found: list[str] = []
    for name in chosen:
        own = [n for n in names() if n == name] or [n for n in names() if load(n).system == name]
        found += own or [load(name).name]
    return list(dict.fromkeys(found))


def setting(s: Summary, side: str) -> str:
    return ", ".join(f"{k} {plain(v)}" for k, v in (s.case.common | s.case.sides[side]).items())


def row(s: Summary) -> list[Any]:
    """The summary of a case: its first condition stands for the figures."""
    shown = headline(s)
    counts = ", ".join(f"{n} {v}" + (f" ({s.by_width} by width)" if v == "explained" and s.by_width else "")
                       for v in VERDICTS if (n := s.counts[v]))
    return [s.case.name, f"{claimed(shown)} ({shown.label})", figure(shown.value, shown.unit),
            figures(shown.lo, shown.hi, shown.unit), s.verdict, counts, shown.reason]


def headline(s: Summary) -> Result:
    """The condition that a table of one line a case shows: the first of the case's verdict, else the first."""
    return next((r for r in s.results if r.main and r.verdict == s.verdict), s.results[0])


def detail(r: Result) -> list[Any]:
    return [r.label, r.against, r.quantity, claimed(r), figure(r.value, r.unit),
            figures(r.lo, r.hi, r.unit), figure(r.limit, r.unit), r.verdict, r.reason]


def figure(x: float, unit: str) -> str:
    if x != x:
        return ""
    if unit == "x":
        return f"{x:.2f}"
    if unit == "s":
        return f"{x:.3g} s" if x >= 1 else f"{x * 1e3:.3g} ms" if x >= 1e-3 else f"{x * 1e6:.3g} us"
    if unit.startswith("op/"):
        return f"{x / 1e12:.3g} T{unit}"
    return f"{x / 1e9:.3g} GB" if unit == "B" else f"{x:.3g} {unit}"


def figures(lo: float, hi: float, unit: str) -> str:
    a, b = figure(lo, unit), figure(hi, unit)
    return a if a == b else f"{a} to {b}"


def claimed(r: Result) -> str:
    """What is claimed; a bound from below alone where a case leaves the other end open."""
    lo, hi = r.claimed
    return f"at least {figure(lo, r.unit)}" if hi >= OPEN * lo > 0.0 else figures(lo, hi, r.unit)


def as_data(s: Summary) -> dict[str, Any]:
    return {"case": s.case.name, "system": s.case.system, "title": s.case.title, "verdict": s.verdict,
            "mechanism": s.case.mechanism, "warning": s.case.warning, "assumed": s.case.assumed,
            "source": s.case.source,
            "results": [{"condition": r.label, "against": r.against, "quantity": r.quantity, "unit": r.unit,
                         "claimed": list(r.claimed), "modelled": r.value, "lo": r.lo, "hi": r.hi, "limit": r.limit,
                         "verdict": r.verdict, "reason": r.reason, "source": r.source} for r in s.results]}


INTRO = """# Published systems as executable cases

Generated by `perfboard cases run --write docs/cases.md`; `perfboard cases show NAME` prints one case. A case
(`validate/cases/*.toml`) states what a paper claims, the setting and the baseline; both sides go through the ordinary
path (`perfboard whatif`, `perfboard predict`), which knows no case. No published factor enters a formula or a fit.

**Verdicts.** *Explained*: the claim lies within the modelled 80 % interval; *by width* counts those that lie there although
the mechanism itself gives less than half of the claimed gain. *Partly*: same direction, and between half of the claimed
gain (in logarithms) and twice it; a plain figure within a factor of 1.5. *Not explained*: otherwise; the reason names the
term that would have to change. *Beyond the physical bound*: even at the datasheet's peaks, perfectly overlapped, this
side would not reach the claim over the slow end of the baseline's interval. A case is explained if 80 % of its
conditions are, as an 80 % interval should have it, and partly if half are at least partly.

**Interval of a ratio.** On each side errors of one class of op move together and classes are independent. Between the
sides the same kernel on the same work errs alike and cancels; other kernels of a class have the correlation measured on
1719 pairs of held-back shapes timed in two formats: 0 where one of the two was fitted on the device, 0.3 where both are
transferred. So composed, the interval holds 71 % of the measured ratios on fitted devices (too few: some kernels err more
than their intervals say) and 81 % with parameters of other devices (`python -m validate.case_correlation --data DIR`).
A kernel that nobody measured (bit planes, INT4 products, mixed columns, look-ups in large codebooks) borrows the
parameters of the nearest one; its source is `assumed` and its interval at least that of an unseen device.
Where plans are simulated, what cancels is one kind of work on one engine (class of op, formats, dense or sparse, what bounds
it) or one pattern of moves, whatever its amount; other kinds have the correlation 0.3. That is assumed, not measured.

**Chosen after a first comparison**, and so no blind test: that a step along k of a narrow format moves the same bytes (so
that bit planes and INT4 take fewer steps); that kernel benchmarks time the product with activations ready; the wider
interval of borrowed kernels; the measured correlation in place of a guess of 0.5; that other kinds of work on one engine
do not cancel (nine conditions of llm_in_a_flash, mllm_npu, powerinfer and powerinfer_2 became explained by it, no case as a
whole) and that a phone's CPU does not err as its NPU does (one of mllm_npu); and, for AWQ, the graph-captured baseline as
the main one; and an array whose lookup tables share an accumulator, beside the published shape in lut_tensor_core_density
(two conditions, where those of the shape itself stay partly and not explained). Explained conditions before
and after: abq_llm_kernel 6 and 12 of 24, comet_kernel 2 and 7 of
the first 8, flexq_kernel 0 and 3 of 6, marlin_models 10 and 15 of 15, atom_kernel 3 and 2 of 7. Against its eager
baseline, AWQ's ratios on RTX 4090 and A100 are overestimated, at 3.2 to 4.2 for 1.9 to 2.9.

**Limit** is the ratio of the physical limits of both sides: what a claim can exceed only against a baseline that is far
from its own limit. Where a claim names several baselines, the first counts and the others are shown beside it.
"""


def totals(done: list[Summary]) -> str:
    of_cases = Counter(s.verdict for s in done)
    of_claims = sum((s.counts for s in done), Counter[Verdict]())
    systems = len({s.case.system for s in done})
    tell = ("; ".join(f"{n} {v}" for v in VERDICTS if (n := found[v])) for found in (of_cases, of_claims))
    return (f"{len(done)} cases of {systems} systems: {next(tell)}. Their {of_claims.total()} conditions: {next(tell)}; "
            f"{sum(s.by_width for s in done)} of the explained ones by width.")


def page(done: list[Summary]) -> str:
    """The generated page ``docs/cases.md``."""
    lines = [INTRO, totals(done), "", as_markdown(COLUMNS, [row(s) for s in done]), ""]
    for s in done:
        c = s.case
        lines += [f"## {c.name}", "", f"{c.title}. *{s.verdict.capitalize()}.*", ""]
        lines += [f"- {what}: {text}" for what, text in (("Source", c.source), ("Mechanism", c.mechanism),
                                                         ("Warning", c.warning), ("Assumed", c.assumed)) if text]
        lines += [f"- Side {k}: {setting(s, k)}" for k in c.sides]
        lines += ["", as_markdown(DETAIL, [detail(r) for r in s.results]), ""]
    lines += ["## Claims without a case", "",
              as_markdown(("system", "claim", "why"), [[a.system, a.claim, a.why] for a in absent()]), ""]
    return "\n".join(lines)
