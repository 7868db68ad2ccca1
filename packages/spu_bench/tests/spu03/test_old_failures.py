"""What goes wrong with the old runtime ends in one line that names its fix, with no process and no directory left."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np
import psutil
import pytest
from parties import cli, computing, free_port, one_line, start_party, write_link
from programs import replace_module, save_program
from requirements_of_tests import lacks_commands, require

from spu_bench import RunRecord, SpuBenchError, load_program, run, runtimes
from spu_bench.executors.scratch import scratch_directory

pytestmark = pytest.mark.usefixtures("no_orphans")
RUN = ("run", "--executor", "loopback", "--runtime", "0.3.1b0")
INSTALL = "Fix: spu-bench runtime install 0.3.1b0"
RIGHT = {"spu": "0.3.1b0", "numpy": "1.23.5", "protobuf": "3.20.3", "cachetools": "5.5.2", "termcolor": "2.4.0"}
SOON_S = 15.0


@pytest.mark.parametrize(
    ("versions", "complaint"),
    [
        (None, "The environment of SPU 0.3.1b0 is not installed"),
        ({**RIGHT, "protobuf": "4.25.3"}, "requires protobuf 3.20.3, and its environment has 4.25.3"),
        ({name: RIGHT[name] for name in RIGHT if name != "spu"}, "requires spu 0.3.1b0, and its environment has none"),
    ],
    ids=["no environment", "another protobuf", "no wheel"],
)
def test_an_environment_that_is_not_right(
    small: Path, tmp_path: Path, versions: dict[str, str] | None, complaint: str
) -> None:
    """The error names what is missing, and the one command that fixes it."""
    if versions is not None:
        python = tmp_path / "0.3.1b0" / "bin" / "python"
        python.parent.mkdir(parents=True)
        python.write_text(f"#!/bin/sh\necho '{json.dumps(versions)}'\n")
        python.chmod(0o755)
    done = cli(*RUN, str(small), SPU_BENCH_RUNTIMES=str(tmp_path))
    assert done.returncode == 1
    assert complaint in one_line(done.stderr) and INSTALL in done.stderr


def test_no_python_to_install_on(tmp_path: Path) -> None:
    """Neither found nor given: how to get one, and nothing made."""
    nowhere = {"PATH": "/nowhere", "PYENV_ROOT": "/nowhere", "SPU_BENCH_RUNTIMES": str(tmp_path / "runtimes")}
    done = cli("runtime", "install", "0.3.1b0", **nowhere)
    assert done.returncode == 1
    line = one_line(done.stderr)
    assert "SPU 0.3.1b0 requires Python 3.8, which this host does not have" in line
    assert "uv python install 3.8" in line and "docker/build --runtime 0.3.1b0" in line
    done = cli("runtime", "install", "0.3.1b0", "--python", sys.executable, **nowhere)
    assert done.returncode == 1
    assert "is not a Python 3.8 with venv and pip (3.11)" in one_line(done.stderr)
    assert not (tmp_path / "runtimes").exists()


def test_an_index_without_the_wheel(old: str, tmp_path: Path) -> None:
    """The install fails in one line, and leaves the environment that there was."""
    before = tmp_path / "0.3.1b0" / "before"
    before.mkdir(parents=True)
    base = runtimes.interpreter(runtimes.get(old)).resolve()
    empty = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}
    done = cli("runtime", "install", old, "--python", str(base), SPU_BENCH_RUNTIMES=str(tmp_path), **empty)
    assert done.returncode == 1
    assert "spu==0.3.1b0" in one_line(done.stderr)
    assert [path.name for path in tmp_path.iterdir()] == ["0.3.1b0"] and before.is_dir()


@pytest.mark.parametrize(
    ("options", "arguments", "complaint"),
    [
        ("", ["--protocol", "aby3"], "SPU 0.3.1b0 does not have the protocol 'aby3'. Fix: use one of semi2k, cheetah"),
        ("[compiler]\nfoo = true", [], "takes no compiler options"),
        ("[runtime]\ntrunc_allow_msb_error = true", [], '"trunc_allow_msb_error".*Fix: use one of protocol, field'),
        ("[runtime]\nfield = 'FM1'", [], "Invalid enum value FM1"),
        ("[link]\nno_such_field = 1", [], "no link field 'no_such_field'.*Fix: use one of"),
    ],
    ids=["protocol", "compiler", "field", "value", "link"],
)
def test_what_it_cannot_do(
    old: str, small: Path, tmp_path: Path, options: str, arguments: list[str], complaint: str
) -> None:
    """Today's settings that the old SPU does not know are refused by name."""
    (tmp_path / "options.toml").write_text(options)
    done = cli(*RUN, str(small), "--options", str(tmp_path / "options.toml"), *arguments)
    assert done.returncode == 2
    line = one_line(done.stderr)
    assert re.search(complaint, line), line


