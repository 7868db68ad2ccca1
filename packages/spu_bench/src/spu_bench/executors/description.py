"""What an executor reports of the hosts and the network of a run, for the record."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from spu_bench.network.shaper_cost import ShaperCost, ShaperName
from spu_bench.provenance import Machine
from spu_bench.strict import Strict


class ContainerImage(Strict):
    """The image of the parties' containers, and the version of the container engine."""

    engine: str
    name: str
    id: str
    digests: list[str]
    labels: dict[str, str]


class ExecutorDescription(Strict):
    """The hosts of a run and their network.

    `name` is the executor that ran, `why` the reason for it where `auto` chose it. `settings` are the kernel's TCP
    settings (sysctl) at each party, `cpus` the cores of each party, `memory_bytes` the limit of a party's container,
    `shaper_cost` one entry a party where a process shapes, `hosts` the machines of the executor `hosts`.
    """

    name: Literal["auto", "docker", "hosts", "loopback", "netns"]
    why: str | None = None
    shaper: ShaperName = "none"
    kernel: str | None = None
    addresses: list[str] = Field(default_factory=list)
    subnet: str | None = None
    congestion_control: str | None = None
    settings: dict[str, str] = Field(default_factory=dict)
    cpus: list[list[int]] = Field(default_factory=list)
    memory_bytes: int | None = None
    image: ContainerImage | None = None
    shaper_cost: list[ShaperCost] = Field(default_factory=list)
    hosts: list[Machine] = Field(default_factory=list)
