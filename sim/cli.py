"""The command line: finds sub-commands through the entry-point group ``perfboard.commands`` and loads one when asked.

Each folder lists its commands in a table that imports nothing, so ``perfboard --help`` stays instant.
Exit codes: 0 done, 1 a stated constraint is not met, 2 bad usage or input, 4 an optional part is missing,
130 interrupted and resumable.
"""

from __future__ import annotations

import difflib
import os
import sys
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

import click

GROUPS = ("ask", "simulate", "explore", "trust", "data")
#: Commands that multiply matrices. All others are element-wise: threads of a BLAS that nobody calls would only cost time.
MULTIPLIES = ("calibrate",)


@cache
def _table() -> dict[str, tuple[str, str, str]]:
    found: dict[str, tuple[str, str, str]] = {}
    for point in entry_points(group="perfboard.commands"):
        found.update(point.load())
    return found


class MissingExtra(click.ClickException):
    """An optional part is needed and not installed; names the extra. Exit code 4."""

    exit_code = 4

    def __init__(self, extra: str, need: str) -> None:
        super().__init__(f"{need} needs the extra '{extra}': pip install 'perfboard[{extra}]'")


class _Lazy(click.Group):
    """A group whose commands are imported only when one is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_table())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = _table().get(cmd_name)
        if entry is None:
            return None
        if cmd_name not in MULTIPLIES:
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        module, _, name = entry[0].partition(":")
        command: click.Command = getattr(import_module(module), name)
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in _table():
            near = difflib.get_close_matches(args[0], _table(), n=2)
            hint = f" Did you mean {' or '.join(near)}?" if near else ""
            raise click.UsageError(f"unknown command '{args[0]}'.{hint}   (perfboard --help)")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        table = _table()
        for group in GROUPS:
            rows = [(name, text) for name, (_, text, belongs) in table.items() if belongs == group]
            if rows:
                with formatter.section(group.capitalize()):
                    formatter.write_dl(rows)


@click.group(cls=_Lazy, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.version_option(package_name="perfboard", prog_name="perfboard")
@click.option("--fitted", metavar="DIR", default="",
              help="Fitted parameters of your own (or PERFBOARD_FITTED): see calibrate fit.")
def cli(fitted: str) -> None:
    """A perfboard is where hardware is tried before it is made: how fast, how hungry and how dear would this
    language model be on that hardware, why, and what would change it?

    Options of a question may also stand in the environment: PERFBOARD_HW=h200_sxm, PERFBOARD_ISL=2048. A flag wins.
    """
    if fitted:
        os.environ["PERFBOARD_FITTED"] = fitted


def main(argv: list[str] | None = None) -> None:
    """Run the command line; every foreseen error is one line on stderr and an exit code, never a traceback."""
    try:
        code: Any = cli.main(args=argv, prog_name="perfboard", standalone_mode=False)
    except click.Abort:
        _fail("interrupted", 130)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except click.exceptions.NoArgsIsHelpError as e:
        click.echo(e.format_message(), err=True)
        sys.exit(e.exit_code)
    except click.ClickException as e:
        _fail(" ".join(e.format_message().split()), e.exit_code)
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(0)
    except OSError as e:
        _fail(f"{e.filename}: {e.strerror}" if e.filename and e.strerror else str(e), 2)
    except ValueError as e:
        _fail(" ".join(str(e).split()), 2)
    sys.exit(code if isinstance(code, int) else 0)


def _fail(message: str, code: int) -> None:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    main()
