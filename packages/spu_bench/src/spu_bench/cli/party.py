"""spu-bench party: one party on its own host."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional

import typer

from spu_bench.party.launch import PartyFiles, run_party
from spu_bench.party.process import DIE_WITH_PARENT
from spu_bench.program import load_program
from spu_bench.session import load_session


def party_command(
    rank: Annotated[int, typer.Option(help="0: server (weights), 1: client (image), 2: helper of three parties.")],
    program: Annotated[Path, typer.Option(help="The Program's directory, with this party's own arrays only.")],
    link: Annotated[Path, typer.Option(help="The link file, the same at all parties.")],
    inputs: Annotated[
        Optional[Path], typer.Option("--input", help="npz with the client's arrays (default: the Program's sample).")
    ] = None,
    output: Annotated[Optional[Path], typer.Option(help="npz for the outputs, which only the client gets.")] = None,
    outcome: Annotated[Optional[Path], typer.Option(help="JSON file for this party's statistics.")] = None,
    interface: Annotated[Optional[str], typer.Option(help="Network interface whose bytes are counted.")] = None,
    link_counter: Annotated[Optional[Path], typer.Option("--link-counter", hidden=True)] = None,
    cores: Annotated[
        Optional[int], typer.Option(min=1, help="Threads to compute on (default: OMP_THREAD_LIMIT, else all cores).")
    ] = None,
    _die_with_parent: Annotated[bool, typer.Option(DIE_WITH_PARENT, hidden=True)] = False,  # main() has done it
) -> None:
    """Run one party of a session on this host. Start the others within the link file's connect_timeout_s.

    Example: spu-bench party --rank 1 --program prog/ --link link.toml --input image.npz --output logits.npz
    """
    files = PartyFiles(source=inputs, output=output, outcome=outcome, link_counter=link_counter)
    done = run_party(rank, load_program(program), load_session(link), files, interface=interface, cores=cores)
    for number, inference in enumerate(done.inferences):
        traffic = inference.link
        counted = f", {traffic.sent_messages} rounds, {traffic.sent_bytes / 1e6:.1f} MB sent" if traffic else ""
        print(f"inference {number}: {inference.run_s:.3f} s{counted}")