def spoil_module(program: Path) -> None:
    """A module of the right checksum that ends too early."""
    replace_module(program, (program / "module.hlo").read_bytes()[:-3])


def empty_module(program: Path) -> None:
    """A module that protobuf can read and that has nothing in it."""
    replace_module(program, b"")


def cut_file(program: Path) -> None:
    """A module that is not the manifest's."""
    (program / "module.hlo").write_bytes((program / "module.hlo").read_bytes()[:-3])


def alter_weight(program: Path) -> None:
    """An archive of other weights than the manifest's."""
    with np.load(program / "server.npz") as archive:
        arrays = dict(archive)
    arrays["second"][0, 0] += 1
    np.savez(program / "server.npz", **arrays)


@pytest.mark.parametrize(
    ("spoil", "complaint"),
    [
        (spoil_module, "not a valid HLO module: cut off"),
        (empty_module, "cannot compile the Program"),
        (cut_file, "module.hlo does not match its checksum"),
        (alter_weight, "'second' that does not match its checksum"),
    ],
)
def test_a_spoiled_program(old: str, copy: Callable[[], Path], spoil: Callable[[Path], None], complaint: str) -> None:
    program = copy()
    spoil(program)
    with pytest.raises(SpuBenchError, match=complaint) as caught:
        run(load_program(program), runtime=old, executor="loopback")
    assert caught.value.reason == "bad_input"


@pytest.mark.parametrize(("operation", "complaint"), [("erf", "Unknown opcode: erf"), ("cbrt", "'mhlo.cbrt'")])
def test_an_operation_that_it_does_not_know(old: str, tmp_path: Path, operation: str, complaint: str) -> None:
    """The compiler's word for it reaches the user, from its error or from its log."""

    def model(weights: dict[str, Any], images: Any) -> jax.Array:
        return getattr(jax.lax, operation)(images @ weights["w"])

    weights = {"w": np.eye(4, dtype=np.float32)}
    program = save_program(tmp_path / "program", "unknown", model, weights, np.ones((1, 4), np.float32))
    with pytest.raises(SpuBenchError, match=rf"cannot compile the Program: .*{complaint}") as caught:
        run(load_program(program), runtime=old, executor="loopback")
    assert caught.value.reason == "bad_input"


@pytest.mark.parametrize("offset", [0, 1])
def test_a_port_in_use(old: str, small: Path, tmp_path: Path, offset: int) -> None:
    port = free_port()
    link = write_link(tmp_path / "link.toml", [port, free_port()], connect_timeout_s=2.0, runtime=old)
    with socket.create_server(("127.0.0.1", port + offset)):
        party = start_party(0, small, link, tmp_path / "home")
        _, errors = party.communicate(timeout=60)
    assert party.returncode == 1
    assert f"127.0.0.1:{port + offset}: Address already in use" in one_line(errors)


