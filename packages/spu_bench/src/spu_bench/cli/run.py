"""spu-bench run: a Program between parties on this machine, measured."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Optional, cast

import typer
from rich.console import Console
from rich.table import Table

from spu_bench import executors, protocols, runtimes
from spu_bench.destinations import check_directory, check_file, write_result
from spu_bench.errors import SpuBenchError
from spu_bench.measured_run import RunFailed, run
from spu_bench.options import Options
from spu_bench.program import load_program
from spu_bench.record import DealerName, RunRecord

_PRESETS = ", ".join(protocols.PRESETS)


def run_command(
    program: Annotated[Path, typer.Argument(help="The Program's directory.")],
    protocol: Annotated[
        Optional[str], typer.Option(help=f"{protocols.describe()}. Default: the runtime's first.")
    ] = None,
    network: Annotated[str, typer.Option(help="loopback, lan, wan, or a TOML file.")] = "loopback",
    executor: Annotated[str, typer.Option(help=f"{', '.join(executors.NAMES)}, or hosts:FILE.")] = "auto",
    runtime: Annotated[str, typer.Option(help=f"{', '.join(runtimes.RUNTIMES)}.")] = runtimes.NEWEST,
    repeats: Annotated[int, typer.Option(min=1, help="Measured inferences of each input.")] = 3,
    warmup: Annotated[int, typer.Option(min=0, help="Inferences before those that are measured.")] = 1,
    inputs: Annotated[
        Optional[Path], typer.Option("--input", help="npz with the client's arrays (default: the Program's sample).")
    ] = None,
    options: Annotated[
        Optional[str],
        typer.Option(help=f"A preset ({_PRESETS}), or a TOML file with [runtime], [compiler] and [link]."),
    ] = None,
    dealer: Annotated[
        Optional[str],
        typer.Option(help="Who deals the triples: server or third-party (default: as the options say)."),
    ] = None,
    timeout: Annotated[float, typer.Option(help="Limit of the whole run in seconds.")] = 3600.0,
    json: Annotated[Optional[Path], typer.Option(help="File for the record, also of a failed run.")] = None,
    keep_logs: Annotated[Optional[Path], typer.Option(help="Directory for the parties' logs.")] = None,
) -> None:
    """Run a Program between parties on this machine and measure it.

    Example: spu-bench run prog/ --protocol semi2k --network loopback --repeats 5 --json record.json
    """
    if json is not None:
        check_file(json)
    if keep_logs is not None:
        check_directory(keep_logs)
    with Console(stderr=True).status(f"{runtime} over {network}: {program}"):
        try:
            record = run(
                load_program(program),
                protocol=protocol,
                network=network,
                executor=executor,
                runtime=runtime,
                repeats=repeats,
                warmup=warmup,
                inputs=inputs,
                options=Options.load(options) if options else None,
                timeout_s=timeout,
                keep_logs=keep_logs,
                dealer=_dealer(dealer),
            )
        except RunFailed as error:
            if json is not None:
                write_result(json, error.record.to_json())
            raise
    if json is not None:
        write_result(json, record.to_json())
    Console().print(_table(record))
    if record.status == "wrong":
        raise record.wrong_outputs()


def _dealer(name: str | None) -> DealerName | None:
    if name in (None, "server", "third-party"):
        return cast(Optional[DealerName], name)
    raise SpuBenchError(f"There is no dealer {name!r}.", "use server or third-party.", "bad_input")


def _table(record: RunRecord) -> Table:
    table = Table(title=f"{record.program.name if record.program else ''}, {record.request.protocol}")
    for column in ("", *(f"party {party.rank} ({party.role})" for party in record.parties)):
        table.add_column(column, justify="right")
    traffic = record.traffic()
    table.add_row("rounds", *(str(each.sent_messages) for each in traffic))
    table.add_row("sent MB", *(f"{each.sent_bytes / 1e6:.2f}" for each in traffic))
    table.add_row("compile s", *(f"{party.compile_s:.2f}" for party in record.parties))
    table.add_row("sharing of weights s", *(f"{party.share_weights_s:.2f}" for party in record.parties))
    table.add_row("peak memory MiB", *(f"{party.peak_memory_bytes / 2**20:.0f}" for party in record.parties))
    if dealt := [party.inferences[-1].dealt for party in record.parties if party.inferences]:
        shown = [each for each in dealt if each is not None]
        if shown:
            table.add_row("dealt before, MB", *(f"{each.offline_bytes / 1e6:.2f}" if each else "" for each in dealt))
            table.add_row("dealt before, s", *(f"{each.offline_s:.3f}" if each else "" for each in dealt))
            table.add_row("requests to the dealer", *(str(each.online_requests) if each else "" for each in dealt))
    if record.statistics is not None:
        stats = record.statistics
        table.caption = f"median {stats.median:.3f} s of {stats.n} (from {stats.low:.3f} to {stats.high:.3f} s)"
    for name, output in record.outputs.items():
        table.caption = f"{table.caption}; {name}: {output}"
    if record.accuracy is not None:
        table.caption = (
            f"{table.caption}; same class as in plaintext {record.accuracy.top1_equal} of {record.accuracy.inputs}"
        )
    return table
