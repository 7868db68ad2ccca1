"""Records are typed, come back as they were written, and are written whole or not at all."""

from __future__ import annotations

import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from spu_bench import Network, Options, RunRecord
from spu_bench.comparison import Accuracy
from spu_bench.errors import REASONS
from spu_bench.executors.description import ExecutorDescription
from spu_bench.network.probe import NetworkProbe
from spu_bench.provenance import CodeVersion, Machine, SourceVersion
from spu_bench.record import (
    Failure,
    Inference,
    MadeBy,
    OperationStats,
    PartyOutcome,
    ProgramIdentity,
    Request,
    Traffic,
    TrainingOrigin,
    write_whole,
)
from spu_bench.samples import RESAMPLES, median_interval, summarize
from spu_bench.watch import Frequency, MachineWatch, remarks

OF_SCHEMA_1 = Path(__file__).parent / "data" / "record-schema-1.json"

seconds = st.floats(min_value=0, max_value=1e6, allow_nan=False)
counts = st.integers(min_value=0, max_value=2**62)
words = st.text(max_size=20)
scalars = st.one_of(st.booleans(), st.integers(-(2**31), 2**31), words)
traffic = st.builds(Traffic, sent_bytes=counts, received_bytes=counts, sent_messages=counts, received_messages=counts)
inferences = st.builds(
    Inference,
    input_s=seconds,
    run_s=seconds,
    reveal_s=seconds,
    cpu_s=seconds,
    link=traffic,
    interface_sent_bytes=st.none() | counts,
    interface_received_bytes=st.none() | counts,
)
operations = st.builds(
    OperationStats,
    layer=words,
    name=words,
    calls=counts,
    seconds=seconds,
    sent_bytes=counts,
    received_bytes=counts,
    sent_messages=counts,
    received_messages=counts,
)
failures = st.builds(Failure, reason=st.sampled_from(sorted(REASONS)), problem=words, fix=words)
parties = st.builds(
    PartyOutcome,
    rank=st.integers(0, 2),
    role=st.sampled_from(["server", "client", "helper"]),
    connect_s=seconds,
    share_weights_s=seconds,
    compile_s=seconds,
    inferences=st.lists(inferences, max_size=2),
    operations=st.lists(operations, max_size=2),
    shared_bytes=counts,
    peak_memory_bytes=counts,
    cpu_s=seconds,
    threads=st.integers(0, 64),
    opened_files=st.lists(words, max_size=2),
    versions=st.dictionaries(words, words, max_size=2),
    failure=st.none() | failures,
)
probes = st.builds(
    NetworkProbe,
    server=st.just(0),
    client=st.just(1),
    rtt_ms=seconds,
    rtt_min_ms=seconds,
    rtt_p99_ms=seconds,
    pings=counts,
    rate_mbit=seconds,
    rate_back_mbit=seconds,
    bytes=counts,
    seconds=seconds,
)
requests = st.builds(
    Request,
    protocol=words,
    network=st.just(Network.load("wan")),
    executor=words,
    runtime=words,
    options=st.builds(Options, runtime=st.dictionaries(words, scalars, max_size=2)),
    repeats=counts,
    warmup=counts,
    timeout_s=seconds,
)
watches = st.builds(
    MachineWatch,
    seconds=seconds,
    own_cores=seconds,
    other_cores=seconds,
    steal_share=seconds,
    swap_in_bytes=counts,
    swap_out_bytes=counts,
    frequency_mhz=st.none() | st.builds(Frequency, low=seconds, mean=seconds, high=seconds),
    watching_cpu_s=seconds,
)
machines = st.builds(
    Machine,
    cpu=words,
    cores=counts,
    memory_bytes=counts,
    kernel=words,
    system=words,
    load_1min=seconds,
    swap_used_bytes=counts,
)
versions = {"source": words, "commit": st.none() | words, "dirty": st.none() | st.booleans()}
codes = st.builds(CodeVersion, **versions, recounted_by=st.none() | st.builds(SourceVersion, **versions))
made_by = st.builds(
    lambda known, other: MadeBy.model_validate({**other, **known}),
    st.fixed_dictionaries({}, optional={"attention": words, "kernels": words, "fuse": st.booleans()}),
    st.dictionaries(st.text("xyz", min_size=1), scalars, max_size=2),
)
trainings = st.builds(
    TrainingOrigin,
    data=st.none() | words,
    stage=st.none() | words,
    test_accuracy=seconds,
    test_images=counts,
    config=st.none() | st.dictionaries(words, scalars, max_size=2),
)
descriptions = st.builds(
    ExecutorDescription,
    name=st.sampled_from(["docker", "hosts", "loopback", "netns"]),
    why=st.none() | words,
    addresses=st.lists(words, max_size=2),
    settings=st.dictionaries(words, words, max_size=2),
    cpus=st.lists(st.lists(counts, max_size=2), max_size=2),
    hosts=st.lists(machines, max_size=1),
)
records = st.builds(
    RunRecord,
    status=st.sampled_from(["ok", "failed", "invalid"]),
    correctness=st.sampled_from(["right", "not checked"]),
    failure=st.none() | failures,
    request=requests,
    program=st.none()
    | st.builds(ProgramIdentity, name=words, fingerprint=words, made_by=made_by, training=st.none() | trainings),
    samples_s=st.lists(seconds, max_size=3),
    statistics=st.none() | st.lists(seconds, min_size=1, max_size=9).map(summarize),
    parties=st.lists(parties, max_size=2),
    link_before=st.lists(probes, max_size=1),
    link_after=st.lists(probes, max_size=1),
    executor=st.none() | descriptions,
    accuracy=st.none()
    | st.builds(Accuracy, inputs=counts, max_abs_error=seconds, top1_equal=counts, clear=counts, clear_equal=counts),
    logits=st.none() | st.lists(st.lists(seconds, max_size=2), max_size=2),
    machine=machines,
    code=codes,
    started_at=words,
    duration_s=seconds,
    overhead_s=st.none() | seconds,
    watch=st.none() | watches,
)


