"""What the probe measures, and how it is compared with the requested network."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
from typer.testing import CliRunner

from spu_bench import SpuBenchError
from spu_bench.cli import network as network_cli
from spu_bench.executors.base import PartyProcess
from spu_bench.executors.loopback import LoopbackExecutor
from spu_bench.network import LAN, LOOPBACK, WAN, Network, probe_protocol
from spu_bench.network.probe import NetworkProbe, judge, probe


def seen(rtt_ms: float = 40.0, rate: float = 384.0, back: float = 384.0, pings: int = 25) -> NetworkProbe:
    return NetworkProbe(
        rtt_ms=rtt_ms,
        rtt_min_ms=rtt_ms,
        rtt_p99_ms=rtt_ms,
        pings=pings,
        rate_mbit=rate,
        rate_back_mbit=back,
        bytes=1,
        seconds=1.0,
    )


@pytest.mark.parametrize(
    ("network", "probed", "complaint"),
    [
        (WAN, seen(), None),
        (WAN, seen(rtt_ms=41.99, rate=361.0, back=439.0), None),
        (WAN, seen(rtt_ms=42.1), "RTT between ranks 0 and 1 is 42.1 ms instead of 40 ms"),
        (WAN, seen(rtt_ms=37.9), "RTT"),
        (WAN, seen(rate=359.0), "rate from rank 0 to rank 1 is 359 Mbit/s instead of 400 Mbit/s"),
        (WAN, seen(back=441.0), "rate from rank 1 to rank 0 is 441 Mbit/s"),
        (LAN, seen(rtt_ms=0.39, rate=2900, back=2900), None),
        (LAN, seen(rtt_ms=0.41, rate=2900, back=2900), "RTT"),
        (LOOPBACK, seen(rtt_ms=3.0, rate=1.0), None),
        (Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0), seen(rtt_ms=0.05, rate=49, back=9.6), None),
        (Network(name="dsl", rate_mbit=50.0, rate_back_mbit=10.0), seen(rtt_ms=0.05, rate=9.6, back=49), "rate"),
        (Network(name="one-way", rate_mbit=50.0, rate_back_mbit=None), seen(rtt_ms=0.05, rate=49, back=9000), None),
        (Network(name="radio", rtt_ms=40.0, jitter_ms=5.0), seen(rtt_ms=44.0), None),
        (Network(name="radio", rtt_ms=40.0, jitter_ms=5.0), seen(rtt_ms=50.0), "RTT"),
        (Network(name="lossy", rate_mbit=400.0, loss_percent=1.0), seen(rtt_ms=0.05, rate=3, back=3), None),
        (Network(name="lossy", rate_mbit=400.0, loss_percent=1.0), seen(rtt_ms=0.05, rate=900, back=3), "rate"),
    ],
)
def test_the_verdict(network: Network, probed: NetworkProbe, complaint: str | None) -> None:
    verdict = judge(network, [probed], [])
    assert verdict == judge(network, [], [probed]) or (verdict or "").startswith("before the run")
    if complaint is None:
        assert verdict is None
    else:
        assert verdict is not None
        assert complaint in verdict
        assert "\n" not in verdict


def test_the_verdict_names_the_time() -> None:
    verdict = judge(WAN, [seen()], [seen(rtt_ms=80.0)])
    assert verdict is not None
    assert verdict.startswith("after the run, RTT")


def test_the_probe_measures_the_loopback_device(tmp_path: Path) -> None:
    directories = [tmp_path / "0", tmp_path / "1"]
    for directory in directories:
        directory.mkdir()
    with LoopbackExecutor().open(LOOPBACK, directories) as hosts:
        (link,) = probe(hosts, directories)
    assert 0 < link.rtt_min_ms <= link.rtt_ms <= link.rtt_p99_ms
    assert link.rtt_ms < 10
    assert min(link.rate_mbit, link.rate_back_mbit) > 100
    assert judge(LOOPBACK, [link], [link]) is None


class DeadHost:
    """A host whose processes end at once."""

    rank, address, interface, cores = 0, "127.0.0.1", "lo", 1

    def __init__(self, directory: Path) -> None:
        self.directory = str(directory)
        with LoopbackExecutor().open(LOOPBACK, [directory]) as hosts:
            self._host = hosts[0]

    def start(self, arguments: Sequence[str], *, environment: Mapping[str, str], log: str) -> PartyProcess:
        return self._host.start(["-c", "raise SystemExit('no such host')"], environment={}, log=log)


def test_a_host_that_does_not_answer_is_reported(tmp_path: Path) -> None:
    hosts = [DeadHost(tmp_path), DeadHost(tmp_path)]
    with pytest.raises(SpuBenchError, match="no such host") as caught:
        probe(hosts, [tmp_path, tmp_path])
    assert caught.value.reason == "link"


@pytest.fixture
def server() -> Callable[[], int]:
    """Serve one client on a free port; returns the port."""

    def start() -> int:
        ports: list[int] = []
        listening = threading.Event()

        def ready(port: int) -> None:
            ports.append(port)
            listening.set()

        arguments = {"ready": ready, "once": True}
        threading.Thread(target=probe_protocol.serve, args=("127.0.0.1", 0), kwargs=arguments, daemon=True).start()
        assert listening.wait(5)
        return ports[0]

    return start


def test_the_network_to_another_host_is_probed(server: Callable[[], int]) -> None:
    result = CliRunner().invoke(
        network_cli.app, ["probe", "--network", "loopback", "--connect", f"127.0.0.1:{server()}", "--json"]
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.output)
    assert report["valid"]
    assert report["links"][0]["rtt_ms"] > 0


def test_an_unshaped_network_is_not_the_requested_one(server: Callable[[], int]) -> None:
    result = CliRunner().invoke(network_cli.app, ["probe", "--network", "wan", "--connect", f"127.0.0.1:{server()}"])
    assert result.exit_code == 1
    assert "invalid: RTT between ranks 0 and 1" in " ".join(result.output.split())


def test_a_short_probe_is_enough_where_it_reaches_the_requested_rates(
    server: Callable[[], int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Otherwise, and without requested rates, each direction is measured alone."""
    made: list[int] = []
    transfer = probe_protocol._transfer

    def counted(
        host: str, port: int, kind: int, warm: float, measured: float
    ) -> tuple[probe_protocol.Received, probe_protocol.Received]:
        made.append(kind)
        return transfer(host, port, kind, warm, measured)

    monkeypatch.setattr(probe_protocol, "_transfer", counted)
    probe_protocol.connect("127.0.0.1", server(), (1.0, 0.0))
    assert made == [probe_protocol._BOTH]
    seen = probe_protocol.connect("127.0.0.1", server())
    assert (
        made[1:] == [probe_protocol._BOTH, probe_protocol._DOWN, probe_protocol._UP]
        and min(seen["rate_mbit"], seen["rate_back_mbit"]) > 100
    )


