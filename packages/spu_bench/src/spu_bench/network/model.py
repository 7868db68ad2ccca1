"""A network is a value: what the link between two parties is asked to be."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict


class Network(BaseModel):
    """The link between two parties.

    `rate_mbit` is the rate from server to client and `rate_back_mbit` from client to server, in Mbit/s (None: not
    limited); `rtt_ms` the round-trip time, `jitter_ms` the delay's standard deviation each way, `loss_percent` the
    share of packets lost each way, `mtu` the packet size in bytes. `source` says where the numbers come from.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    rate_mbit: float | None = None
    rate_back_mbit: float | None = None
    rtt_ms: float = 0.0
    jitter_ms: float = 0.0
    loss_percent: float = 0.0
    mtu: int = 65535
    source: str = ""

    @property
    def is_shaped(self) -> bool:
        """Whether anything about the link is asked for at all."""
        return bool(self.rate_mbit or self.rate_back_mbit or self.rtt_ms or self.jitter_ms or self.loss_percent)


LOOPBACK = Network(name="loopback", source="the loopback device as it is")
