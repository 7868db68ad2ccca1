"""Whole runs on SPU 0.3.1b0: plaintext's logits, each party's own secrets, counts that are known in advance."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parties import cli, free_port, start_party, write_link
from programs import save_program, write_program
from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench import Network, Options, RunFailed, RunRecord, load_program, run
from spu_bench.program import read_npz

pytestmark = pytest.mark.usefixtures("no_orphans")


def products(weights: dict[str, Any], images: Any) -> Any:
    """One product of secrets after another: in SEMI2K of two parties with a dealer, one opening each."""
    for name in sorted(weights):
        images = images @ weights[name]
    return images


def run_twice_at_most(program: Path, protocol: str, runtime: str) -> RunRecord:
    """A run; another one if it did not end: SPU 0.3.1b0 under CHEETAH can wait for itself (LazyExpandSEALContexts)."""
    settings: dict[str, Any] = {"protocol": protocol, "runtime": runtime, "executor": "loopback", "timeout_s": 120}
    try:
        return run(load_program(program), repeats=2, warmup=1, **settings)
    except RunFailed as error:
        if error.reason != "walltime" or protocol != "cheetah":
            raise
        return run(load_program(program), repeats=2, warmup=1, **settings)


@pytest.mark.parametrize("protocol", ["semi2k", "cheetah"])
def test_a_program_gives_plaintexts_logits(old: str, small: Path, protocol: str) -> None:
    """The changed module runs; of the secret files each party opened its own alone; the record says who counted."""
    record = run_twice_at_most(small, protocol, old)
    assert record.status == "ok" and record.statistics is not None and record.statistics.n == 2
    assert record.accuracy is not None and record.accuracy.inputs == record.accuracy.top1_equal == 2
    assert record.accuracy.max_abs_error < 1e-3
    secrets = [[name for name in party.opened_files if name.endswith(".npz")] for party in record.parties]
    assert secrets == [["program/server.npz"], ["program/client.npz"]]
    for party in record.parties:
        assert party.traffic_counted_by == "relay" and party.versions["spu"] == old
        assert party.versions["python"].startswith("3.8.") and party.peak_memory_bytes > 10 << 20
        assert {operation.name for operation in party.operations} >= {"dot", "greater", "add"}
        assert all(operation.sent_bytes is operation.sent_messages is None for operation in party.operations)
    sent, received = (party.inferences[-1].link for party in record.parties)
    assert sent is not None and received is not None
    assert (sent.sent_bytes, sent.sent_messages) == (received.received_bytes, received.received_messages)
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


@pytest.mark.parametrize(
    ("shapes", "chunk"),
    [([(16, 32)], None), ([(16, 32), (32, 8)], None), ([(64, 512)], 4096)],
    ids=["one product", "two products", "in chunks"],
)
def test_messages_and_bytes_are_those_of_the_protocol(
    old: str, tmp_path: Path, shapes: list[tuple[int, int]], chunk: int | None
) -> None:
    """A product of (1, k) and (k, n) opens both masked operands in one message of 8 (k + k n) bytes; no truncation's.

    However many chunks the link cuts it into, and without the link's acknowledgements.
    """
    rng = np.random.default_rng(0)
    weights = {f"w{i}": rng.normal(size=shape).astype(np.float32) / 8 for i, shape in enumerate(shapes)}
    images = rng.normal(size=(1, shapes[0][0])).astype(np.float32)
    program = save_program(tmp_path / "program", "products", products, weights, images)
    options = Options(link={"http_max_payload_size": chunk} if chunk else {})
    record = run(load_program(program), runtime=old, executor="loopback", options=options)
    assert record.accuracy is not None and record.accuracy.max_abs_error < 1e-3
    assert record.sent_bytes == [sum(8 * (k + k * n) for k, n in shapes)] * 2
    assert [traffic.sent_messages for traffic in record.traffic()] == [len(shapes)] * 2


def test_the_relays_bytes_agree_with_the_kernels_counters(old: str, tmp_path: Path) -> None:
    """In namespaces, where nothing else uses the link: within 3 %, headers, input and output included."""
    require(lacks_commands("ip", "tc") or lacks_root())
    program = write_program(tmp_path / "program", pixels=64, hidden=65536)
    record = run(load_program(program), runtime=old, executor="netns", network=Network(name="plain"), repeats=2)
    for party in record.parties:
        for inference in party.inferences:
            assert inference.link is not None and inference.link.sent_bytes > 5e6
            assert inference.interface_sent_bytes == pytest.approx(inference.link.sent_bytes, rel=0.03)
            assert inference.interface_received_bytes == pytest.approx(inference.link.received_bytes, rel=0.03)


def test_parties_by_hand_with_a_stream_of_images(old: str, tmp_path: Path) -> None:
    """Two processes, neither with the other's files; three batches of input give three of logits, at the client."""
    program = write_program(tmp_path / "program", batch=2)
    images = np.random.default_rng(5).normal(size=(6, 16)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    weights = read_npz(program / "server.npz")
    (program / "client.npz").unlink()
    server = tmp_path / "server"
    server.mkdir()
    for file in program.iterdir():
        (server / file.name).write_bytes(file.read_bytes())
    (program / "server.npz").unlink()
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()], runtime=old, connect_timeout_s=60.0)
    more = ["--input", str(tmp_path / "images.npz"), "--output", "logits.npz"]
    parties = [
        start_party(0, server, link, tmp_path / "home-0"),
        start_party(1, program, link, tmp_path / "home-1", *more),
    ]
    for party in parties:
        _, errors = party.communicate(timeout=120)
        assert party.returncode == 0, errors
    expected = np.maximum(images @ weights["first"], 0) @ weights["second"] + weights["bias"]
    np.testing.assert_allclose(read_npz(tmp_path / "home-1" / "logits.npz")["logits"], expected, atol=1e-3)
    outcome = json.loads((tmp_path / "home-1" / "outcome.json").read_text())
    assert len(outcome["inferences"]) == 3 and outcome["traffic_counted_by"] is None
    assert outcome["inferences"][0]["link"] is None, "nobody stood between them to count"


def test_the_runtimes_are_listed(old: str) -> None:
    done = cli("runtime", "list")
    assert done.stdout.splitlines()[:2] == [
        "0.9.5: this environment (semi2k, cheetah, aby3, ref2k)",
        f"{old}: installed, Python 3.8 (semi2k, cheetah)",
    ]
