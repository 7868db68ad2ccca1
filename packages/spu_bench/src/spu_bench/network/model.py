"""A network is a value: what the link between two parties is asked to be."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spu_bench.errors import SpuBenchError

Rate = Annotated[float, Field(ge=0.01, le=100_000)]
"""Mbit/s: from a slow modem to the fastest links that user space could ever follow."""


LARGEST_PACKET = 65_550
"""Bytes of the largest packet that a kernel hands to a queue: 64 KiB of segments not yet cut, and its headers."""


class Network(BaseModel):
    """The link between two parties.

    `rate_mbit` is the rate from server to client and `rate_back_mbit` from client to server, in Mbit/s (None: not
    limited; a `rate_back_mbit` left out is `rate_mbit`); `rtt_ms` the round-trip time, `jitter_ms` the delay's
    standard deviation each way, `loss_percent` the share of packets lost each way, `mtu` the packet size in bytes.
    `burst_bytes` is what passes at once after a pause, as tc's tbf lets it (None: every byte takes its time).
    `source` says where the numbers come from. Among three parties, rank 0 is the server and each other a client.
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
    def _same_rate_back(cls, data: Any) -> Any:
        if isinstance(data, Mapping) and "rate_back_mbit" not in data:
            return {**data, "rate_back_mbit": data.get("rate_mbit")}
        return data

    @model_validator(mode="after")
    def _a_burst_has_a_rate(self) -> Self:
        if self.burst_bytes is not None and (self.rate_mbit is None or self.rate_back_mbit is None):
            raise ValueError("burst_bytes: needs a rate_mbit, whose bucket it is")
        return self

    @model_validator(mode="after")
    def _delay_stays_positive(self) -> Self:
        if self.jitter_ms > self.one_way_ms:
            raise ValueError("jitter_ms: larger than the one-way delay (rtt_ms / 2), which cannot become negative")
        return self

    @property
    def is_shaped(self) -> bool:
        """Whether anything about the link is asked for at all."""
        return bool(self.rate_mbit or self.rate_back_mbit or self.rtt_ms or self.jitter_ms or self.loss_percent)

    @property
    def one_way_ms(self) -> float:
        """Delay in one direction, in ms: half of the round trip."""
        return self.rtt_ms / 2

    def egress_mbit(self, rank: int) -> float | None:
        """Rate at which the party `rank` may send, in Mbit/s; None where it is not limited."""
        return self.rate_mbit if rank == 0 else self.rate_back_mbit

    @classmethod
    def load(cls, name_or_path: str | Path) -> Self:
        """Give a preset by its name, or read a TOML file (its stem is the network's name unless it says another).

        Raises SpuBenchError ("bad_input") that names the offending key.
        """
        if (preset := PRESETS.get(str(name_or_path))) is not None:
            return cls(**preset.model_dump())
        path = Path(name_or_path)
        if not path.is_file():
            raise SpuBenchError(
                f"no network {str(name_or_path)!r}: neither a preset nor a file.",
                f"use one of {', '.join(PRESETS)} or the path of a TOML file.",
                "bad_input",
            )
        try:
            data = tomllib.loads(path.read_text(encoding="utf-8"))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
            raise SpuBenchError(f"{path} is not readable as TOML: {error}.", "mend the file.", "bad_input") from error
        network = cls._checked({"name": path.stem, **data}, path)
        if network.name in PRESETS:
            raise SpuBenchError(
                f"{path}: name: {network.name!r} is a preset's name.",
                "give the network another name, so that no record can be mistaken for the preset's.",
                "bad_input",
            )
        return network

    @classmethod
    def _checked(cls, data: Mapping[str, Any], path: Path) -> Self:
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            found = "; ".join(_in_words(detail) for detail in error.errors())
            raise SpuBenchError(
                f"{path}: {found}.", f"use the keys {', '.join(cls.model_fields)} within their bounds.", "bad_input"
            ) from error


def _in_words(detail: Any) -> str:
    """One pydantic error as `key: what is wrong (what was given)`."""
    if not detail["loc"]:
        return str(detail["msg"]).removeprefix("Value error, ")
    if detail["type"] == "extra_forbidden":
        return f"{detail['loc'][0]}: unknown key"
    return f"{detail['loc'][0]}: {str(detail['msg'])[0].lower()}{str(detail['msg'])[1:]} (given: {detail['input']!r})"


_THROTTLE = "Cheetah's published throttle script (scripts/throttle.sh of OpenCheetah), which shapes the loopback device"

LOOPBACK = Network(name="loopback", source="the loopback device as it is")
LAN = Network(
    name="lan",
    rate_mbit=3000.0,
    rtt_ms=0.3,
    burst_bytes=100_000,
    source=f"{_THROTTLE}: tbf rate 3000mbit burst 100000, netem delay 0.15msec, MTU 65,535",
)
WAN = Network(
    name="wan",
    rate_mbit=400.0,
    rtt_ms=40.0,
    burst_bytes=100_000,
    source=f"{_THROTTLE}: tbf rate 400mbit burst 100000, netem delay 20msec, MTU 65,535",
)

PRESETS = {network.name: network for network in (LOOPBACK, LAN, WAN)}
