"""Whole runs with a dealer that is a third party: what is measured, what is refused, and how a run ends without it."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import tomli_w
from certificates import Authority
from parties import cli, computing, free_port, one_line, start_party, write_link
from programs import KINDS, write_kind
from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench import Options, RunFailed, RunRecord, SpuBenchError, load_program, protocols, run
from spu_bench.dealer import TlsFiles
from spu_bench.session import load_session

SOON_S = 15.0

pytestmark = pytest.mark.usefixtures("no_orphans")


def test_a_third_party_deals(small: Path) -> None:
    """Right logits; after the warm-up nothing is asked of the dealer while the Program runs; no mask is used twice."""
    record = run(load_program(small), executor="loopback", repeats=2, warmup=1, dealer="third-party")
    assert record.status == "ok" and record.trust == "semi-honest; a third party deals the triples"
    assert record.accuracy is not None and record.accuracy.max_abs_error < 1e-3
    assert record.dealer is not None and (record.dealer.kind, record.dealer.host) == ("third-party", "127.0.0.1")
    assert record.dealer.overlaps == record.dealer.refused == 0
    server, client = record.parties
    assert [each.dealt for each in client.inferences] == [None, None]
    for inference in server.inferences:
        dealt = inference.dealt
        assert dealt is not None and dealt.online_requests == dealt.online_bytes == 0
        assert dealt.from_memory == dealt.prepared == record.dealer.draws // 3 > 0
        assert dealt.offline_s > 0 and dealt.offline_bytes > 0
    dealt_by_server = run(load_program(small), executor="loopback", dealer="server")
    assert dealt_by_server.dealer is None and dealt_by_server.parties[0].inferences[0].dealt is None
    assert dealt_by_server.request.dealer == "server" and "server deals" in (dealt_by_server.trust or "")
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_without_a_warm_up_the_first_inference_asks_online(small: Path) -> None:
    record = run(load_program(small), executor="loopback", repeats=2, warmup=0, dealer="third-party")
    first, second = (each.dealt for each in record.parties[0].inferences)
    assert first is not None and second is not None
    assert first.prepared == 0 < (first.online_requests or 0) == second.prepared and second.online_requests == 0
    assert first.online_bytes


@pytest.mark.parametrize("kind", sorted(KINDS))
@pytest.mark.parametrize("warmup", [0, 1])
def test_no_two_draws_overlap(tmp_path: Path, kind: str, warmup: int) -> None:
    """Over a whole session of each kind of Program, with the answers ahead of time from its second inference."""
    program = load_program(write_kind(tmp_path / kind, kind))
    record = run(program, executor="loopback", repeats=3 - warmup, warmup=warmup, dealer="third-party")
    assert record.status == "ok" and record.dealer is not None
    assert record.dealer.overlaps == record.dealer.refused == 0 < record.dealer.draws
    last = record.parties[0].inferences[-1].dealt
    assert last is not None and last.online_requests == 0 < last.from_memory == record.dealer.draws // 3


def test_in_a_namespace_of_its_own(small: Path) -> None:
    """Three namespaces, three links that are shaped and probed."""
    require(lacks_root() or lacks_commands("ip", "tc"))
    record = run(load_program(small), network="lan", executor="netns", repeats=1, warmup=1, dealer="third-party")
    assert record.status == "ok" and record.dealer is not None and record.dealer.host == "10.77.0.3"
    assert len(record.link_before) == len(record.link_after) == 3


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--dealer", "nobody"], "no dealer 'nobody'"),
        (["--dealer", "third-party", "--protocol", "cheetah"], "cheetah has no dealer"),
        (["--dealer", "server", "--protocol", "aby3"], "aby3 has no dealer"),
        (["--dealer", "third-party", "--runtime", "0.3.1b0"], "semi2k on 0.3.1b0 has no dealer 'third-party'"),
        (["--dealer", "third-party", "--runtime", "crypten-0.4.1"], "beaver on crypten-0.4.1 has no dealer"),
        (["--dealer", "third-party", "--executor", "docker"], "docker cannot start a dealer"),
    ],
)
def test_what_has_no_such_dealer_is_refused(small: Path, arguments: list[str], complaint: str) -> None:
    done = cli("run", str(small), "--executor", "loopback", *arguments)
    assert done.returncode == 2
    assert complaint in one_line(done.stderr)


def test_options_that_name_another_dealer_are_refused(small: Path) -> None:
    for settings in ({"beaver_type": "MultiParty"}, {"ttp_beaver_config": {"server_host": "127.0.0.1:1"}}):
        with pytest.raises(SpuBenchError, match="leave"):
            run(load_program(small), executor="loopback", options=Options(runtime=settings), dealer="third-party")


def _dealer_of_this_run() -> psutil.Process:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        for child in psutil.Process().children(recursive=True):
            with contextlib.suppress(psutil.Error):
                if "dealer" in child.cmdline():
                    return child
        time.sleep(0.05)
    raise AssertionError("no dealer was started")


@pytest.mark.parametrize(
    ("number", "said"),
    [(signal.SIGKILL, "The dealer was killed"), (signal.SIGSTOP, r"The dealer at 127.0.0.1:\d+ does not answer")],
)
def test_a_dealer_lost_half_way(long: Path, number: signal.Signals, said: str) -> None:
    """Dead or only silent: the run ends within seconds, and names the dealer."""
    at = [0.0]

    def lose() -> None:
        dealer = _dealer_of_this_run()
        party = next(c for c in psutil.Process().children() if "party" in c.cmdline())
        worked = 0.0
        while worked < 3:  # a child may have ended since it was listed
            time.sleep(0.1)
            with contextlib.suppress(psutil.Error):
                worked = max((child.cpu_times().user for child in party.children()), default=0.0)
        at[0] = time.monotonic()
        dealer.send_signal(number)

    thread = threading.Thread(target=lose)
    thread.start()
    with pytest.raises(RunFailed, match=said) as failed:
        run(load_program(long), executor="loopback", repeats=3, dealer="third-party", timeout_s=150)
    thread.join()
    assert time.monotonic() - at[0] < SOON_S + 10  # a dealer that was stopped does not end by itself
    assert failed.value.record.status == "failed"
    for party in failed.value.record.parties:
        assert party.failure is not None and party.failure.problem.startswith("The dealer at ")


@contextlib.contextmanager
def _dealer(folder: Path, *more: str) -> Iterator[tuple[int, subprocess.Popen[str]]]:
    """`spu-bench dealer` on a free port, as a third person would start it."""
    port = free_port()
    command = [sys.executable, "-m", "spu_bench", "dealer", "--port", str(port), "--summary", "summary.json", *more]
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert f"127.0.0.1:{port}" in process.stdout.readline()
            yield port, process
        finally:
            process.kill()


def _key(path: Path) -> Path:
    path.touch(mode=0o600)
    path.write_bytes(os.urandom(32))
    return path


@pytest.mark.parametrize("key", ["none", "same", "other"])
def test_parties_and_a_dealer_by_hand(small: Path, tmp_path: Path, key: str) -> None:
    """With the dealer's key the answers come ahead of time, with none each is asked for, with another nothing is."""
    mine = _key(tmp_path / "dealer.key")
    theirs = _key(tmp_path / "other.key") if key == "other" else mine
    more = ["--public-key", "pem", *(["--key-file", str(mine)] if key != "none" else [])]
    with _dealer(tmp_path, *more) as (port, dealer):
        table: dict[str, Any] = {"address": "127.0.0.1", "port": port}
        if key != "none":
            table["key_file"] = theirs.name
        link = write_link(tmp_path / "link.toml", [free_port(), free_port()], repeats=2, dealer=table)
        server = start_party(0, small, link, tmp_path / "server")
        client = start_party(1, small, link, tmp_path / "client", "--output", "out.npz")
        ends = [party.communicate(timeout=90)[1] for party in (server, client)]
        dealer.terminate()
        assert dealer.wait(10) == 0
    if key == "other":
        assert server.returncode == client.returncode == 1 or server.returncode == 2
        assert "wrong MAC" in one_line(ends[0])
        return
    assert server.returncode == client.returncode == 0, ends
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["overlaps"] == summary["refused"] == 0 < summary["requests"] == summary["draws"]
    assert "PUBLIC KEY" in (tmp_path / "pem").read_text()
    dealt = json.loads((tmp_path / "server" / "outcome.json").read_text())["inferences"][-1]["dealt"]
    assert dealt["online_requests"] == (0 if key == "same" else None)
    with np.load(tmp_path / "client" / "out.npz") as out, np.load(small / "reference.npz") as expected:
        np.testing.assert_allclose(out["logits"][:1], expected["logits"], atol=1e-3)


