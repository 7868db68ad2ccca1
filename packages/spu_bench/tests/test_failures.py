"""What goes wrong ends soon, in one clear line, with no process left behind."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import pytest
import tomli_w
from parties import cli, computing, free_port, one_line, start_party, write_link
from programs import replace_module, save_program

from spu_bench import RunFailed, RunRecord, SpuBenchError, load_program, run

SOON_S = 15.0
"""The promise: a non-zero exit within this time of the cause."""


pytestmark = pytest.mark.usefixtures("no_orphans")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--protocol", "semi3k"], "no protocol 'semi3k'"),
        (["--runtime", "7"], "no runtime '7'"),
        (["--executor", "cloud"], "no executor 'cloud'"),
        (["--network", "nowhere"], "no network 'nowhere'"),
        (["--network", "wan", "--executor", "loopback"], "cannot provide the network 'wan'"),
        (["--input", "absent.npz"], "absent.npz is missing"),
        (["--options", "absent.toml"], "no options 'absent.toml'"),
    ],
)
def test_what_cannot_be_run_is_said_at_once(small: Path, arguments: list[str], complaint: str) -> None:
    """One line, a status of its own, no traceback."""
    done = cli("run", str(small), "--executor", "loopback", *arguments)
    assert done.returncode in (1, 2)
    assert complaint in one_line(done.stderr)


def test_an_altered_weight_is_found_by_the_server(copy: Callable[[], Path], tmp_path: Path) -> None:
    """The run fails with the array's name, and leaves a record with the reason."""
    program = copy()
    data = bytearray((program / "server.npz").read_bytes())
    position = data.index(b"second.npy") + 200
    data[position] ^= 1
    (program / "server.npz").write_bytes(data)
    record = tmp_path / "record.json"
    done = cli("run", str(program), "--executor", "loopback", "--json", str(record))
    assert done.returncode == 2
    assert "server.npz" in one_line(done.stderr)
    saved = RunRecord.load(record)
    assert saved.status == "failed" and saved.failure is not None
    assert saved.failure.reason == "bad_input" and "server.npz" in saved.failure.problem


def test_a_peer_that_never_comes(small: Path, tmp_path: Path) -> None:
    """A party alone gives up in time."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], connect_timeout_s=2.0)
    started = time.monotonic()
    party = start_party(0, small, link, tmp_path / "home")
    _, errors = party.communicate(timeout=SOON_S + 30)
    assert party.returncode == 1
    assert "Party 1" in one_line(errors) and "did not connect within 2 s" in errors
    assert time.monotonic() - started < SOON_S + 5  # and the start of Python
    assert json.loads((tmp_path / "home" / "outcome.json").read_text())["failure"]["reason"] == "peer"


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_in_use(small: Path, tmp_path: Path, offset: int) -> None:
    """SPU's port and the exchange's are both checked and named."""
    port = free_port()
    link = write_link(tmp_path / "link.toml", [port, free_port()], connect_timeout_s=2.0)
    with socket.create_server(("127.0.0.1", port + offset)):
        party = start_party(0, small, link, tmp_path / "home")
        _, errors = party.communicate(timeout=60)
    assert party.returncode == 1
    assert f"127.0.0.1:{port + offset}: Address already in use" in one_line(errors)


def test_a_party_that_listens_at_another_address(small: Path, tmp_path: Path) -> None:
    """Behind a NAT a party cannot bind the address at which the other reaches it. Here that is a host's name."""
    ports = [free_port(), free_port()]
    reached = [{"address": "localhost", "port": port, "listen": "127.0.0.1"} for port in ports]
    link = tmp_path / "link.toml"
    link.write_text(tomli_w.dumps({"party": reached, "connect_timeout_s": 20.0}))
    parties = [start_party(rank, small, link, tmp_path / f"home-{rank}") for rank in (0, 1)]
    for party in parties:
        _, errors = party.communicate(timeout=60)
        assert party.returncode == 0, errors
    link.write_text(tomli_w.dumps({"party": [{**each, "listen": "192.0.2.1"} for each in reached]}))
    party = start_party(0, small, link, tmp_path / "home-0")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 1 and f"Cannot listen on 192.0.2.1:{ports[0]}" in one_line(errors)


def test_another_program(small: Path, long: Path, tmp_path: Path) -> None:
    """Two parties with two Programs both say so."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    parties = [start_party(rank, program, link, tmp_path / f"home-{rank}") for rank, program in ((0, small), (1, long))]
    for party in parties:
        _, errors = party.communicate(timeout=60)
        assert party.returncode == 2
        assert "another Program" in one_line(errors)


@pytest.mark.parametrize("whole", [True, False], ids=["the party", "its runtime's process"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_peer_that_dies_half_way(long: Path, tmp_path: Path, victim: int, whole: bool) -> None:
    """The other party is deep in SPU, and still ends in time."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    parties = [start_party(rank, long, link, tmp_path / f"home-{rank}") for rank in (0, 1)]
    inner = computing(parties[victim])
    (parties[victim] if whole else inner).kill()
    died = time.monotonic()
    survivor = parties[1 - victim]
    _, errors = survivor.communicate(timeout=60)
    assert time.monotonic() - died < SOON_S
    assert survivor.returncode == 1
    assert f"Party {victim} was lost" in one_line(errors)
    assert json.loads((tmp_path / f"home-{1 - victim}" / "outcome.json").read_text())["failure"]["reason"] == "peer"
    _, errors = parties[victim].communicate()
    if not whole:
        assert f"Party {victim} was killed by signal 9" in one_line(errors)
        assert json.loads((tmp_path / f"home-{victim}" / "outcome.json").read_text())["failure"]["reason"] == "memory"


