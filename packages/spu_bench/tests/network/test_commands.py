"""The command lines that shape a link, word by word."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from spu_bench import SpuBenchError, network_cli
from spu_bench.network import LAN, LOOPBACK, WAN, Network
from spu_bench.network.commands import (
    holder_arguments,
    netem_commands,
    packet_commands,
    queue_commands,
    rate_commands,
    route_commands,
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


def test_a_burst_is_tbfs_and_netem_stands_below_it() -> None:
    bucket, delay = netem_commands(WAN, 0, "eth0")
    assert " ".join(bucket) == ("tc qdisc add dev eth0 root handle 1: tbf rate 400000000bit burst 100000 limit 5100000")
    assert " ".join(delay) == "tc qdisc add dev eth0 parent 1:1 netem limit 2667 delay 20000us"
    assert netem_commands(LAN, 1, "eth0")[1][-2:] == ["delay", "150us"]
    assert rate_commands(WAN, 0, "eth0") == [bucket]
    assert "--rate" not in holder_arguments(WAN, {"10.0.0.2": 1}, "state"), "the bucket alone has the rate then"
    assert "--rate" in holder_arguments(FAR, {"10.0.0.2": 1}, "state")


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


def test_the_bucket_takes_the_largest_packet_whole() -> None:
    for network in (LAN, WAN, Network(name="slow", rate_mbit=1.0, rtt_ms=300.0)):
        tbf = words(rate_commands(network, 0, "eth0")[0])
        assert int(tbf["burst"]) >= 65536 + 14
        assert int(tbf["limit"]) >= int(tbf["burst"]) + 2 * (network.rate_mbit or 0) * 1e6 / 8 * network.rtt_ms / 1e3
    assert rate_commands(LOOPBACK, 0, "eth0") == []


def test_where_packets_are_lost_they_travel_one_by_one() -> None:
    assert packet_commands(WAN, "eth0") == []
    lossy = Network(name="lossy", loss_percent=1.0)
    assert [" ".join(command) for command in packet_commands(lossy, "eth0")] == ["ip link set dev eth0 gso_max_segs 1"]


def test_packets_are_held_where_they_arrive() -> None:
    (command,) = queue_commands("eth0", "iptables-legacy")
    assert " ".join(command) == (
        "iptables-legacy -w -t mangle -A PREROUTING -i eth0 -j NFQUEUE --queue-num 0 --queue-bypass"
    )


def test_congestion_control_and_buffers_do_not_depend_on_the_machine() -> None:
    assert route_commands("10.0.0.0/24", "eth0", "10.0.0.1")[0][-2:] == ["congctl", "cubic"]
    far = Network(name="far", rate_mbit=1000.0, rtt_ms=200.0)
    assert int(tcp_settings(far)["net.ipv4.tcp_wmem"].split()[2]) == 4 * 25_000_000
    assert tcp_settings(LAN)["net.ipv4.tcp_no_metrics_save"] == "1"


def test_the_holder_is_told_each_senders_rate() -> None:
    network = Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0, rtt_ms=20.0, jitter_ms=1.0)
    assert " ".join(holder_arguments(network, {"10.0.0.1": 0, "10.0.0.3": 2}, "state.json")) == (
        "-m spu_bench.network.holder --state state.json --delay-ms 10 --jitter-ms 1"
        " --rate 10.0.0.1=50 --rate 10.0.0.3=10"
    )


@pytest.mark.parametrize("shaper", ["netem", "nfqueue"])
def test_the_commands_for_a_real_host_are_printed(shaper: str) -> None:
    asking = ["commands", "--network", "wan", "--rank", "1", "--interface", "eth1", "--peer", "0=192.0.2.10"]
    shaping = CliRunner().invoke(network_cli.app, [*asking, "--shaper", shaper]).output.splitlines()
    undoing = CliRunner().invoke(network_cli.app, [*asking, "--shaper", shaper, "--undo"]).output.splitlines()
    assert undoing[0] == "tc qdisc del dev eth1 root"
    if shaper == "netem":
        assert [line.split()[5] for line in shaping] == ["root", "parent"]
        assert "tbf rate 400000000bit" in shaping[0] and "netem limit 2667 delay 20000us" in shaping[1]
        assert len(undoing) == 1
    else:
        assert [line.split()[0] for line in shaping[:2]] == ["tc", "iptables"]
        assert shaping[2].endswith("--delay-ms 20")
        assert undoing[1] == shaping[1].replace("-A", "-D")


@pytest.mark.parametrize("wrong", [["--shaper", "magic"], ["--shaper", "nfqueue", "--peer", "192.0.2.10"]])
def test_commands_that_cannot_be_are_refused(wrong: list[str]) -> None:
    asking = ["commands", "--network", "wan", "--rank", "0", "--interface", "eth1"]
    result = CliRunner().invoke(network_cli.app, [*asking, *wrong])
    assert isinstance(result.exception, SpuBenchError)
    assert result.exception.reason == "bad_input"
