"""``perfboard demo``: a tour in a few questions, each an ordinary command that is shown before it runs."""

from __future__ import annotations

import shlex
from importlib.util import find_spec
from pathlib import Path

import click

from sim.cli import cli

#: What is asked, and the command that answers it.
STEPS = (
    ("How fast would Llama-3.1-8B run on an H200, why, and how sure is that?",
     "whatif -m meta-llama/Llama-3.1-8B --hw h200_sxm --bs 64 --isl 2048 --osl 512"),
    ("And on other GPUs - the last of which does not exist?",
     "whatif -m meta-llama/Llama-3.1-8B --hw h200_sxm,a100_sxm4_80gb,l40s,mi300x,dream_hbm4 --bs 64 --isl 2048 --osl 512"),
    ("What would change it: fp8, 4-bit weights, an fp8 cache, or more bandwidth?",
     "whatif -m meta-llama/Llama-3.1-8B --hw h200_sxm --bs 64 --isl 2048 --osl 512 --vs quant=fp8 --vs quant=w4a16 "
     "--vs 'quant=fp8 kv-cache-dtype=fp8' --vs memory.main.bandwidth=9.6TB/s"),
    ("Does a 671-billion-parameter model fit on eight of them, and how many users?",
     "fit -m deepseek-ai/DeepSeek-V3 --hw '8x h200_sxm' --tp 8 --ep 8 --bs 64 --isl 4096 --osl 1024"),
    ("And on a PC whose GPU is too small: part on the GPU, part on the CPU, the rest fetched from the drive?",
     "simulate -m meta-llama/Llama-2-7b-hf --hw pc_low --isl 128 -t offload:via=there,layers=22 -t offload:to=flash,layers=30"),
    ("How wrong is all this? Errors on measured rows that no fit has seen:", "validate"),
)
PAGE = ("All of it on one page that opens offline:",
        "report -m meta-llama/Llama-3.1-8B --hw h200_sxm,a100_sxm4_80gb,dream_hbm4 --bs 64 --isl 2048 --osl 512 -o {out}")


@click.command()
@click.option("-o", "--out", type=click.Path(file_okay=False, path_type=Path), default=Path("out"), show_default=True,
              help="Folder for the HTML page.")
def demo(out: Path) -> int:
    """A real public model on real devices and on one that does not exist: what, why, and how sure."""
    steps = list(STEPS)
    if find_spec("matplotlib"):
        out.mkdir(parents=True, exist_ok=True)
        steps.append((PAGE[0], PAGE[1].format(out=shlex.quote(str(out / "demo.html")))))
    for i, (question, command) in enumerate(steps, start=1):
        click.secho(f"\n{i}. {question}", bold=True)
        click.secho(f"$ perfboard {command}\n", fg="cyan")
        cli.main(args=shlex.split(command), prog_name="perfboard", standalone_mode=False)
    click.echo("\nNext: perfboard --help · perfboard model list · perfboard hw list · your own config.json with -m PATH")
    return 0
