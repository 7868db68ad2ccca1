"""Whole runs between processes: the right logits, and statistics that agree with the kernel's."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from programs import write_program
from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench import (
    Network,
    Options,
    Program,
    RunFailed,
    RunRecord,
    SpuBenchError,
    cli,
    load_program,
    measured_run,
    run,
)
from spu_bench.measured_run import recount
from spu_bench.party.spu_profile import Traffic
from spu_bench.program import read_npz


def check_whole(record: RunRecord, inferences: int) -> None:
    assert record.status == "ok" and record.failure is None
    assert [len(party.inferences) for party in record.parties] == [inferences] * len(record.parties)
    assert record.statistics is not None and record.statistics.n == inferences == len(record.samples_s)
    for party in record.parties:
        assert party.compile_s > 0 and party.peak_memory_bytes > 10 << 20 and party.threads >= 1
        pphlo = [operation for operation in party.operations if operation.layer == "pphlo"]
        assert {"pphlo.dot", "pphlo.add"} <= {operation.name for operation in pphlo}
        link = party.inferences[-1].link
        assert sum(operation.sent_bytes for operation in pphlo) == link.sent_bytes
        assert sum(operation.sent_messages for operation in pphlo) == link.sent_messages
    sent, received = record.parties[0].inferences[-1].link, record.parties[1].inferences[-1].link
    if len(record.parties) == 2:
        assert (sent.sent_bytes, sent.received_bytes) == (received.received_bytes, received.sent_bytes)


@pytest.mark.parametrize(("protocol", "parties"), [("semi2k", 2), ("cheetah", 2), ("aby3", 3), ("ref2k", 2)])
def test_every_protocol(small: Path, protocol: str, parties: int) -> None:
    """The client gets the plaintext's logits, within fixed point's error, from every protocol."""
    record = run(load_program(small), protocol=protocol, executor="loopback", repeats=2, warmup=1)
    check_whole(record, inferences=2)
    assert len(record.parties) == parties
    assert record.accuracy is not None and record.accuracy.inputs == 2
    assert record.accuracy.max_abs_error < 1e-3
    assert record.accuracy.top1_equal == 2
    assert record.request.protocol == protocol
    assert record.program is not None and record.program.fingerprint == load_program(small).manifest.fingerprint


def test_a_stream_of_the_clients_images(tmp_path: Path) -> None:
    """An input of three batches gives three batches of logits, in order, from one session."""
    program = write_program(tmp_path / "program", batch=2)
    images = np.random.default_rng(5).normal(size=(6, 16)).astype(np.float32)
    np.savez(tmp_path / "images.npz", images=images)
    weights = read_npz(program / "server.npz")
    expected = np.maximum(images @ weights["first"], 0) @ weights["second"] + weights["bias"]
    record = run(load_program(program), executor="loopback", inputs=tmp_path / "images.npz", expected=expected)
    check_whole(record, inferences=3)
    np.testing.assert_allclose(record.logits, expected, atol=1e-3)
    assert record.accuracy is not None and record.accuracy.inputs == 6


def test_options_reach_spu(small: Path) -> None:
    """Local truncation saves messages: the option has arrived at both parties."""
    plain = run(load_program(small), executor="loopback")
    local = run(load_program(small), executor="loopback", options=Options(runtime={"trunc_allow_msb_error": True}))
    assert local.rounds < plain.rounds


def test_the_same_program_costs_the_same(small: Path) -> None:
    """Rounds and bytes are no matter of chance."""
    first, second = (run(load_program(small), executor="loopback", repeats=2) for _ in range(2))
    costs = {(i.link.sent_bytes, i.link.sent_messages) for r in (first, second) for i in r.parties[0].inferences}
    assert len(costs) == 1


def test_bytes_agree_with_the_kernels_counters(tmp_path: Path) -> None:
    """What SPU says it sent is what the link's own counters saw, within 3 %, headers included.

    In namespaces, where nothing else uses the link; the counters also hold the input's shares and the output's.
    """
    require(lacks_commands("ip", "tc") or lacks_root())
    program = write_program(tmp_path / "program", pixels=64, hidden=65536)
    record = run(load_program(program), executor="netns", network=Network(name="plain"), repeats=2)
    for party in record.parties:
        for inference in party.inferences:
            assert inference.link.sent_bytes > 5e6
            assert inference.interface_sent_bytes == pytest.approx(inference.link.sent_bytes, rel=0.03)
            assert inference.interface_received_bytes == pytest.approx(inference.link.received_bytes, rel=0.03)


def test_a_time_limit(long: Path) -> None:
    """A run over its limit is stopped, and leaves a record that says so."""
    with pytest.raises(RunFailed, match="limit of 4 s") as caught:
        run(load_program(long), executor="loopback", timeout_s=4)
    assert caught.value.reason == "walltime"
    assert caught.value.record.status == "failed"
    assert caught.value.record.failure is not None and caught.value.record.failure.reason == "walltime"
    assert caught.value.record.samples_s == []


def test_wrong_logits_are_a_record_and_an_exit_status(
    small: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The run is whole, and its record says that its logits are wrong; the command line says so and exits with 1."""
    program = load_program(small)
    reference = program.reference()
    assert reference is not None
    (logits,) = reference.values()
    off = logits + 9
    record = run(program, executor="loopback", expected=off)
    assert (record.status, record.correctness) == ("wrong", "wrong") and record.samples_s and record.failure is None
    assert run(program, executor="loopback", expected=off, error_bound=10.0).status == "ok"
    monkeypatch.setattr(Program, "reference", lambda self: {"logits": off})
    monkeypatch.setattr(sys, "argv", ["spu-bench", "run", str(small), "--executor", "loopback", "--json", "out.json"])
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 1 and "The result is wrong" in capsys.readouterr().err
    assert RunRecord.load(tmp_path / "out.json").status == "wrong"


def test_traffic_can_be_counted_again(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By a relay, for a runtime that does not count itself; the record keeps the code that did it, and its seconds."""
    program = load_program(small)
    record = run(program, executor="loopback")
    with pytest.raises(SpuBenchError, match="cannot be counted again"):
        recount(record, program)
    counted = [Traffic(sent_bytes=n, received_bytes=n, sent_messages=1, received_messages=1) for n in (7, 8)]
    monkeypatch.setattr(measured_run, "count_traffic", lambda *_: counted)
    monkeypatch.setattr(measured_run, "counts_itself", lambda runtime: False)
    samples = list(record.samples_s)
    recount(record, program)
    assert record.sent_bytes == [7, 8] and record.samples_s == samples
    assert record.code.recounted_by is not None and record.code.recounted_by.source == record.code.source
    assert [party.traffic_counted_by for party in record.parties] == ["relay", "relay"]
