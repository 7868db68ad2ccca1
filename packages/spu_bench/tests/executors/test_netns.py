"""Parties in network namespaces: the network is the requested one, and nothing is left."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from cells import NETWORKS, kill_while_open, make_directories, probe_until_valid, wait_until
from requirements_of_tests import lacks_commands, lacks_root, require
from typer.testing import CliRunner

from spu_bench import SpuBenchError
from spu_bench.cli import network as network_cli
from spu_bench.executors import netns, scratch
from spu_bench.executors.netns import NetnsExecutor
from spu_bench.network import LAN, LOOPBACK, WAN, Network


@pytest.fixture(autouse=True)
def _machine() -> None:
    require(lacks_commands("ip", "tc", "iptables", "setpriv", "unshare") or lacks_root())


def namespaces(pid: int) -> list[str]:
    """Namespaces that the process `pid` made."""
    directory = Path("/run/netns")
    return [path.name for path in directory.iterdir() if f"-{pid}-" in path.name] if directory.is_dir() else []


def interfaces() -> list[str]:
    """Network interfaces of this machine itself."""
    return sorted(os.listdir("/sys/class/net"))


@pytest.mark.parametrize("network", NETWORKS, ids=lambda network: network.name)
def test_the_network_is_the_requested_one(tmp_path: Path, network: Network) -> None:
    executor = NetnsExecutor()
    before = interfaces()
    probes, verdict = probe_until_valid(executor, network, make_directories(tmp_path))
    assert verdict is None, probes
    seen = executor.describe()
    assert seen.shaper in ("netem", "nfqueue")
    assert seen.congestion_control == "cubic"
    assert interfaces() == before
    assert namespaces(os.getpid()) == []


def test_delaying_packets_of_wan_takes_less_than_a_fifth_of_a_core(tmp_path: Path) -> None:
    executor = NetnsExecutor()
    probe_until_valid(executor, WAN, make_directories(tmp_path))
    for cost in executor.describe().shaper_cost:
        assert cost.cpu_share_peak < 0.20
        assert cost.packets > 500


def test_three_parties_reach_each_other(tmp_path: Path) -> None:
    probes, verdict = probe_until_valid(NetnsExecutor(), LAN, make_directories(tmp_path, parties=3))
    assert [(each.server, each.client) for each in probes] == [(0, 1), (0, 2), (1, 2)]
    assert verdict is None, probes


def test_loss_and_jitter(tmp_path: Path) -> None:
    network = Network(name="radio", rate_mbit=20.0, rtt_ms=20.0, jitter_ms=2.0, loss_percent=1.0, mtu=1500)
    executor = NetnsExecutor()
    probes, verdict = probe_until_valid(executor, network, make_directories(tmp_path))
    assert verdict is None, probes
    assert probes[0].rtt_p99_ms > probes[0].rtt_min_ms + 2
    for cost in executor.describe().shaper_cost:
        assert cost.dropped > 0


def test_a_process_sees_its_own_namespace_only(tmp_path: Path) -> None:
    directories = make_directories(tmp_path)
    with NetnsExecutor().open(LOOPBACK, directories) as hosts:
        program = "import os; print(sorted(os.listdir('/sys/class/net')), os.environ['MINE'], os.getcwd())"
        assert hosts[1].start(["-c", program], environment={"MINE": "yes"}, log="log").wait(30) == 0
        dying = hosts[0].start(["-c", "import os; os.kill(os.getpid(), 9)"], environment={}, log="log")
        assert dying.wait(30) == -9
    assert (directories[1] / "log").read_text() == f"['link0', 'lo'] yes {directories[1]}\n"


def test_an_error_in_the_run_leaves_nothing(tmp_path: Path) -> None:
    started = []

    def interrupt() -> None:
        with NetnsExecutor().open(WAN, make_directories(tmp_path)) as hosts:
            started.append(hosts[0].start(["-c", "import time; time.sleep(600)"], environment={}, log="log"))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupt()
    assert started[0].poll() is not None
    assert namespaces(os.getpid()) == []
    assert not list(Path(tempfile.gettempdir()).glob(f"spub-{os.getpid()}-*"))


def test_the_next_run_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    pid = kill_while_open("netns", make_directories(tmp_path), lambda pid: len(namespaces(pid)) == 3)
    assert len(namespaces(pid)) == 3
    inside = [
        int(number)
        for name in namespaces(pid)
        for number in subprocess.run(["ip", "netns", "pids", name], capture_output=True, text=True).stdout.split()
    ]
    assert inside
    with NetnsExecutor().open(LOOPBACK, make_directories(tmp_path)):
        assert namespaces(pid) == []
        assert not list(Path(tempfile.gettempdir()).glob(f"spub-{pid}-*"))
        assert wait_until(lambda: all(scratch.start_time(number) is None for number in inside))


def test_the_namespaces_of_a_running_process_stay(tmp_path: Path) -> None:
    with NetnsExecutor().open(LOOPBACK, make_directories(tmp_path / "first")):
        mine = namespaces(os.getpid())
        netns.sweep()
        with NetnsExecutor().open(LOOPBACK, make_directories(tmp_path / "second")):
            assert len(namespaces(os.getpid())) == 6
        assert namespaces(os.getpid()) == mine


@pytest.mark.parametrize(
    "drop", [["--bounding-set=-all", "--inh-caps=-all"], ["--bounding-set=-net_admin", "--inh-caps=-net_admin"]]
)
def test_a_missing_right_is_reported_in_one_line(tmp_path: Path, drop: list[str]) -> None:
    program = (
        "import sys, pathlib\n"
        "from spu_bench import SpuBenchError\n"
        "from spu_bench.executors.netns import NetnsExecutor\n"
        "from spu_bench.network import WAN\n"
        "try:\n"
        "    with NetnsExecutor().open(WAN, [pathlib.Path(sys.argv[1])] * 2): pass\n"
        "except SpuBenchError as error: print(error.reason, error)\n"
    )
    command = ["setpriv", *drop, sys.executable, "-c", program, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stdout.startswith("environment "), done.stderr
    assert "permitted" in done.stdout or "denied" in done.stdout
    assert "root" in done.stdout
    assert len(done.stdout.splitlines()) == 1


def test_a_missing_tool_is_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None if name == "tc" else f"/{name}")
    with pytest.raises(SpuBenchError, match="'tc'"), NetnsExecutor().open(WAN, make_directories(tmp_path)):
        pass


def test_a_kernel_that_cannot_shape_is_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("spu_bench.network.shell.netem_commands", lambda *_: [["false"]])
    monkeypatch.setattr("spu_bench.network.shapers._IPTABLES", ("no-such-iptables",))
    monkeypatch.setattr("spu_bench.network.shapers.Netem.missing", lambda *_: "no sch_netem")
    with (
        pytest.raises(SpuBenchError, match=r"netem: no sch_netem; nfqueue: .*no-such-iptables") as caught,
        NetnsExecutor().open(WAN, make_directories(tmp_path)),
    ):
        pass
    assert caught.value.reason == "environment"
    assert namespaces(os.getpid()) == []


def test_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "dsl.toml").write_text("rate_mbit = 50\nrate_back_mbit = 10\nrtt_ms = 20")
    for _ in range(3):
        command = ["probe", "--network", str(tmp_path / "dsl.toml"), "--executor", "netns", "--json"]
        result = CliRunner().invoke(network_cli.app, command)
        report = json.loads(result.stdout)
        if report["valid"]:
            break
    assert result.exit_code == 0, report
    assert report["network"]["rate_back_mbit"] == 10
    assert report["how"]["name"] == "netns"
