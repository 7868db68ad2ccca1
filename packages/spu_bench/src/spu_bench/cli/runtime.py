"""spu-bench runtime list | install: what Programs run on."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer
from rich.console import Console

from spu_bench import runtimes

app = typer.Typer(help="What Programs run on: versions of SPU, and its peers.", no_args_is_help=True)


@app.command("list")
def list_command() -> None:
    """Show each runtime, whether this host can run it, and its protocols.

    Example: spu-bench runtime list
    """
    for runtime in runtimes.RUNTIMES.values():
        state = f"installed, Python {runtime.python}" if runtime.python else "this environment"
        print(f"{runtime.version}: {runtimes.missing(runtime) or state} ({', '.join(runtime.protocols)})")


@app.command("install")
def install_command(
    version: Annotated[str, typer.Argument(help="A version that `spu-bench runtime list` shows.")],
    python: Annotated[Optional[Path], typer.Option(help="The Python to use (default: one found on this host).")] = None,
) -> None:
    """Make the environment of a runtime, for the executors netns and loopback, and for `spu-bench party`.

    Example: spu-bench runtime install 0.3.1b0 --python /usr/local/bin/python3.8
    """
    runtime = runtimes.get(version)
    with Console(stderr=True).status(runtime.title):
        installed = runtimes.install(runtime, python)
    print(f"{runtime.title} is installed: {installed}")
