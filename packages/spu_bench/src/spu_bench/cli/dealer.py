"""spu-bench dealer: the third party that deals SEMI2K's triples, as a process of its own."""

from __future__ import annotations

import dataclasses
import json as json_format
import logging
import signal
import sys
from pathlib import Path
from typing import Annotated, Optional

import typer

from spu_bench.errors import SpuBenchError
from spu_bench.party.process import DIE_WITH_PARENT
from spu_bench.record import write_whole

_LOGGED_DRAWS = 1_000_000  # requests whose draws are kept for the summary


def dealer_command(
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on (0: a free one).")] = 0,
    parties: Annotated[int, typer.Option(min=2, max=3, help="How many parties a session has.")] = 2,
    tls_ca: Annotated[
        Optional[Path], typer.Option(help="PEM file of the CA that signs everyone's certificate.")
    ] = None,
    tls_certificate: Annotated[Optional[Path], typer.Option(help="PEM file of the dealer's certificate.")] = None,
    tls_key: Annotated[Optional[Path], typer.Option(help="PEM file of the dealer's private key.")] = None,
    client: Annotated[
        Optional[list[str]], typer.Option(help="Name in a party's certificate (repeat it; default: all of the CA).")
    ] = None,
    insecure: Annotated[bool, typer.Option("--insecure", help="Listen without TLS beyond loopback.")] = False,
    key_file: Annotated[
        Optional[Path], typer.Option(help="32 random bytes that the server has too: answers ahead of time.")
    ] = None,
    public_key: Annotated[Optional[Path], typer.Option(help="File for the first session's public key (PEM).")] = None,
    summary: Annotated[Optional[Path], typer.Option(help="JSON file for what was asked, written at the end.")] = None,
    _die_with_parent: Annotated[bool, typer.Option(DIE_WITH_PARENT, hidden=True)] = False,  # main() has done it
) -> None:
    """Deal triples to parties of SEMI2K until SIGTERM or Ctrl-C. Run it where no party runs: with one it can open all.

    Example: spu-bench dealer --host 192.0.2.30 --port 9000 --tls-ca ca.pem --tls-certificate d.pem --tls-key d.key
    """
    from spu_bench import dealer as dealing  # only here: it loads cryptography
    from spu_bench.party.dealer_client import read_key

    logging.basicConfig(level=logging.WARNING, stream=sys.stderr, format="%(message)s")
    tls = None
    if tls_ca is not None and tls_certificate is not None and tls_key is not None:
        tls = dealing.TlsFiles(tls_certificate, tls_key, tls_ca)
    elif tls_ca or tls_certificate or tls_key:
        raise SpuBenchError(
            "The dealer has only a part of its TLS files.",
            "give --tls-ca, --tls-certificate and --tls-key together.",
            "bad_input",
        )
    options = dealing.DealerOptions(
        world_size=parties,
        host=host,
        port=port,
        tls=tls,
        insecure=insecure,
        clients=frozenset(client or ()),
        key=read_key(key_file) if key_file else None,
        kept_draws=_LOGGED_DRAWS,
    )
    signals = {signal.SIGTERM, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)  # before the dealer's threads, which inherit it
    with dealing.Dealer(options) as running:
        if public_key is not None:
            write_whole(public_key, running.public_key)
        print(f"The dealer listens on {host}:{running.port}.\n{running.public_key}", flush=True)
        signal.sigwait(signals)
        done = dataclasses.asdict(running.status)
        done.pop("refused_connections")
        draws = running.draws
    done |= {"draws": len(draws), "overlaps": len(dealing.overlaps(draws))}
    if summary is not None:
        write_whole(summary, json_format.dumps(done, indent=1) + "\n")
    print(", ".join(f"{name.replace('_', ' ')}: {value}" for name, value in done.items()), flush=True)
