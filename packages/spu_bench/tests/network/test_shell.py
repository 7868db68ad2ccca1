"""The text of the commands that shape a network, and their undoing on a real interface."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from requirements_of_tests import lacks_commands, lacks_root, require
from typer.testing import CliRunner

from spu_bench import SpuBenchError
from spu_bench.cli import network as network_cli
from spu_bench.network import LAN, LOOPBACK, WAN, Network
from spu_bench.network.shell import (
    netem_commands,
    packet_delay_arguments,
    queue_command,
    rate_commands,
    route_commands,
    segment_commands,
    tcp_settings,
)


def words(command: list[str]) -> dict[str, str]:
    """The words after the kind of qdisc, as pairs."""
    rest = command[command.index("tbf" if "tbf" in command else "netem") + 1 :]
    return dict(zip(rest[::2], rest[1::2], strict=True))


FAR = Network(name="far", rate_mbit=400.0, rtt_ms=40.0)


def test_netem_gets_half_of_the_round_trip_and_its_own_rate() -> None:
    (command,) = netem_commands(FAR, 0, "eth0")
    assert " ".join(command) == ("tc qdisc add dev eth0 root netem limit 2667 delay 20000us rate 400000000bit")


def test_a_burst_adds_a_tbf_above_netem() -> None:
    bucket, delay = netem_commands(WAN, 0, "eth0")
    assert " ".join(bucket) == ("tc qdisc add dev eth0 root handle 1: tbf rate 400000000bit burst 100000 limit 5100000")
    assert " ".join(delay) == "tc qdisc add dev eth0 parent 1:1 netem limit 2667 delay 20000us"
    assert netem_commands(LAN, 1, "eth0")[1][-2:] == ["delay", "150us"]
    assert rate_commands(WAN, 0, "eth0") == [bucket]
    assert "--rate" not in packet_delay_arguments(WAN, {"10.0.0.2": 1}, "state"), "then only the bucket has the rate"
    assert "--rate" in packet_delay_arguments(FAR, {"10.0.0.2": 1}, "state")


def test_netem_holds_two_bandwidth_delay_products_of_the_smaller_packets() -> None:
    far = Network(name="far", rate_mbit=1000.0, rtt_ms=200.0)
    limit = int(words(netem_commands(far, 0, "eth0")[0])["limit"])
    assert limit * 1500 >= 2 * 1000e6 / 8 * 0.2


def test_each_party_sends_at_its_own_rate() -> None:
    network = Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0, rtt_ms=20.0)
    assert [words(netem_commands(network, rank, "e")[0])["rate"] for rank in range(3)] == [
        "50000000bit",
        "10000000bit",
        "10000000bit",
    ]
    assert [words(rate_commands(network, rank, "e")[0])["rate"] for rank in range(2)] == ["50000000bit", "10000000bit"]


def test_jitter_and_loss_reach_netem() -> None:
    network = Network(name="radio", rtt_ms=40.0, jitter_ms=2.5, loss_percent=0.5)
    (command,) = netem_commands(network, 0, "eth0")
    assert command[9:] == ["delay", "20000us", "2500us", "distribution", "normal", "loss", "0.5%"]


def test_the_bucket_holds_the_largest_packet() -> None:
    for network in (LAN, WAN, Network(name="slow", rate_mbit=1.0, rtt_ms=300.0)):
        tbf = words(rate_commands(network, 0, "eth0")[0])
        assert int(tbf["burst"]) >= 65536 + 14
        assert int(tbf["limit"]) >= int(tbf["burst"]) + 2 * (network.rate_mbit or 0) * 1e6 / 8 * network.rtt_ms / 1e3
    assert rate_commands(LOOPBACK, 0, "eth0") == []


def test_a_lossy_network_sends_packets_one_by_one() -> None:
    assert segment_commands(WAN, "eth0") == []
    lossy = Network(name="lossy", loss_percent=1.0)
    assert [" ".join(command) for command in segment_commands(lossy, "eth0")] == ["ip link set dev eth0 gso_max_segs 1"]


def test_packets_are_delayed_at_the_receiver() -> None:
    assert " ".join(queue_command("eth0", "iptables-legacy")) == (
        "iptables-legacy -w -t mangle -A PREROUTING -i eth0 -j NFQUEUE --queue-num 0 --queue-bypass"
    )


def test_congestion_control_and_buffers_do_not_depend_on_the_machine() -> None:
    assert route_commands("10.0.0.0/24", "eth0", "10.0.0.1")[0][-2:] == ["congctl", "cubic"]
    far = Network(name="far", rate_mbit=1000.0, rtt_ms=200.0)
    assert int(tcp_settings(far)["net.ipv4.tcp_wmem"].split()[2]) == 4 * 25_000_000
    assert tcp_settings(LAN)["net.ipv4.tcp_no_metrics_save"] == "1"


def test_the_packet_delay_gets_each_senders_rate() -> None:
    network = Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0, rtt_ms=20.0, jitter_ms=1.0)
    assert " ".join(packet_delay_arguments(network, {"10.0.0.1": 0, "10.0.0.3": 2}, "state.json")) == (
        "-m spu_bench.network.packet_delay --state state.json --delay-ms 10 --jitter-ms 1"
        " --rate 10.0.0.1=50 --rate 10.0.0.3=10"
    )


def printed(network: str, *options: str) -> list[str]:
    """The lines of `spu-bench network commands` for the client on eth1."""
    arguments = ["commands", "--network", network, "--rank", "1", "--interface", "eth1", "--peer", "0=192.0.2.10"]
    result = CliRunner().invoke(network_cli.app, [*arguments, *options])
    assert result.exit_code == 0, result.output
    return result.output.splitlines()


@pytest.mark.parametrize("shaper", ["netem", "nfqueue"])
def test_the_commands_for_a_real_host_are_printed(shaper: str) -> None:
    shaping = printed("wan", "--shaper", shaper)
    undoing = printed("wan", "--shaper", shaper, "--undo")
    assert undoing[0] == "tc qdisc del dev eth1 root"
    if shaper == "netem":
        assert [line.split()[5] for line in shaping] == ["root", "parent"]
        assert "tbf rate 400000000bit" in shaping[0] and "netem limit 2667 delay 20000us" in shaping[1]
        assert len(undoing) == 1
    else:
        assert [line.split()[0] for line in shaping[:2]] == ["tc", "iptables"]
        assert shaping[2].endswith("--delay-ms 20")
        assert undoing[1:] == [shaping[1].replace("-A", "-D")]


@pytest.mark.parametrize("shaper", ["netem", "nfqueue"])
def test_undoing_a_lossy_network_restores_the_segments(
    shaper: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The value from before is saved before it is changed, and restored at the end."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    (tmp_path / "lossy.toml").write_text("rate_mbit = 100\nloss_percent = 1")
    save, change, *_ = printed(str(tmp_path / "lossy.toml"), "--shaper", shaper)
    *_, restore = printed(str(tmp_path / "lossy.toml"), "--shaper", shaper, "--undo")
    assert change == "ip link set dev eth1 gso_max_segs 1"
    saved = f"sh eth1 {tmp_path}/spu-bench-eth1-gso_max_segs"
    assert save.endswith(saved) and "ip -d -o link show" in save
    assert restore.endswith(saved) and 'ip link set dev "$1" gso_max_segs "$(cat "$2")"' in restore


def test_without_a_rate_there_is_no_queue_to_undo(tmp_path: Path) -> None:
    (tmp_path / "far.toml").write_text("rtt_ms = 10")
    assert printed(str(tmp_path / "far.toml"), "--shaper", "netem", "--undo") == ["tc qdisc del dev eth1 root"]
    assert [line.split()[0] for line in printed(str(tmp_path / "far.toml"), "--shaper", "nfqueue", "--undo")] == [
        "iptables"
    ]


@pytest.fixture
def namespace() -> Iterator[str]:
    """A new network namespace with the interfaces eth1 and eth2, a veth pair."""
    require(lacks_commands("ip", "tc", "iptables") or lacks_root())
    name = f"spu-bench-undo-{os.getpid()}"
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "add", "eth1", "type", "veth", "peer", "name", "eth2"], check=True)
        for interface in ("eth1", "eth2"):
            subprocess.run(["ip", "-n", name, "link", "set", "dev", interface, "up"], check=True)
        yield name
    finally:
        subprocess.run(["ip", "netns", "del", name], check=True)


@pytest.mark.parametrize("before", [65535, 40])
@pytest.mark.parametrize("lines", ["rtt_ms = 10\nloss_percent = 1", "rate_mbit = 100\nloss_percent = 1"])
def test_undoing_restores_a_real_interface(
    namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, before: int
) -> None:
    """All that shaping changed is as before, also when it was shaped twice."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    network = tmp_path / "lossy.toml"
    network.write_text(lines)

    def inside(script: str) -> str:
        command = ["ip", "netns", "exec", namespace, "sh", "-ec", script]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def state() -> list[str]:
        show = ("tc qdisc show dev eth1", "iptables -t mangle -S", "ip -d -o link show dev eth1")
        # without the carrier's state, which the kernel changes by itself
        return [re.sub(r"<\S+>|state \w+", "", inside(each)) for each in show]

    *shaping, delay = printed(str(network), "--shaper", "nfqueue")
    assert "packet_delay" in delay, "this one runs until it is interrupted"
    undoing = "\n".join(printed(str(network), "--shaper", "nfqueue", "--undo"))
    inside(f"iptables -t mangle -S; ip link set dev eth1 gso_max_segs {before}")
    unshaped = state()
    inside("\n".join(shaping))
    assert "gso_max_segs 1 " in state()[2] and state() != unshaped
    if "rate_mbit" not in lines:  # a queue cannot be added twice
        inside("\n".join(shaping[:2]))
    inside(undoing)
    assert state() == unshaped
    assert f"gso_max_segs {before} " in unshaped[2]
    assert list(tmp_path.iterdir()) == [network]


@pytest.mark.parametrize("wrong", [["--shaper", "magic"], ["--shaper", "nfqueue", "--peer", "192.0.2.10"]])
def test_invalid_options_are_refused(wrong: list[str]) -> None:
    asking = ["commands", "--network", "wan", "--rank", "0", "--interface", "eth1"]
    result = CliRunner().invoke(network_cli.app, [*asking, *wrong])
    assert isinstance(result.exception, SpuBenchError)
    assert result.exception.reason == "bad_input"
