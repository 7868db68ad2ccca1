"""Parties in containers: the network is the requested one, parties are isolated, and nothing is left."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from cells import kill_while_open, make_directories, probe_until_valid
from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench import SpuBenchError
from spu_bench.executors.docker import DockerExecutor
from spu_bench.executors.netns import NetnsExecutor
from spu_bench.network import LAN, LOOPBACK, WAN, Network
from spu_bench.source_files import SOURCE_LABEL, source_hash

ROOT = Path(__file__).resolve().parents[4]
BUILD, OFFLINE_BASE = ROOT / "docker" / "build", ROOT / "docker" / "offline-base"
SCRIPTS = [[sys.executable, str(BUILD), "--base", "spu-bench-base:bookworm"], [str(OFFLINE_BASE), "--force"]]


def left_by(engine: Any, pid: int) -> list[str]:
    """Names of the containers and networks that the process `pid` made."""
    made = [*engine.containers.list(all=True, ignore_removed=True), *engine.networks.list()]
    return sorted(each.name for each in made if f"spub-{pid}-" in each.name)


@pytest.mark.parametrize("network", [WAN, LAN], ids=lambda network: network.name)
def test_the_network_is_the_requested_one(image: str, engine: Any, tmp_path: Path, network: Network) -> None:
    executor = DockerExecutor(image)
    probes, verdict = probe_until_valid(executor, network, make_directories(tmp_path))
    if network is LAN:
        # Three gigabits take a core that a busy machine does not have: the link may be slower, never faster.
        assert all(probe.rtt_min_ms > 0.9 * LAN.rtt_ms for probe in probes), probes
        assert all(max(probe.rate_mbit, probe.rate_back_mbit) < 1.1 * 3000 for probe in probes), probes
    else:
        assert verdict is None, probes
    seen = executor.describe()
    assert seen.image is not None and seen.image.id.startswith("sha256:")
    assert seen.image.labels[SOURCE_LABEL] == source_hash()
    assert seen.shaper in ("netem", "nfqueue")
    assert left_by(engine, os.getpid()) == []


def test_three_parties_reach_each_other(image: str, tmp_path: Path) -> None:
    network = Network(name="quick", rate_mbit=1000.0, rtt_ms=2.0)
    probes, verdict = probe_until_valid(DockerExecutor(image), network, make_directories(tmp_path, parties=3))
    assert [(each.server, each.client) for each in probes] == [(0, 1), (0, 2), (1, 2)]
    assert verdict is None, probes


def test_a_party_has_its_own_directory_and_cannot_change_its_network(image: str, tmp_path: Path) -> None:
    directories = make_directories(tmp_path)
    (directories[0] / "weights").write_text("secret")
    program = (
        "import os, subprocess\n"
        "print(sorted(os.listdir('.')), os.environ['MINE'], sorted(os.listdir('/sys/class/net')))\n"
        "print(subprocess.call(['tc', 'qdisc', 'del', 'dev', 'eth0', 'root'], stderr=-3))\n"
        f"print(os.path.exists({str(directories[0])!r}))\n"
    )
    with DockerExecutor(image).open(Network(name="slow", rate_mbit=50.0), directories) as hosts:
        process = hosts[1].start(["-c", program], environment={"MINE": "yes"}, log="log")
        assert process.wait(60) == 0
        assert process.poll() == 0
    lines = (directories[1] / "log").read_text().splitlines()
    assert lines == ["['log'] yes ['eth0', 'lo']", "2", "False"]
    assert (directories[1] / "log").stat().st_uid == os.getuid()


def test_a_party_can_be_ended(image: str, tmp_path: Path) -> None:
    greedy = ["-c", "held = [b'x' * 2**20 for _ in range(1000)]"]
    with DockerExecutor(image, memory_bytes=100 * 2**20).open(LOOPBACK, make_directories(tmp_path)) as hosts:
        assert hosts[0].start(greedy, environment={}, log="log").wait(60) == 137, "killed for its memory"
        for end, status in (("terminate", 143), ("kill", 137)):
            sleeping = hosts[1].start(["-c", "import time; time.sleep(600)"], environment={}, log="log")
            assert sleeping.poll() is None
            with pytest.raises(TimeoutError):
                sleeping.wait(0.1)
            getattr(sleeping, end)()
            assert sleeping.wait(30) == status
            getattr(sleeping, end)()


def test_an_error_in_the_run_leaves_nothing(image: str, engine: Any, tmp_path: Path) -> None:
    def fail() -> None:
        with DockerExecutor(image).open(WAN, make_directories(tmp_path)) as hosts:
            hosts[0].start(["-c", "import time; time.sleep(600)"], environment={}, log="log")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail()
    assert left_by(engine, os.getpid()) == []


def test_the_next_run_removes_what_a_killed_run_left(
    image: str, engine: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SPU_BENCH_IMAGE", image)
    directories = make_directories(tmp_path)
    pid = kill_while_open("docker", directories, lambda pid: len(left_by(engine, pid)) >= 3)
    assert left_by(engine, pid)
    with DockerExecutor(image).open(LOOPBACK, directories):
        assert left_by(engine, pid) == []


def test_a_missing_engine_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path}/docker.sock")
    with (
        pytest.raises(SpuBenchError, match="No Docker engine answers at unix://") as caught,
        DockerExecutor().open(WAN, make_directories(tmp_path)),
    ):
        pass
    assert caught.value.reason == "environment"
    assert "start-engine" in caught.value.fix
    assert "No Docker engine" in (DockerExecutor().missing(WAN) or "")


def test_a_missing_right_is_reported(image: str, engine: Any, tmp_path: Path) -> None:
    with (
        pytest.raises(SpuBenchError, match=r"Operation not permitted|Permission denied") as caught,
        DockerExecutor(image, rights=()).open(WAN, make_directories(tmp_path)),
    ):
        pass
    assert caught.value.reason == "environment"
    assert "NET_ADMIN" in caught.value.fix
    assert left_by(engine, os.getpid()) == []


def test_a_used_subnet_is_refused_and_a_free_one_found(image: str, engine: Any, tmp_path: Path) -> None:
    with DockerExecutor(image).open(LOOPBACK, make_directories(tmp_path / "first")) as hosts:
        taken = f"{hosts[0].address.rsplit('.', 1)[0]}.0/24"
        with (
            pytest.raises(SpuBenchError, match="already in use") as caught,
            DockerExecutor(image, subnet=taken).open(LOOPBACK, make_directories(tmp_path / "second")),
        ):
            pass
        assert caught.value.reason == "environment"
        with DockerExecutor(image).open(LOOPBACK, make_directories(tmp_path / "third")) as others:
            assert {host.address for host in hosts}.isdisjoint(host.address for host in others)


@pytest.mark.parametrize("name", ["spu-bench:no-such-tag", "spu-bench-base:bookworm"])
def test_an_image_of_another_source_is_refused(image: str, tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(SpuBenchError, match=r"no image|another version") as caught,
        DockerExecutor(name).open(WAN, make_directories(tmp_path)),
    ):
        pass
    assert "docker/build" in caught.value.fix


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: Path(script[-2]).name)
def test_a_full_disk_is_reported_and_left_clean(image: str, tmp_path: Path, script: list[str]) -> None:
    require(lacks_commands("unshare", "debootstrap") or lacks_root())
    small = tmp_path / "small"
    small.mkdir()
    shell = 'mount -t tmpfs -o size=20m tmpfs "$0" && export TMPDIR="$0" && "$@"; status=$?; ls -A "$0"; exit $status'
    command = ["unshare", "--mount", "sh", "-c", shell, str(small), *script]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "TMPDIR" in line
    assert "spu-bench-build" not in done.stdout, "its scratch directory is gone"


def test_containers_and_namespaces_do_not_disturb_each_other(image: str, tmp_path: Path) -> None:
    require(lacks_root())
    with (
        DockerExecutor(image).open(LOOPBACK, make_directories(tmp_path / "a")) as first,
        NetnsExecutor().open(LOOPBACK, make_directories(tmp_path / "b")),
    ):
        assert first[0].start(["-c", "pass"], environment={}, log="log").wait(60) == 0
