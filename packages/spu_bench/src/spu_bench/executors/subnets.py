"""Free IPv4 subnets of this machine."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from spu_bench.errors import SpuBenchError

CANDIDATES = tuple(IPv4Network("10.78.0.0/22").subnets(new_prefix=28))


def routed(table: Path = Path("/proc/net/route")) -> Iterator[IPv4Network]:
    """Subnets in this machine's routing table, without the default route."""
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        target, mask = (IPv4Address(struct.pack("=I", int(fields[column], 16))) for column in (1, 7))
        if int(mask):
            yield IPv4Network(f"{target}/{mask}")


def free(used: Iterable[IPv4Network], requested: str | None) -> list[IPv4Network]:
    """The subnets that can be used: the requested one, or all candidates that do not overlap a `used` one.

    Raises SpuBenchError where there is none.
    """
    in_use = list(used)
    if requested is None:
        available = [subnet for subnet in CANDIDATES if not any(map(subnet.overlaps, in_use))]
        if not available:
            raise SpuBenchError(
                f"All subnets from {CANDIDATES[0]} to {CANDIDATES[-1]} are in use.",
                "remove unused networks with `docker network prune`, or set SPU_BENCH_SUBNET to a free subnet.",
                "environment",
            )
        return available
    try:
        subnet = IPv4Network(requested)
    except ValueError as error:
        raise SpuBenchError(
            f"{requested!r} is not an IPv4 subnet: {error}.", "write it as 10.1.2.0/28.", "bad_input"
        ) from None
    if overlapping := [other for other in in_use if subnet.overlaps(other)]:
        raise SpuBenchError(
            f"The subnet {subnet} is already in use: {overlapping[0]} on this machine.",
            "choose another one, or unset SPU_BENCH_SUBNET to use a free one.",
            "environment",
        )
    return [subnet]