def _tls_table(files: TlsFiles) -> dict[str, str]:
    return {"certificate": str(files.certificate), "private_key": str(files.private_key), "ca": str(files.ca)}


@pytest.mark.parametrize(("ahead", "stranger"), [(True, False), (False, False), (True, True)])
def test_over_mutual_tls(small: Path, tmp_path: Path, ahead: bool, stranger: bool) -> None:
    """Each party shows its own certificate; one of another CA gets no session."""
    authority = Authority(tmp_path / "ca")
    files = [authority.files(name) for name in ("server", "client", "dealer")]
    server_files = Authority(tmp_path / "other").files("server") if stranger else files[0]
    more = ["--tls-ca", str(files[2].ca), "--tls-certificate", str(files[2].certificate)]
    more += ["--tls-key", str(files[2].private_key), "--client", "server", "--client", "client"]
    key = {"key_file": str(_key(tmp_path / "dealer.key"))} if ahead else {}
    with _dealer(tmp_path, *more, *(["--key-file", key["key_file"]] if ahead else [])) as (port, dealer):
        ports = [free_port(), free_port()]
        parties = []
        for rank, own in enumerate((server_files, files[1])):
            table = {"address": "127.0.0.1", "port": port, **_tls_table(own), **(key if rank == 0 else {})}
            link = write_link(tmp_path / f"link{rank}.toml", ports, repeats=2, dealer=table, connect_timeout_s=5.0)
            parties.append(start_party(rank, small, link, tmp_path / str(rank)))
        ends = [party.communicate(timeout=90)[1] for party in parties]
        dealer.terminate()
        assert dealer.wait(10) == 0
    if stranger:
        assert parties[0].returncode == parties[1].returncode == 1
        assert f"The dealer at 127.0.0.1:{port} does not answer" in one_line(ends[0])
        return
    assert [party.returncode for party in parties] == [0, 0], ends
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["overlaps"] == summary["refused"] == 0 < summary["draws"]