def test_an_interface_that_does_not_exist(old: str, small: Path, tmp_path: Path) -> None:
    """As on today's SPU, before a peer is called."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], runtime=old)
    party = start_party(0, small, link, tmp_path / "home", "--interface", "no-such0")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and "There is no network interface 'no-such0'" in one_line(errors)


def test_one_core_is_too_few(old: str, small: Path, tmp_path: Path) -> None:
    """SPU 0.3.1b0 divides by the number of cores less one: it says so instead."""
    require(lacks_commands("taskset"))
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], runtime=old)
    core = str(min(os.sched_getaffinity(0)))
    command = ["taskset", "--cpu-list", core, sys.executable, "-m", "spu_bench", "party", "--rank", "0"]
    command += ["--program", str(small), "--link", str(link)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1 and "has to see 2 cores, this one sees 1" in one_line(done.stderr)


def test_ranks_and_protocols_by_hand(old: str, small: Path, tmp_path: Path) -> None:
    """What a link file or a rank cannot be."""
    ports = [free_port() for _ in range(3)]
    for rank, protocol, count, complaint in (
        (2, "semi2k", 2, "no rank 2"),
        (0, "aby3", 3, "does not have the protocol 'aby3'"),
    ):
        link = write_link(tmp_path / "link.toml", ports[:count], runtime=old, protocol=protocol)
        _, errors = start_party(rank, small, link, tmp_path / "home").communicate(timeout=60)
        assert complaint in one_line(errors)


@pytest.mark.parametrize("whole", [True, False], ids=["the party", "its old interpreter"])
def test_a_peer_that_dies_half_way(old: str, long: Path, tmp_path: Path, whole: bool) -> None:
    """The survivor, deep in SPU, ends soon with the reason "peer"; the directory of the dead is swept by the next."""
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], runtime=old, connect_timeout_s=60.0)
    parties = [start_party(rank, long, link, tmp_path / f"home-{rank}") for rank in (0, 1)]
    inner = computing(parties[1])
    (parties[1] if whole else inner).kill()
    died = time.monotonic()
    _, errors = parties[0].communicate(timeout=60)
    assert time.monotonic() - died < SOON_S
    assert parties[0].returncode == 1 and "Party 1 was lost" in one_line(errors)
    assert json.loads((tmp_path / "home-0" / "outcome.json").read_text())["failure"]["reason"] == "peer"
    _, errors = parties[1].communicate(timeout=60)
    psutil.wait_procs([inner], timeout=SOON_S)
    assert not inner.is_running()
    if not whole:
        assert "Party 1 was killed by signal 9" in one_line(errors)
        assert json.loads((tmp_path / "home-1" / "outcome.json").read_text())["failure"]["reason"] == "memory"
    with scratch_directory():
        left = [path for party in parties for path in Path(tempfile.gettempdir()).glob(f"spub-{party.pid}-*")]
    assert left == []


def test_an_interpreter_killed_under_a_run(old: str, long: Path, tmp_path: Path) -> None:
    """The run's error and its record say which party died, and of what."""
    record = tmp_path / "record.json"
    command = [sys.executable, "-m", "spu_bench", *RUN, str(long), "--json", str(record)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as started:
        deadline = time.monotonic() + 120
        while not (victims := inner_parties(started.pid, cpu_s=1.0)):
            assert started.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        victims[0].kill()
        _, errors = started.communicate(timeout=60)
    assert started.returncode == 1 and "was killed by signal 9" in one_line(errors)
    failure = RunRecord.load(record).failure
    assert failure is not None and failure.reason == "memory"


def inner_parties(pid: int, cpu_s: float = 0.0) -> list[psutil.Process]:
    """The old interpreters below a run that have worked for so long."""
    found = []
    for each in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.Error):  # it ends while it is looked at
            if "spu_bench.party.spu03.backend" in each.cmdline() and each.cpu_times().user >= cpu_s:
                found.append(each)
    return found


def test_a_run_that_is_killed_takes_all_along(old: str, long: Path, tmp_path: Path) -> None:
    """`kill -9` of the run leaves no party and, after the next one, no directory."""
    command = [sys.executable, "-m", "spu_bench", *RUN, str(long)]
    started = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while len(inner_parties(started.pid)) < 2:
        assert started.poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    below = psutil.Process(started.pid).children(recursive=True)
    started.kill()
    started.wait()
    _, alive = psutil.wait_procs(below, timeout=SOON_S)
    assert alive == []
    with scratch_directory():
        dead = [started.pid, *(each.pid for each in below)]
        assert not [path for pid in dead for path in Path(tempfile.gettempdir()).glob(f"spub-{pid}-*")]
