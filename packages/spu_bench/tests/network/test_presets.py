"""A network file is read as written, or refused with the name of the wrong key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from spu_bench import SpuBenchError
from spu_bench.network import NETWORKS, Network

BAD_LINES = [
    ("rate_mbit = -1", "rate_mbit"),
    ("rate_mbit = 0", "rate_mbit"),
    ("rate_mbit = nan", "rate_mbit"),
    ("rate_mbit = inf", "rate_mbit"),
    ("rate_mbit = true", "rate_mbit"),
    ('rate_mbit = "400mbit"', "rate_mbit"),
    ("rate_mbit = 400\nrate_back_mbit = -10", "rate_back_mbit"),
    ("rtt_ms = 31536000000", "rtt_ms"),
    ("rtt_ms = -0.1", "rtt_ms"),
    ("rtt_ms = [40]", "rtt_ms"),
    ("jitter_ms = -1", "jitter_ms"),
    ("rtt_ms = 10\njitter_ms = 6", "jitter_ms"),
    ("loss_percent = 101", "loss_percent"),
    ("loss_percent = -1", "loss_percent"),
    ("mtu = 100", "mtu"),
    ("mtu = 65536", "mtu"),
    ("mtu = 1500.5", "mtu"),
    ('name = "a b"', "name"),
    ('name = "wan"', "name"),
    ("source = 3", "source"),
    ("rtt = 40", "rtt"),
    ("[link]\nrtt_ms = 40", "link"),
]


@pytest.mark.parametrize(("lines", "key"), BAD_LINES)
def test_a_wrong_value_is_refused_with_its_key(tmp_path: Path, lines: str, key: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(lines)
    with pytest.raises(SpuBenchError) as caught:
        Network.load(path)
    assert caught.value.reason == "bad_input"
    assert f" {key}:" in caught.value.problem
    assert str(path) in caught.value.problem


def test_invalid_and_missing_files_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text("rate_mbit = = 4")
    for name in (path, tmp_path / "missing.toml", "wam"):
        with pytest.raises(SpuBenchError, match=str(name)) as caught:
            Network.load(name)
        assert caught.value.reason == "bad_input"
    with pytest.raises(SpuBenchError, match="loopback, lan, wan"):
        Network.load("wam")


_bounds = {"rate_mbit": (0.01, 100_000), "rate_back_mbit": (0.01, 100_000), "rtt_ms": (0, 10_000)}


@given(
    key=st.sampled_from(sorted(_bounds)),
    value=st.floats(allow_nan=True, allow_infinity=True)
    | st.text(max_size=5)
    | st.booleans()
    | st.lists(st.integers()),
)
def test_a_value_is_read_or_its_key_is_named(tmp_path_factory: pytest.TempPathFactory, key: str, value: Any) -> None:
    path = tmp_path_factory.mktemp("network") / "mine.toml"
    path.write_text(tomli_w.dumps({key: value}))
    low, high = _bounds[key]
    if isinstance(value, float) and low <= value <= high:
        assert getattr(Network.load(path), key) == value
    else:
        with pytest.raises(SpuBenchError, match=f" {key}:"):
            Network.load(path)


@given(
    rate=st.none() | st.floats(0.01, 100_000),
    back=st.none() | st.floats(0.01, 100_000),
    rtt=st.floats(0, 10_000),
    loss=st.floats(0, 50),
    mtu=st.integers(576, 65535),
)
def test_a_network_round_trips_through_json(
    rate: float | None, back: float | None, rtt: float, loss: float, mtu: int
) -> None:
    network = Network(
        name="mine", rate_mbit=rate, rate_back_mbit=back, rtt_ms=rtt, jitter_ms=rtt / 2, loss_percent=loss, mtu=mtu
    )
    assert Network.model_validate_json(network.model_dump_json()) == network
    assert (network.egress_mbit(0), network.egress_mbit(1), network.egress_mbit(2)) == (rate, back, back)


def test_the_presets_are_cheetahs_and_name_the_source() -> None:
    assert list(NETWORKS) == ["loopback", "lan", "wan"]
    wan, lan = Network.load("wan"), Network.load("lan")
    assert (wan.rate_mbit, wan.rate_back_mbit, wan.rtt_ms, wan.mtu) == (400, 400, 40, 65535)
    assert (lan.rate_mbit, lan.rate_back_mbit, lan.rtt_ms, lan.mtu) == (3000, 3000, 0.3, 65535)
    assert all("throttle" in network.source for network in (wan, lan))
    assert not Network.load("loopback").is_shaped


def test_default_name_and_default_rate_back(tmp_path: Path) -> None:
    (tmp_path / "home.toml").write_text("rate_mbit = 50\nrtt_ms = 20")
    home = Network.load(tmp_path / "home.toml")
    assert (home.name, home.rate_mbit, home.rate_back_mbit, home.rtt_ms) == ("home", 50, 50, 20)
    (tmp_path / "dsl.toml").write_text("rate_mbit = 50\nrate_back_mbit = 10")
    assert Network.load(str(tmp_path / "dsl.toml")).rate_back_mbit == 10