def test_a_dealer_that_is_not_there(small: Path, tmp_path: Path) -> None:
    """Both parties name it."""
    dealer = {"address": "127.0.0.1", "port": free_port()}
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], dealer=dealer, connect_timeout_s=5.0)
    parties = [start_party(rank, small, link, tmp_path / str(rank)) for rank in range(2)]
    for party in parties:
        _, errors = party.communicate(timeout=60)
        assert party.returncode == 1
        assert f"The dealer at 127.0.0.1:{dealer['port']} does not answer" in one_line(errors)


def test_a_dealer_that_dies_ends_both_parties_by_hand(long: Path, tmp_path: Path) -> None:
    with _dealer(tmp_path) as (port, dealer):
        link = write_link(
            tmp_path / "link.toml", [free_port(), free_port()], dealer={"address": "127.0.0.1", "port": port}
        )
        parties = [start_party(rank, long, link, tmp_path / str(rank)) for rank in range(2)]
        computing(parties[0])
        dealer.kill()
        started = time.monotonic()
        for party in parties:
            _, errors = party.communicate(timeout=60)
            assert party.returncode == 1
            assert f"The dealer at 127.0.0.1:{port} does not answer" in one_line(errors)
        assert time.monotonic() - started < SOON_S


@pytest.mark.parametrize(
    ("dealer", "more", "complaint"),
    [
        ({"address": "192.0.2.1", "port": 9}, {}, "insecure = true"),
        ({"address": "127.0.0.1", "port": 9, "ca": "ca.pem"}, {}, "given together"),
        ({"address": "127.0.0.1", "port": 9}, {"protocol": "cheetah"}, "cheetah has no dealer"),
        ({"address": "127.0.0.1", "port": 9}, {"options": {"runtime": {"beaver_type": "MultiParty"}}}, "beaver_type"),
    ],
)
def test_a_bad_table_of_the_link_file(
    tmp_path: Path, dealer: dict[str, Any], more: dict[str, Any], complaint: str
) -> None:
    path = tmp_path / "link.toml"
    party = [{"address": "127.0.0.1", "port": port} for port in (20000, 20010)]
    path.write_text(tomli_w.dumps({"party": party, "dealer": dealer, **more}))
    with pytest.raises(SpuBenchError, match=complaint):
        load_session(path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--host", "0.0.0.0"], "without TLS"),
        (["--tls-ca", "ca.pem"], "a part of its TLS files"),
        (["--key-file", "absent"], "absent cannot be read"),
        (["--parties", "5"], ""),
    ],
)
def test_a_dealer_that_cannot_start_says_why(arguments: list[str], complaint: str) -> None:
    done = cli("dealer", *arguments)
    assert done.returncode == 2 and complaint in done.stderr


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    key = _key(tmp_path / "key")
    key.chmod(0o644)
    done = cli("dealer", "--key-file", str(key))
    assert done.returncode == 2 and "Others than its owner" in one_line(done.stderr)


def test_every_protocol_says_which_dealers_it_has() -> None:
    found = {name: [dealer.name for dealer in each.dealers] for name, each in protocols.PROTOCOLS.items()}
    assert found["semi2k"] == ["server", "third-party", "nobody"] and found["cheetah"] == []
