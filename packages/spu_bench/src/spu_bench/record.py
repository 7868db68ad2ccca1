"""The record of a measurement: typed, versioned, and the only source of a reported number."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from spu_bench.comparison import Accuracy, OutputComparison
from spu_bench.errors import Reason, SpuBenchError
from spu_bench.executors.description import ExecutorDescription
from spu_bench.measurement_version import MEASUREMENT_VERSION
from spu_bench.migrations import migrate
from spu_bench.network import Network
from spu_bench.network.probe import NetworkProbe
from spu_bench.options import Options
from spu_bench.predicted_latency import Prediction
from spu_bench.provenance import CodeVersion, Machine
from spu_bench.samples import SampleStatistics
from spu_bench.strict import Strict
from spu_bench.watch import MachineWatch, Remark

DealerName = Literal["server", "third-party"]
"""Who can be asked to deal the triples."""


class Request(Strict):
    """The requested run. `dealer` is None where the runtime's options say who deals."""

    protocol: str
    network: Network
    executor: str
    runtime: str
    options: Options
    repeats: int
    warmup: int
    timeout_s: float
    dealer: DealerName | None = None


class MadeBy(BaseModel):
    """What made a Program: for a model of vit_models its parts, by the names that they have there.

    A Program can be of anyone's model, so that every field may be missing, and there can be others. `other` is all of
    it where a field of one of these names has another type.
    """

    model_config = ConfigDict(extra="allow")

    config: dict[str, JsonValue] | None = None
    attention: str | None = None
    plan: dict[str, JsonValue] | None = None
    gelu: str | None = None
    kernels: str | None = None
    fuse: bool | None = None
    calibration: str | None = None
    labels: list[int] | None = None
    without: str | None = None
    jax: str | None = None
    vit_models: str | None = None
    other: dict[str, JsonValue] | None = None

    @classmethod
    def of(cls, made_by: dict[str, JsonValue]) -> Self:
        """The `made_by` of a manifest, whatever it holds: it never keeps a Program from running."""
        try:
            return cls.model_validate(made_by)
        except ValidationError:
            return cls(other=made_by)

    @model_serializer(mode="wrap")
    def _what_is_known(self, handler: SerializerFunctionWrapHandler) -> dict[str, JsonValue]:
        known = self.model_fields_set | set(self.model_extra or {})
        return {name: value for name, value in handler(self).items() if name in known}


class TrainingOrigin(Strict):
    """The training that made a Program's weights, and what they reach in plaintext.

    `fingerprint` is that of the training's record; `config` its settings (`settings` in the oldest checkpoints).
    """

    data: str | None = None
    stage: str | None = None
    fingerprint: str | None = None
    test_accuracy: float
    test_images: int
    train_s: float | None = None
    parameters: int | None = None
    jax: str | None = None
    config: dict[str, JsonValue] | None = None
    settings: dict[str, JsonValue] | None = None


class ProgramIdentity(Strict):
    """The Program that ran: its name, its fingerprint, what made it, and what trained its weights."""

    name: str
    fingerprint: str
    made_by: MadeBy
    training: TrainingOrigin | None = None


class Traffic(BaseModel):
    """What one party sent and received: bytes of payload, and messages."""

    sent_bytes: int
    received_bytes: int
    sent_messages: int
    received_messages: int


class OperationStats(BaseModel):
    """One kind of operation in one run of one party: calls, seconds of wall time, traffic as in `Traffic`.

    A version of SPU that does not count an operation's traffic leaves None.
    """

    sent_bytes: int | None = None
    received_bytes: int | None = None
    sent_messages: int | None = None
    received_messages: int | None = None
    layer: str
    name: str
    calls: int
    seconds: float


class Dealt(Strict):
    """What a dealer that is a third party gave for one inference, at the party that asks it.

    Offline, before the inference: seconds, bytes and answers (`prepared`), of which `from_memory` were used. Online,
    while the Program ran: requests to the dealer and their bytes, None where nobody counted.
    """

    offline_s: float
    offline_bytes: int
    prepared: int
    from_memory: int
    online_requests: int | None
    online_bytes: int | None


class DealerUse(Strict):
    """The third party that dealt in a run: how the parties reach it, and its log of the session.

    `overlaps` counts draws of a party's stream that overlap another: 0, or masks were used twice. `bytes_in` and
    `bytes_out` are of single requests, without what was sent ahead of time.
    """

    kind: DealerName
    transport: Literal["http", "h2"]
    host: str
    requests: int
    refused: int
    bytes_in: int
    bytes_out: int
    draws: int
    overlaps: int