def test_another_client_does_not_stop_the_server(server: Callable[[], int]) -> None:
    port = server()
    with socket.create_connection(("127.0.0.1", port)) as stranger:
        stranger.sendall(b"GET / HTTP/1.0\r\n\r\n        ")
    assert probe_protocol._round_trips("127.0.0.1", port)


@pytest.mark.parametrize("target", ["nowhere", "127.0.0.1:x", ":80"])
def test_an_invalid_target_is_refused(target: str) -> None:
    result = CliRunner().invoke(network_cli.app, ["probe", "--connect", target])
    assert isinstance(result.exception, SpuBenchError)
    assert result.exception.reason == "bad_input"


def test_a_missing_server_is_reported() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{unused.getsockname()[1]}"
        result = CliRunner().invoke(network_cli.app, ["probe", "--connect", target])
    assert isinstance(result.exception, SpuBenchError)
    assert result.exception.reason == "link"
    assert "probe-serve" in result.exception.fix


def test_the_list_shows_the_source_of_each_network() -> None:
    result = CliRunner().invoke(network_cli.app, ["list", "--json"])
    assert [network["name"] for network in json.loads(result.output)] == ["loopback", "lan", "wan"]
    assert "Cheetah" in CliRunner().invoke(network_cli.app, ["list"]).output
