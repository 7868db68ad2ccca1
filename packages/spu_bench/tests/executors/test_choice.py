"""The choice of an executor, the measurement lock, orphans and free subnets."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from cells import make_directories

from spu_bench import SpuBenchError, executors
from spu_bench.executors import auto, scratch, subnets
from spu_bench.executors.docker import DockerExecutor
from spu_bench.executors.netns import NetnsExecutor
from spu_bench.network import LOOPBACK, WAN
from spu_bench.source_files import source_hash


def test_every_executor_has_a_name() -> None:
    assert executors.NAMES == ("auto", "docker", "netns", "loopback")
    for name in executors.NAMES:
        assert executors.get(name).name == name
    with pytest.raises(SpuBenchError, match="auto, docker, netns, loopback") as caught:
        executors.get("dokcer")
    assert caught.value.reason == "bad_input"


def test_loopback_never_shapes(tmp_path: Path) -> None:
    with pytest.raises(SpuBenchError, match="wan"), executors.get("loopback").open(WAN, make_directories(tmp_path)):
        pass


def test_auto_chooses_loopback_for_a_network_that_is_not_shaped(tmp_path: Path) -> None:
    chosen = executors.get("auto")
    with chosen.open(LOOPBACK, make_directories(tmp_path)) as hosts:
        assert [host.interface for host in hosts] == ["lo", "lo"]
    assert chosen.name == "loopback"
    assert "not shaped" in (chosen.describe().why or "")


@pytest.mark.parametrize(
    ("docker", "netns", "taken", "why"),
    [
        (None, None, "docker", "docker is available"),
        ("no engine", None, "netns", "not docker: no engine; netns is available"),
        ("no engine", "no root", None, "not docker: no engine; not netns: no root"),
    ],
)
def test_auto_gives_the_reason(
    monkeypatch: pytest.MonkeyPatch, docker: str | None, netns: str | None, taken: str | None, why: str
) -> None:
    monkeypatch.setattr(DockerExecutor, "missing", lambda *_: docker)
    monkeypatch.setattr(NetnsExecutor, "missing", lambda *_: netns)
    chosen = auto.AutoExecutor()
    assert (chosen.missing(WAN) is None) == (taken is not None)
    assert chosen.why == why
    if taken is None:
        with pytest.raises(SpuBenchError, match="not docker: no engine; not netns: no root") as caught:
            chosen.open(WAN, [])
        assert caught.value.reason == "environment"


def test_one_measured_run_at_a_time(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waits: list[str] = []

    def take() -> None:
        with executors.measurement_lock(timeout_s=0.3, on_wait=waits.append, path=path):
            pass

    with executors.measurement_lock(path=path), ThreadPoolExecutor() as other:
        with pytest.raises(SpuBenchError) as caught:
            other.submit(take).result()
        assert caught.value.reason == "walltime"
        with executors.measurement_lock(timeout_s=0, path=path):
            pass  # the holder can take it again, and still holds it afterwards
        with pytest.raises(SpuBenchError):
            other.submit(take).result()
    assert len(waits) == 2 and all(str(path) in wait for wait in waits)
    take()


def test_shared_holders_run_at_the_same_time(tmp_path: Path) -> None:
    """Two shared holders have the lock at once; an exclusive one waits for both, and they wait for it."""
    path = tmp_path / "lock"

    def take(shared: bool) -> None:
        with executors.measurement_lock(timeout_s=0, path=path, shared=shared):
            pass

    with ThreadPoolExecutor() as other:
        with executors.measurement_lock(path=path, shared=True):
            other.submit(take, True).result()
            with pytest.raises(SpuBenchError):
                other.submit(take, False).result()
        with executors.measurement_lock(path=path), pytest.raises(SpuBenchError):
            other.submit(take, True).result()


def test_a_killed_holder_releases_the_lock(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    program = (
        "import sys, time, pathlib\n"
        "from spu_bench.executors import measurement_lock\n"
        "with measurement_lock(path=pathlib.Path(sys.argv[1])):\n"
        "    print('held', flush=True)\n"
        "    time.sleep(600)\n"
    )
    with subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(SpuBenchError), executors.measurement_lock(timeout_s=0.1, path=path):
            pass
        holder.kill()
    with executors.measurement_lock(timeout_s=5, path=path):
        pass


def test_xdist_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PYTEST_XDIST_WORKER", "gw1")
    with pytest.raises(SpuBenchError, match="xdist"), executors.measurement_lock(path=tmp_path / "lock"):
        pass


def test_names_of_ended_processes_are_orphans() -> None:
    name = scratch.new_name()
    assert name != scratch.new_name()
    assert not scratch.is_orphan(f"{name}-0")
    pid, started = name.split("-")[1:3]
    assert scratch.is_orphan(f"spub-{pid}-{int(started) - 1}-0-bridge"), "another process has the number now"
    assert scratch.is_orphan("spub-4194305-5-0")
    assert not scratch.is_orphan("someone-elses"), "the name has another form"
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        theirs = f"spub-{ended.pid}-{scratch.start_time(ended.pid)}-0"
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)
        assert scratch.is_orphan(theirs), "a process that ended counts as ended before its parent waits for it"


def test_a_free_subnet_is_found_or_the_overlap_is_named() -> None:
    first, second, *_ = subnets.CANDIDATES
    used = [IPv4Network("10.78.0.0/29")]
    assert subnets.free(used, None)[0] == second
    assert subnets.free(used, str(second)) == [second]
    with pytest.raises(SpuBenchError, match=r"already in use: 10\.78\.0\.0/29"):
        subnets.free(used, str(first))
    with pytest.raises(SpuBenchError, match="All subnets"):
        subnets.free([IPv4Network("10.0.0.0/8")], None)
    with pytest.raises(SpuBenchError) as caught:
        subnets.free([], "10.0.0.0/99")
    assert caught.value.reason == "bad_input"


def test_routes_are_read(tmp_path: Path) -> None:
    table = tmp_path / "route"
    table.write_text(
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
        "eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
        "eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
    )
    assert list(subnets.routed(table)) == [IPv4Network("192.0.2.0/24")]


def test_the_source_hash() -> None:
    assert len(source_hash()) == 16
    assert source_hash() == source_hash()
