"""`Network`, the values that describe a network between parties, and the presets `loopback`, `lan` and `wan`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spu_bench.errors import SpuBenchError
from spu_bench.untrusted import one_line, read_toml

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

Rate = Annotated[float, Field(ge=0.01, le=100_000)]
"""Mbit/s, from a slow modem to the fastest network that a process in user space can delay."""

LARGEST_PACKET = 65_550
"""Bytes of the largest packet that the kernel puts into a queue: 64 KiB of unsplit segments, and the headers."""


class Network(BaseModel):
    """A network between two parties, as it is requested.

    - `rate_mbit`: rate from server to client in Mbit/s; None for no limit.
    - `rate_back_mbit`: rate from client to server; `rate_mbit` where it is left out.
    - `rtt_ms`: round-trip time. `jitter_ms`: standard deviation of the delay, each way.
    - `loss_percent`: packets lost, each way. `mtu`: largest packet in bytes.
    - `burst_bytes`: bytes that pass without limit after a pause, as in tc's tbf; None: the rate limits every byte.
    - `source`: where the numbers come from.

    With three parties, rank 0 is the server and the others are clients.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$")
    rate_mbit: Rate | None = None
    rate_back_mbit: Rate | None = None
    rtt_ms: float = Field(default=0.0, ge=0, le=10_000)
    jitter_ms: float = Field(default=0.0, ge=0)
    loss_percent: float = Field(default=0.0, ge=0, le=50)
    mtu: int = Field(default=65535, ge=576, le=65535)
    burst_bytes: int | None = Field(default=None, ge=LARGEST_PACKET, le=100_000_000)
    source: str = ""

    @model_validator(mode="before")
    @classmethod
    def _same_rate_back(cls, data: object) -> object:
        if isinstance(data, Mapping) and "rate_back_mbit" not in data:
            return {**data, "rate_back_mbit": data.get("rate_mbit")}
        return data

    @model_validator(mode="after")
    def _burst_requires_rate(self) -> Self:
        if self.burst_bytes is not None and (self.rate_mbit is None or self.rate_back_mbit is None):
            raise ValueError("burst_bytes: requires rate_mbit and rate_back_mbit")
        return self

    @model_validator(mode="after")
    def _delay_stays_positive(self) -> Self:
        if self.jitter_ms > self.one_way_ms:
            raise ValueError("jitter_ms: larger than the one-way delay (rtt_ms / 2)")
        return self

    @property
    def is_shaped(self) -> bool:
        """Whether the network has a rate, a delay, jitter or loss, so that a shaper is required."""
        return bool(self.rate_mbit or self.rate_back_mbit or self.rtt_ms or self.jitter_ms or self.loss_percent)

    @property
    def one_way_ms(self) -> float:
        """Delay in one direction in ms: half of the round-trip time."""
        return self.rtt_ms / 2

    def egress_mbit(self, rank: int) -> float | None:
        """Rate at which party `rank` can send, in Mbit/s; None for no limit."""
        return self.rate_mbit if rank == 0 else self.rate_back_mbit

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Return the preset of that name, or read a TOML file; the file's stem is the default for `name`.

        Raises SpuBenchError ("bad_input") that names the wrong key.
        """
        if (preset := NETWORKS.get(str(name_or_path))) is not None:
            return cls(**preset.model_dump())
        path = Path(name_or_path)
        if not path.is_file():
            raise SpuBenchError(
                f"There is no network {str(name_or_path)!r}: it is neither a preset nor a file.",
                f"use one of {', '.join(NETWORKS)}, or the path of a TOML file.",
                "bad_input",
            )
        data = read_toml(path, "correct the file.")
        network = cls._checked({"name": path.stem, **data}, path)
        if network.name in NETWORKS:
            raise SpuBenchError(
                f"{path}: name: {network.name!r} is the name of a preset.",
                "choose another name, so that records cannot be confused with those of the preset.",
                "bad_input",
            )
        return network

    @classmethod
    def _checked(cls, data: Mapping[str, object], path: Path) -> Self:
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            found = "; ".join(_describe(detail) for detail in error.errors())
            raise SpuBenchError(
                f"{path}: {found}.", f"use the keys {', '.join(cls.model_fields)} within their bounds.", "bad_input"
            ) from error


def _describe(detail: ErrorDetails) -> str:
    """One pydantic error as `key: what is wrong (given: value)`."""
    if not detail["loc"]:
        return str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{one_line(str(detail['loc'][0]))}: unknown key"
    given = one_line(repr(detail["input"]))
    return f"{detail['loc'][0]}: {str(detail['msg'])[0].lower()}{str(detail['msg'])[1:]} (given: {given})"


_THROTTLE = "Cheetah's published throttle script (scripts/throttle.sh of OpenCheetah), which shapes the loopback device"

LOOPBACK = Network(name="loopback", source="the loopback device as it is")
"""No shaping."""

LAN = Network(
    name="lan",
    rate_mbit=3000.0,
    rtt_ms=0.3,
    burst_bytes=100_000,
    source=f"{_THROTTLE}: tbf rate 3000mbit burst 100000, netem delay 0.15msec, MTU 65,535",
)
"""The paper's local network: 3 Gbit/s, 0.3 ms."""

WAN = Network(
    name="wan",
    rate_mbit=400.0,
    rtt_ms=40.0,
    burst_bytes=100_000,
    source=f"{_THROTTLE}: tbf rate 400mbit burst 100000, netem delay 20msec, MTU 65,535",
)
"""The paper's wide-area network: 400 Mbit/s, 40 ms."""

NETWORKS = {network.name: network for network in (LOOPBACK, LAN, WAN)}
"""The networks that have a name."""
