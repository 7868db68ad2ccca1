"""Parties on the hosts of a file: reached by ssh to this machine, and by a command that replaces ssh."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import tomli_w

from spu_bench import RunFailed, SpuBenchError, load_program, run
from spu_bench.executors import hosts

HERE = ["env"]
"""Replaces ssh: runs the words that follow it on this machine."""

SSHD = shutil.which("sshd") or ("/usr/sbin/sshd" if os.access("/usr/sbin/sshd", os.X_OK) else None)


def hosts_file(path: Path, *commands: list[str]) -> str:
    """A hosts file with one host for each command, all of them this machine."""
    here = {"address": "127.0.0.1", "interface": "lo", "cores": 1, "python": sys.executable}
    path.write_text(tomli_w.dumps({"host": [{**here, "command": command} for command in commands]}))
    return f"hosts:{path}"


@pytest.fixture(autouse=True)
def _own_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Use a lock of the test's own: nothing here is a measurement."""
    monkeypatch.setenv("SPU_BENCH_LOCK", str(tmp_path / "measurement.lock"))


@pytest.fixture
def ssh(tmp_path: Path) -> Iterator[list[str]]:
    """An ssh server on a free port with its own keys, and the command that reaches it."""
    if SSHD is None or shutil.which("ssh") is None:
        pytest.skip("no sshd here: apt-get install openssh-server openssh-client")
    for name in ("host", "user"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / name], check=True)
    if os.geteuid() == 0:
        Path("/run/sshd").mkdir(exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    settings = (
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {tmp_path}/host\nAuthorizedKeysFile {tmp_path}/user.pub\n"
        f"PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nPermitRootLogin yes\n"
    )
    (tmp_path / "sshd_config").write_text(settings)
    command = ["ssh", "-F", "none", "-p", str(port), "-i", f"{tmp_path}/user", "-o", "BatchMode=yes"]
    command += ["-o", "StrictHostKeyChecking=no", "-o", f"UserKnownHostsFile={tmp_path}/known", "127.0.0.1"]
    command += ["env", f"PYTHONPATH={os.environ.get('PYTHONPATH', '')}"]  # ssh does not pass it on
    with subprocess.Popen([SSHD, "-D", "-e", "-f", tmp_path / "sshd_config"], stderr=subprocess.PIPE) as server:
        until = time.monotonic() + 60
        while subprocess.run([*command, "true"], capture_output=True).returncode:
            assert time.monotonic() < until and server.poll() is None
            time.sleep(0.2)
        yield command
        server.terminate()


def check_run(program: Path, executor: str) -> None:
    record = run(load_program(program), executor=executor)
    assert record.status == "ok" and record.request.executor == "hosts" and record.watch is None
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.01
    assert len(record.link_before) == len(record.link_after) == 1 and record.link_before[0].rate_mbit > 0
    assert record.executor is not None and [host.system for host in record.executor.hosts] == ["Linux", "Linux"]
    server, client = record.parties
    assert not any("client.npz" in name for name in server.opened_files)
    assert not any("server.npz" in name for name in client.opened_files)


def test_a_run_without_ssh(small: Path, tmp_path: Path) -> None:
    """Directories are sent to the hosts and results come back; the network is probed and not shaped."""
    check_run(small, hosts_file(tmp_path / "lab.toml", HERE, HERE))


def test_a_run_by_ssh(small: Path, tmp_path: Path, ssh: list[str]) -> None:
    """The same over ssh to this machine."""
    check_run(small, hosts_file(tmp_path / "lab.toml", ssh, ssh))


def test_another_network_than_the_requested_one(small: Path, tmp_path: Path) -> None:
    """Nothing is shaped: a run that requests `wan` on another network is invalid."""
    with pytest.raises(RunFailed, match="RTT") as caught:
        run(load_program(small), network="wan", executor=hosts_file(tmp_path / "lab.toml", HERE, HERE))
    assert caught.value.record.status == "invalid" and not caught.value.record.samples_s


def test_a_process_ends_with_its_connection(tmp_path: Path) -> None:
    """After the run was killed, its process and directory on the host are gone."""
    entry = hosts.HostEntry(address="127.0.0.1", interface="lo", cores=1, command=("env",), python=sys.executable)
    host = hosts.RemoteHost(0, entry, tmp_path)
    code = "import json, os, time; json.dump([os.getpid(), os.getcwd()], open('w', 'w')); os.rename('w', 'at.json')"
    process = host.start(["-c", f"{code}; time.sleep(600)"], environment={}, log="log")
    until = time.monotonic() + 60
    while not (tmp_path / "at.json").exists():
        assert time.monotonic() < until and process.poll() is None
        time.sleep(0.02)
    pid, directory = json.loads((tmp_path / "at.json").read_text())
    process.kill()
    process.wait(timeout=60)
    assert not Path(f"/proc/{pid}").exists() and not Path(directory).exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (None, "cannot be read"),
        ("[[host]]\naddres = 'x'", "host.0"),
        ("[[host]]\naddress='a'\ninterface='lo'\ncores=1\ncommand=['false']", "at least 2"),
    ],
)
def test_an_invalid_file(text: str | None, said: str, tmp_path: Path) -> None:
    """The wrong key is named before anything starts."""
    path = tmp_path / "lab.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(SpuBenchError, match=said) as caught:
        hosts.HostsExecutor(str(path))
    assert caught.value.reason == "bad_input"


def test_a_host_that_does_not_answer(small: Path, tmp_path: Path) -> None:
    """The error names the party and a command to try."""
    with pytest.raises(RunFailed, match=r"party 1 does not answer.*--about") as caught:
        run(load_program(small), executor=hosts_file(tmp_path / "lab.toml", HERE, ["false"]))
    assert caught.value.reason == "environment"