@given(records)
def test_a_record_round_trips(record: RunRecord) -> None:
    """Record -> JSON -> record is the identity."""
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


@given(records, st.sampled_from(["status", "request", "duration_s"]), st.sampled_from([None, [], "surplus"]))
def test_what_is_no_record_is_refused(record: RunRecord, key: str, value: Any) -> None:
    """A key of another type, and a key too many."""
    for spoiled in ({**record.model_dump(mode="json"), key: value}, {**record.model_dump(mode="json"), "extra": 1}):
        with pytest.raises(ValidationError):
            RunRecord.model_validate(spoiled)


def test_a_write_that_fails_leaves_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the disk full, what was there before is there after, and nothing else."""
    target = tmp_path / "record.json"
    write_whole(target, "before")

    def full(*_: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        write_whole(target, "after")
    assert target.read_text() == "before"
    assert os.listdir(tmp_path) == ["record.json"]


@given(st.lists(seconds, min_size=1, max_size=40))
def test_summary(samples: list[float]) -> None:
    """The median lies within the quartiles, they within the range; the interval needs six samples."""
    stats = summarize(samples)
    assert stats.low <= stats.q1 <= stats.median <= stats.q3 <= stats.high
    assert (stats.interval_95 is None) == (stats.n < 6)
    if stats.interval_95 is not None:
        assert stats.interval_95[0] <= stats.median <= stats.interval_95[1]


def test_interval_of_known_size() -> None:
    """For an odd number of samples the bootstrap's distribution is known: a median is at most the k-th of n if more
    than half of n draws are.
    """
    n = 11
    at_most = [
        sum(math.comb(n, i) * (k / n) ** i * (1 - k / n) ** (n - i) for i in range(n // 2 + 1, n + 1))
        for k in range(1, n + 1)
    ]
    drawn = math.sqrt(0.025 * 0.975 / RESAMPLES) * 4  # how far the share of drawn medians may be off
    assert all(abs(share - limit) > drawn for share in at_most for limit in (0.025, 0.975)), "the case is no near thing"
    low, high = (1 + sum(share < limit for share in at_most) for limit in (0.025, 0.975))
    assert median_interval([float(i) for i in range(1, n + 1)]) == (low, high)


def test_a_record_of_an_older_schema_loads(tmp_path: Path) -> None:
    """As one of this schema: its values are unchanged, the interval is the bootstrap's, what it has not is left out."""
    raw = json.loads(OF_SCHEMA_1.read_text())
    assert raw["schema_version"] == 1
    record = RunRecord.load(OF_SCHEMA_1)
    assert record.schema_version == 3 and record.watch is None and record.overhead_s is None
    assert record.samples_s == raw["samples_s"] and record.statistics == summarize(raw["samples_s"])
    assert record.statistics.median == raw["statistics"]["median"]
    seven = [3.0, 1.0, 2.0, 9.0, 5.0, 4.0, 8.0]
    many = RunRecord.model_validate({**raw, "samples_s": seven})
    assert many.statistics is not None and many.statistics.interval_95 == median_interval(seven)
    record.save(tmp_path / "record.json")
    assert RunRecord.load(tmp_path / "record.json") == record


OF_SCHEMA_2: dict[str, Any] = {
    "code": {"source": "s", "commit": "c", "dirty": False, "counted": {"source": "t", "commit": "d", "dirty": False}},
    "executor": {
        **{"executor": "docker", "shaper": "none", "kernel": "6.1", "engine": "20.10", "image": "spu-bench:reference"},
        **{"image_id": "sha256:1", "image_digests": [], "image_labels": {"spu-bench.base": "b"}, "memory_bytes": 7},
    },
    "program": {
        **{"name": "n", "fingerprint": "f"},
        "made_by": {"kernels": "plain", "own": [1], "training": {"test_accuracy": 0.9, "test_images": 10}},
    },
}


def of_schema_2(error: float, **more: Any) -> RunRecord:
    raw = json.loads(OF_SCHEMA_1.read_text())
    raw["accuracy"]["max_abs_error"] = error
    return RunRecord.model_validate({**raw, "schema_version": 2, **OF_SCHEMA_2, **more})


