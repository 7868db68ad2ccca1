"""The record of a measurement: typed, versioned, and the only source of a reported number."""

from __future__ import annotations

import json
import math
import os
import tempfile
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


class Request(Strict):
    """The requested run."""

    protocol: str
    network: Network
    executor: str
    runtime: str
    options: Options
    repeats: int
    warmup: int
    timeout_s: float


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


class Inference(Strict):
    """One inference at one party: seconds of sharing the input, of the protocol, of revealing; the link's totals.

    `cpu_s` is the CPU time of all threads during the protocol, waiting in a spin included.
    `link` is None where it was not counted. `interface_*_bytes` are the kernel's counters of the interface that carries
    the link, headers included; on the loopback device they hold both directions.
    """

    input_s: float
    run_s: float
    reveal_s: float
    cpu_s: float
    link: Traffic | None
    interface_sent_bytes: int | None = None
    interface_received_bytes: int | None = None


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


class Accuracy(Strict):
    """Logits under MPC against those in plaintext.

    Of `inputs` in all, `top1_equal` got the same class; `clear` are those whose two largest plaintext logits are more
    than CLEAR_MARGIN apart, `clear_equal` those of them with the same class. `max_abs_error` is over all logits,
    `errors` the largest of each inference (None in records that did not keep it).
    """

    inputs: int
    max_abs_error: float
    top1_equal: int
    clear: int
    clear_equal: int
    errors: list[float] | None = None


CLEAR_MARGIN = 0.1
"""An image is clear when its two largest plaintext logits are further apart than this."""

ERROR_BOUND = 0.5
"""A logit further than this from plaintext is wrong, where a run states no other bound: rounding moves logits by
thousandths, a failed truncation by anything up to 2^28."""

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
    `correctness` compares the logits with those in plaintext (the Program's own reference, or given ones): "right" if
    none is further off than `error_bound`. The status is "wrong" exactly where the correctness is.
    `samples_s` are the seconds of the protocol alone (the slower party's), one per inference after the warm-up.
    `trust` is what the parties have to trust each other with (`protocols`). `link_before` and `link_after` are
    what a probe saw of the link around the run, `watch` what was seen of the machine during it. `overhead_s` is what
    the harness took around the parties' processes: to open and close their hosts, to shape and to probe their link.
    Both are None in records that did not keep them. `prediction` is what the cost model said of the same Program,
    protocol and network, where it was asked. `measurement_version` decides whether the record can be reused.
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
    accuracy: Accuracy | None = None
    logits: list[list[float]] | None = None
    machine: Machine
    code: CodeVersion
    prediction: Prediction | None = None
    started_at: str
    duration_s: float
    overhead_s: float | None = None
    watch: MachineWatch | None = None

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

    def compare(self, accuracy: Accuracy) -> None:
        """Keep `accuracy`, and say whether the logits of this whole run are right; sets `status` too."""
        self.accuracy = accuracy
        right = accuracy.max_abs_error <= self.error_bound  # False for a number that is none
        self.correctness, self.status = ("right", "ok") if right else ("wrong", "wrong")

    def wrong_logits(self) -> SpuBenchError:
        """The error to report where the status is "wrong"."""
        error = self.accuracy.max_abs_error if self.accuracy else math.nan
        some = f" in {self.wrong_inferences} of {len(self.samples_s)} inferences" if self.wrong_inferences else ""
        return SpuBenchError(
            f"The logits are wrong{some}: off by {error:.3g} from plaintext, where {self.error_bound:g} is the bound.",
            "use options with exact truncation or more fraction bits, or state another bound.",
            "wrong_result",
        )

    def save(self, path: str | Path) -> None:
        """Write the record as JSON, whole or not at all."""
        write_whole(Path(path), self.model_dump_json(indent=1) + "\n")

    @classmethod
    def load(cls, path: str | Path) -> Self:
        """Read a record of this schema or an older one; raises pydantic.ValidationError for any other file."""
        return cls.model_validate_json(Path(path).read_text())


def record_json_schema() -> str:
    """The JSON Schema of RunRecord, as committed beside the records."""
    return json.dumps(RunRecord.model_json_schema(), indent=1, sort_keys=True) + "\n"


def write_whole(path: Path, text: str) -> None:
    """Write `text` to `path` through a temporary file and a rename, so that no reader ever sees half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(text)
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


if __name__ == "__main__":
    print(record_json_schema(), end="")
