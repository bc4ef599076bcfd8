"""Every command that the README shows runs, and its transcript and tables are what the code prints today.

``python -m tests.laws.test_readme`` rewrites the transcript after a change that is meant.
"""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from sim.cli import cli
from validate import end_to_end
from validate.scores import BEGIN, END, page, stored, stored_targets, summary

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
COMMAND = "whatif -m meta-llama/Llama-3.1-8B --hw h200_sxm --bs 64 --isl 2048 --osl 512"
OPEN, CLOSE = "<!-- transcript: begin -->", "<!-- transcript: end -->"


def run(command: str) -> tuple[int, str]:
    result = CliRunner().invoke(cli, shlex.split(command, comments=True), standalone_mode=False)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return int(result.return_value or 0), result.stdout


def transcript() -> str:
    lines = (line.rstrip() for line in run(COMMAND)[1].splitlines())
    return f"```\n$ perfboard {COMMAND}\n" + "\n".join(lines).strip("\n") + "\n```"


def between(text: str, start: str, end: str) -> str:
    return text.split(start)[1].split(end)[0].strip("\n")


def commands() -> list[str]:
    """Lines of code blocks that begin with ``perfboard``, in README and docs (generated pages apart)."""
    found: list[str] = []
    for path in [README, *sorted((ROOT / "docs").glob("*.md"))]:
        for block in re.findall(r"```\w*\n(.*?)```", path.read_text(encoding="utf-8"), re.S):
            found += [line.removeprefix("perfboard ") for line in block.splitlines() if line.startswith("perfboard ")]
    return list(dict.fromkeys(found))


def test_readme_shows_commands() -> None:
    assert len(commands()) >= 8


@pytest.mark.parametrize("command", commands())
def test_each_command_shown_runs(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    code, out = run(command)
    assert code == 0, out


def test_transcript_is_what_the_command_prints() -> None:
    assert between(README.read_text(encoding="utf-8"), OPEN, CLOSE) == transcript()


def test_accuracy_tables_are_generated_from_the_scores() -> None:
    scores = stored()
    assert between(README.read_text(encoding="utf-8"), BEGIN, END) == summary(scores)
    assert (ROOT / "docs" / "accuracy.md").read_text(encoding="utf-8") == page(scores, stored_targets(), end_to_end.stored())


def test_python_examples_run() -> None:
    for block in re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.S):
        exec(compile(block, "README.md", "exec"), {})


def main() -> None:
    text = README.read_text(encoding="utf-8")
    head, tail = text.split(OPEN)[0], text.split(CLOSE)[1]
    README.write_text(f"{head}{OPEN}\n{transcript()}\n{CLOSE}{tail}", encoding="utf-8")


if __name__ == "__main__":
    main()