def test_what_schema_3_has_types_for() -> None:
    """Everything that a record of schema 2 says is kept, under its new name."""
    record = of_schema_2(0.001)
    assert record.measurement_version == 1 and (record.status, record.correctness) == ("ok", "right")
    assert record.executor is not None and (record.executor.name, record.executor.memory_bytes) == ("docker", 7)
    assert record.executor.image is not None
    assert record.executor.image.model_dump() == {
        **{"engine": "20.10", "name": "spu-bench:reference", "id": "sha256:1", "digests": []},
        "labels": {"spu-bench.base": "b"},
    }
    assert record.code.source == "s" and record.code.recounted_by == SourceVersion(source="t", commit="d", dirty=False)
    assert record.program is not None and record.program.training is not None
    assert record.program.training.test_images == 10
    assert record.program.made_by.model_dump() == {"kernels": "plain", "own": [1]}


@pytest.mark.parametrize(
    ("error", "status", "expected"),
    [
        (0.5, "ok", ("ok", "right")),
        (0.51, "ok", ("wrong", "wrong")),
        (7.8e8, "ok", ("wrong", "wrong")),
        (7.8e8, "failed", ("failed", "not checked")),
    ],
)
def test_a_migrated_record_is_checked(error: float, status: str, expected: tuple[str, str]) -> None:
    """By the bound that new records have by default."""
    record = of_schema_2(error, status=status)
    assert (record.status, record.correctness) == expected


def test_unchecked_logits_are_not_called_right() -> None:
    """A record without plaintext logits cannot say."""
    record = of_schema_2(0.0, accuracy=None)
    assert (record.status, record.correctness) == ("ok", "not checked")


@pytest.mark.parametrize(("status", "correctness"), [("ok", "wrong"), ("wrong", "right"), ("failed", "wrong")])
def test_wrong_is_both_or_neither(status: str, correctness: str) -> None:
    """A status and a correctness that contradict each other are refused."""
    raw = {**of_schema_2(0.0).model_dump(mode="json"), "status": status, "correctness": correctness}
    with pytest.raises(ValidationError, match="does not go with"):
        RunRecord.model_validate(raw)


@pytest.mark.parametrize(
    ("errors", "bound", "status"),
    [([0.1, 0.4], 0.5, "ok"), ([0.1, 0.6], 0.5, "wrong"), ([0.1, 0.6], 0.7, "ok"), ([0.1, math.nan], 0.5, "wrong")],
)
def test_logits_beyond_the_bound_are_wrong(errors: list[float], bound: float, status: str) -> None:
    """A number that is none too; the error says in how many inferences, and how far."""
    record = of_schema_2(0.0)
    record.error_bound, record.samples_s = bound, [1.0, 1.0]
    largest = errors[1]
    record.compare(Accuracy(inputs=2, max_abs_error=largest, top1_equal=0, clear=0, clear_equal=0, errors=errors))
    assert record.status == status and record.wrong_inferences == (status == "wrong")
    if status == "wrong":
        assert "in 1 of 2 inferences" in record.wrong_outputs().problem
    assert RunRecord.model_validate_json(record.model_dump_json()).status == status


@pytest.mark.parametrize("version", [0, 4, "1"])
def test_a_record_of_no_known_schema_is_refused(version: Any) -> None:
    """Also one that a later version wrote: it is not read as something that it may not be."""
    raw = json.loads(OF_SCHEMA_1.read_text())
    with pytest.raises(ValidationError, match="schema"):
        RunRecord.model_validate({**raw, "schema_version": version})


QUIET = {
    "seconds": 10.0,
    "own_cores": 1.5,
    "other_cores": 0.05,
    "steal_share": 0.0,
    "swap_in_bytes": 0,
    "swap_out_bytes": 4096,
    "frequency_mhz": {"low": 2900.0, "mean": 3000.0, "high": 3100.0},
    "watching_cpu_s": 0.01,
}


@pytest.mark.parametrize(
    ("loud", "kinds"),
    [
        ({}, []),
        ({"other_cores": 0.11}, ["other_load"]),
        ({"frequency_mhz": {"low": 1500.0, "mean": 2500.0, "high": 3000.0}}, ["frequency"]),
        ({"frequency_mhz": None, "steal_share": 0.02}, ["steal"]),
        ({"swap_in_bytes": 2**20}, ["swap"]),
    ],
)
def test_remarks(loud: dict[str, Any], kinds: list[str]) -> None:
    """Each limit by itself; a machine with nothing else to do gives no remark."""
    assert [remark.kind for remark in remarks(MachineWatch.model_validate({**QUIET, **loud}))] == kinds


@pytest.mark.parametrize(
    "made_by",
    [{}, {"labels": [2], "kernels": "plain"}, {"mine": 1}, {"config": "a name", "labels": {"x": 1}, "mine": [1, None]}],
)
def test_what_made_a_program_is_kept_whatever_it_says(made_by: dict[str, Any]) -> None:
    """Also where a field that vit_models has means something else in another's Program."""
    kept = MadeBy.of(made_by)
    assert MadeBy.model_validate_json(kept.model_dump_json()) == kept
    assert (kept.model_dump() if kept.other is None else kept.other) == made_by
