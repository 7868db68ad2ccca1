"""Which IPv4 subnets of this machine are free."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from spu_bench.errors import SpuBenchError

CANDIDATES = tuple(IPv4Network("10.78.0.0/22").subnets(new_prefix=28))


def routed(table: Path = Path("/proc/net/route")) -> Iterator[IPv4Network]:
    """Subnets to which this machine has a route of its own (the default route is none)."""
    for line in table.read_text().splitlines()[1:]:
        fields = line.split()
        target, mask = (IPv4Address(struct.pack("=I", int(fields[column], 16))) for column in (1, 7))
        if int(mask):
            yield IPv4Network(f"{target}/{mask}")


def free(used: Iterable[IPv4Network], asked: str | None) -> list[IPv4Network]:
    """The subnets that may be taken: the asked one, or every candidate that overlaps nothing in use.

    Raises SpuBenchError where none is left.
    """
    in_use = list(used)
    if asked is None:
        left = [subnet for subnet in CANDIDATES if not any(map(subnet.overlaps, in_use))]
        if not left:
            raise SpuBenchError(
                f"every subnet from {CANDIDATES[0]} to {CANDIDATES[-1]} is in use.",
                "remove networks that nobody needs (docker network prune), or name a free subnet.",
                "environment",
            )
        return left
    try:
        subnet = IPv4Network(asked)
    except ValueError as error:
        raise SpuBenchError(f"{asked!r} is no IPv4 subnet: {error}.", "write 10.1.2.0/28.", "bad_input") from None
    if overlapping := [other for other in in_use if subnet.overlaps(other)]:
        raise SpuBenchError(
            f"the subnet {subnet} is already in use: {overlapping[0]} on this machine.",
            "name another one, or none and a free one is taken.",
            "environment",
        )
    return [subnet]