class Inference(Strict):
    """One inference at one party: seconds of sharing the input, of the protocol, of revealing; the link's totals.

    `cpu_s` is the CPU time of all threads during the protocol, waiting in a spin included.
    `link` is None where it was not counted, `dealt` where no third party dealt to this party.
    `interface_*_bytes` are the kernel's counters of the interface that carries
    the link, headers included; on the loopback device they hold both directions.
    """

    input_s: float
    run_s: float
    reveal_s: float
    cpu_s: float
    link: Traffic | None
    interface_sent_bytes: int | None = None
    interface_received_bytes: int | None = None
    dealt: Dealt | None = None


class Failure(Strict):
    """Why a run has no valid result: a word of `errors.REASONS`, what was wrong, what to do."""

    reason: Reason
    problem: str
    fix: str


class PartyOutcome(Strict):
    """What one party reports of itself.

    Operations are those of the last inference; `threads` is the cap on compute threads (0: none was set), `cpu_s` the
    CPU time of its processes, `shared_bytes` what it sent of weights', inputs' and outputs' shares, beside SPU's link.
    `traffic_counted_by` says where the link's bytes and messages come from: "profile", SPU's own statistics of each
    inference; "relay", one more run of the same Program on loopback, over a relay that counted
    (spu_bench.counting_relay); "crypten", CrypTen's own counters of each inference, whose messages are collective
    operations: gloo takes four one-way delays for each.
    """

    rank: int
    role: Literal["server", "client", "helper"]
    connect_s: float = 0.0
    share_weights_s: float = 0.0
    compile_s: float = 0.0
    inferences: list[Inference] = Field(default_factory=list)
    operations: list[OperationStats] = Field(default_factory=list)
    traffic_counted_by: Literal["profile", "relay", "crypten"] | None = "profile"
    shared_bytes: int = 0
    peak_memory_bytes: int = 0
    cpu_s: float = 0.0
    threads: int = 0
    opened_files: list[str] = Field(default_factory=list)
    versions: dict[str, str] = Field(default_factory=dict)
    failure: Failure | None = None


ERROR_BOUND = 0.5
"""A logit further than this from plaintext is wrong, where a run states no other bound: rounding moves logits by
thousandths, a failed truncation by anything up to 2^28."""


class LikelyCause(Strict):
    """Why outputs are wrong, as far as the run can tell, and what to do about it."""

    cause: str
    fix: str


_OF_CELLS = {"cell", "cell_fingerprint"}
"""What the harness adds to a record: a reader of runs alone leaves it out."""

Status = Literal["ok", "wrong", "failed", "invalid"]
"""How a run ended (see `RunRecord`)."""

Correctness = Literal["right", "wrong", "not checked"]
"""What a comparison of the logits with plaintext says."""