def fourier(weights: dict[str, Any], images: Any) -> jax.Array:
    """A model with an operation that SPU does not have."""
    return jax.numpy.abs(jax.numpy.fft.fft(images @ weights["w"]))


def test_an_operation_that_spu_does_not_know(tmp_path: Path) -> None:
    """SPU's compiler ends its process: the party says which operation it was, and what to do."""
    weights = {"w": np.eye(4, dtype=np.float32)}
    program = save_program(tmp_path / "program", "fourier", fourier, weights, np.ones((1, 4), np.float32))
    done = cli("run", str(program), "--executor", "loopback")
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert "SPU 0.9.5 cannot compile the Program: failed to legalize operation 'stablehlo.fft'" in line
    assert "Fix: export the Program without that operation" in line


def test_an_empty_module(copy: Callable[[], Path]) -> None:
    """SPU's own reason is shown, without its "what:" and its stack trace."""
    program = replace_module(copy(), b"")
    with pytest.raises(RunFailed, match=r"SPU 0\.9\.5 cannot compile the Program: No program shape found") as caught:
        run(load_program(program), executor="loopback")
    assert caught.value.reason == "bad_input" and "what" not in caught.value.problem


def test_an_interface_that_does_not_exist(small: Path, tmp_path: Path) -> None:
    """It is refused before a peer is called."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    party = start_party(0, small, link, tmp_path / "home", "--interface", "no-such0")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and "There is no network interface 'no-such0'" in one_line(errors)


def test_a_defect_is_one_line_too(small: Path) -> None:
    """What nobody has foreseen gives no traceback, unless one asks for it."""
    broken = "import sys, spu_bench.cli.run as run; run.load_program = lambda path: 1 / 0; "
    program = broken + f"from spu_bench.cli import main; sys.argv = ['spu-bench', 'run', {str(small)!r}]; main()"
    for asked in (False, True):
        environment = {**os.environ, "SPU_BENCH_DEBUG": "1"} if asked else None
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=environment)
        assert done.returncode == 1 and ("Traceback" in done.stderr) is asked
        if not asked:
            assert "spu-bench failed: ZeroDivisionError" in one_line(done.stderr)


def test_a_party_killed_under_a_run(long: Path) -> None:
    """The run says which party was killed by what, in its error and in its record."""
    killer = subprocess.Popen(
        [sys.executable, "-c", KILL_A_CHILD, str(os.getpid())], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
    )
    started = time.monotonic()
    with pytest.raises(RunFailed, match="Party 1 was killed by signal 9") as caught:
        run(load_program(long), executor="loopback", timeout_s=120)
    killer.wait(timeout=30)
    assert caught.value.record.status == "failed"
    assert caught.value.reason == "memory"
    assert time.monotonic() - started < 60


KILL_A_CHILD = """
import psutil, sys, time
deadline = time.monotonic() + 60
while time.monotonic() < deadline:
    for child in psutil.Process(int(sys.argv[1])).children():
        try:
            words = child.cmdline()
        except psutil.Error:
            continue
        if "--rank" in words and words[words.index("--rank") + 1] == "1":
            time.sleep(2)
            child.kill()
            sys.exit()
    time.sleep(0.05)
"""


def test_a_run_that_is_killed_takes_its_parties_along(long: Path) -> None:
    """`kill -9` of the run leaves no party: `no_orphans` looks."""
    parent = subprocess.Popen(
        [sys.executable, "-m", "spu_bench", "run", str(long), "--executor", "loopback"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    process = psutil.Process(parent.pid)
    deadline = time.monotonic() + 60
    while len(process.children()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    children = process.children()
    time.sleep(2.0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    _, alive = psutil.wait_procs(children, timeout=SOON_S)
    assert alive == []


def test_bad_rank(small: Path, tmp_path: Path) -> None:
    """There is no third party of two."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    party = start_party(2, small, link, tmp_path / "home")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and "no rank 2" in one_line(errors)


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [({"protocol": "aby3"}, "aby3 takes 3 parties"), ({"repeats": 0}, "repeats"), ({"surplus": 1}, "surplus")],
)
def test_bad_link_file(small: Path, tmp_path: Path, settings: dict[str, object], complaint: str) -> None:
    """A malformed link file is refused by its key."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], **settings)
    party = start_party(0, small, link, tmp_path / "home")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and complaint in one_line(errors)


def test_a_spoiled_input_is_refused(small: Path, tmp_path: Path) -> None:
    """An input that is no npz is found before a party starts."""
    (tmp_path / "image.npz").write_text("not an archive")
    with pytest.raises(SpuBenchError, match="cannot be read"):
        run(load_program(small), executor="loopback", inputs=tmp_path / "image.npz")