class RunRecord(Strict):
    """One measured run.

    `status`: "ok" is a latency. "wrong" is a whole run whose logits are wrong, "failed" has no result, "invalid" ran
    over a link that was not the one asked for; failed and invalid runs have a `failure`, and whatever was seen before.
    `correctness` compares each of the `outputs` with plaintext (the Program's own reference, or given ones): "right" if
    no number is further off than `error_bound` and all whole numbers are equal. The status is "wrong" exactly where the
    correctness is, and then there may be a `likely_cause`. `accuracy` and `logits` are those of the first output that
    has logits, None where none has.
    `samples_s` are the seconds of the protocol alone (the slower party's), one per inference after the warm-up.
    `trust` is what the parties have to trust each other with (`protocols`). `link_before` and `link_after` are
    what a probe saw of the link around the run, `watch` what was seen of the machine during it. `overhead_s` is what
    the harness took around the parties' processes: to open and close their hosts, to shape and to probe their link.
    Both are None in records that did not keep them. `prediction` is what the cost model said of the same Program,
    protocol and network, where it was asked.
    `dealer` is the third party that dealt (None: none did).
    `measurement_version` decides whether the record can be reused.
    """

    schema_version: Literal[3] = 3
    measurement_version: int = MEASUREMENT_VERSION
    status: Status
    correctness: Correctness = "not checked"
    error_bound: float = ERROR_BOUND
    failure: Failure | None = None
    request: Request
    program: ProgramIdentity | None = None
    trust: str | None = None
    samples_s: list[float] = Field(default_factory=list)
    statistics: SampleStatistics | None = None
    parties: list[PartyOutcome] = Field(default_factory=list)
    link_before: list[NetworkProbe] = Field(default_factory=list)
    link_after: list[NetworkProbe] = Field(default_factory=list)
    executor: ExecutorDescription | None = None
    outputs: dict[str, OutputComparison] = Field(default_factory=dict)
    likely_cause: LikelyCause | None = None
    accuracy: Accuracy | None = None
    logits: list[list[float]] | None = None
    machine: Machine
    code: CodeVersion
    prediction: Prediction | None = None
    started_at: str
    duration_s: float
    overhead_s: float | None = None
    watch: MachineWatch | None = None
    dealer: DealerUse | None = None

    @model_validator(mode="before")
    @classmethod
    def _of_any_schema(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        surplus = _OF_CELLS - set(cls.model_fields)
        return {name: each for name, each in migrate(value).items() if name not in surplus}

    @model_validator(mode="after")
    def _wrong_is_a_status(self) -> Self:
        if (self.status == "wrong") is not (self.correctness == "wrong"):
            raise ValueError(f"status {self.status!r} does not go with correctness {self.correctness!r}")
        return self

    @property
    def rounds(self) -> int:
        """Messages one party sends in an inference, one after another: the larger of the parties'."""
        return max(traffic.sent_messages for traffic in self.traffic())

    @property
    def sent_bytes(self) -> list[int]:
        """Bytes that each party sent in the last inference, in rank order."""
        return [traffic.sent_bytes for traffic in self.traffic()]

    @property
    def remarks(self) -> list[Remark]:
        """What the watch of the machine says against the latency; nothing where the machine was not watched."""
        return [] if self.watch is None else self.watch.remarks

    @property
    def wrong_inferences(self) -> int:
        """Inferences whose logits are wrong; 0 where they were not checked one by one."""
        errors = (self.accuracy.errors if self.accuracy else None) or []
        return sum(not error <= self.error_bound for error in errors)

    def traffic(self) -> list[Traffic]:
        """What each party sent and received in the last inference, in rank order."""
        counted = [party.inferences[-1].link for party in self.parties if party.inferences]
        return [traffic for traffic in counted if traffic is not None]

    def compare(self, accuracy: Accuracy | None, outputs: Mapping[str, OutputComparison] | None = None) -> None:
        """Keep `accuracy` and `outputs`, and say whether this whole run is right; sets `status` too."""
        self.accuracy, self.outputs = accuracy, dict(outputs or {})
        right = all(each.is_right(self.error_bound) for each in self.outputs.values())
        right = right and (accuracy is None or accuracy.max_abs_error <= self.error_bound)  # False for no number
        self.correctness, self.status = ("right", "ok") if right else ("wrong", "wrong")

    def wrong_outputs(self) -> SpuBenchError:
        """The error to report where the status is "wrong": the outputs, how far they are off, and the likely cause."""
        wrong = [f"{name!r}: {each}" for name, each in self.outputs.items() if not each.is_right(self.error_bound)]
        if self.accuracy is not None and not wrong:
            wrong = [f"logits: largest error {self.accuracy.max_abs_error:.3g}"]
        some = f" in {self.wrong_inferences} of {len(self.samples_s)} inferences" if self.wrong_inferences else ""
        cause, fix = "", "use options with exact truncation or more fraction bits, or state another bound."
        if self.likely_cause is not None:
            cause, fix = f" Likely cause: {self.likely_cause.cause}.", self.likely_cause.fix
        return SpuBenchError(
            f"The result is wrong{some}: {'; '.join(wrong)}, where the bound is {self.error_bound:g}.{cause}",
            fix,
            "wrong_result",
        )

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, whole or not at all, for everyone to read: a store is shared."""
        write_whole(Path(path), self.to_json(), 0o644)

    def to_json(self) -> str:
        """The content of a record's file."""
        return self.model_dump_json(indent=1) + "\n"

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a record of this schema or an older one; raises pydantic.ValidationError for any other file."""
        return cls.model_validate_json(Path(path).read_text())


def record_json_schema() -> str:
    """The JSON Schema of RunRecord, as committed beside the records."""
    return json.dumps(RunRecord.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_whole(path: Path, text: str, mode: int = 0o600) -> None:
    """Write `text` to `path` through a temporary file and a rename, so that no reader ever sees half of it.

    `mode` says who may read it: the owner alone, since a result may hold what the client alone may know.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    print(record_json_schema(), end="")
