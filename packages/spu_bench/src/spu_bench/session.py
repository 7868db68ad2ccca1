"""What all parties of a run agree on: the link file."""

from __future__ import annotations

import hashlib
import ipaddress
import itertools
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spu_bench import protocols, runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.options import Options
from spu_bench.untrusted import one_line, read_toml

HostName = Annotated[
    str, Field(max_length=253, pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,62}(\.[A-Za-z0-9][A-Za-z0-9_-]{0,62})*$")
]
"""An IPv4 address or a host's name: at most 253 characters, and at most 63 between two dots."""


class PartyAddress(BaseModel):
    """Where the other parties reach a party: the runtime's link on `port`, the share exchange on `port` + 1.

    `listen` is the address at which it listens itself, where that is another one: behind a NAT, or on a cloud host.
    `relay_port` is the port that its peers call for the link instead, where a relay is between them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: HostName
    port: int = Field(ge=1024, le=65534)
    listen: HostName | None = None
    relay_port: int | None = Field(default=None, ge=1024, le=65535)

    @property
    def own(self) -> str:
        """The address at which the party itself listens."""
        return self.listen or self.address

    def shares_a_port(self, other: PartyAddress) -> bool:
        """Whether both take a port of one address."""
        same = self.address.lower() == other.address.lower() or self.own.lower() == other.own.lower()
        return same and abs(self.port - other.port) < 2

    @property
    def seen_at(self) -> int:
        """The port that a peer calls for the link."""
        return self.relay_port or self.port


class DealerAddress(BaseModel):
    """The third party that deals the triples: the table [dealer] of a link file. Every file is this party's own.

    `key_file` holds the key of prepared answers (32 random bytes) at the party that asks the dealer (rank 0) and at the
    dealer; without it every request goes to the dealer while the Program runs. `certificate`, `private_key` and `ca`
    are PEM files; without them the address has to be of loopback, or `insecure` true.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    port: int = Field(ge=1, le=65535)
    transport: Literal["http", "h2"] = "http"
    key_file: str | None = None
    certificate: str | None = None
    private_key: str | None = None
    ca: str | None = None
    insecure: bool = False

    @model_validator(mode="after")
    def _is_safe(self) -> DealerAddress:
        given = [self.certificate, self.private_key, self.ca]
        if any(given) and not all(given):
            raise ValueError("certificate, private_key and ca are given together, or none of them")
        if not any(given) and not self.insecure and not _is_loopback(self.address):
            raise ValueError("a dealer elsewhere takes certificate, private_key and ca, or insecure = true")
        return self

    def below(self, folder: Path) -> DealerAddress:
        """The same with its files' paths from `folder`, where the link file is."""
        files = {name: getattr(self, name) for name in ("key_file", "certificate", "private_key", "ca")}
        return self.model_copy(update={n: str((folder / f).absolute()) if f else None for n, f in files.items()})


def _is_loopback(address: str) -> bool:
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return address == "localhost"


class Session(BaseModel):
    """The content of a link file.

    `party` lists the addresses in rank order: rank 0 is the server (weights), rank 1 the client (image), rank 2, in
    a protocol of three, a helper without inputs. Every party has the same file. `runtime` is one of runtimes.RUNTIMES.
    `dealer` is the third party that deals the triples (None: as the options say, by default the server).
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str = "semi2k"
    runtime: str = runtimes.NEWEST
    party: tuple[PartyAddress, ...]
    repeats: int = Field(default=1, ge=1, le=1_000_000)
    warmup: int = Field(default=0, ge=0, le=1_000_000)
    connect_timeout_s: float = Field(default=10.0, gt=0, le=86_400, allow_inf_nan=False)
    options: Options = Options()
    dealer: DealerAddress | None = None

    @model_validator(mode="after")
    def _parties_fit_protocol(self) -> Session:
        known = protocols.PROTOCOLS
        if self.protocol not in known:
            raise ValueError(f"there is no protocol {self.protocol!r}, use one of {', '.join(known)}")
        if len(self.party) != known[self.protocol].parties:
            raise ValueError(f"{self.protocol} takes {known[self.protocol].parties} parties, not {len(self.party)}")
        if self.dealer is not None:
            try:
                chosen = known[self.protocol].dealer("third-party", self.runtime)
            except SpuBenchError as error:
                raise ValueError(f"dealer: {error.problem} {error.fix}") from error
            protocols.check_dealer(chosen, self.options.runtime)
        for first, second in itertools.combinations(range(len(self.party)), 2):
            one, other = self.party[first], self.party[second]
            if one.shares_a_port(other):
                raise ValueError(
                    f"parties {first} ({one.address}:{one.port}) and {second} ({other.address}:{other.port}) take the "
                    "same port, since each takes its port and the next one; give them ports that are 2 apart"
                )
        return self

    def check_rank(self, rank: int) -> None:
        """Raise SpuBenchError where none of the parties has that rank."""
        if not 0 <= rank < len(self.party):
            raise SpuBenchError(
                f"There is no rank {rank} among {len(self.party)} parties.",
                f"give a rank from 0 to {len(self.party) - 1}.",
                "bad_input",
            )

    def digest(self) -> str:
        """SHA-256 of what the parties must have in common; addresses may differ between hosts."""
        common = self.model_dump_json(exclude={"party", "connect_timeout_s", "dealer"})
        dealer = "a third party deals" if self.dealer else ""
        return hashlib.sha256(f"{len(self.party)} parties {common} {dealer}".encode()).hexdigest()


def load_session(path: str | Path) -> Session:
    """Read a link file (TOML); raises SpuBenchError that names the key at fault."""
    try:
        session = Session.model_validate(read_toml(Path(path), "correct the link file."))
    except ValidationError as error:
        first = error.errors()[0]
        where = one_line(".".join(map(str, first["loc"]))) or "link file"
        raise SpuBenchError(
            f"{path}: {where}: {one_line(first['msg'])}.", "correct the link file.", "bad_input"
        ) from None
    session.options.check(session.runtime, session.protocol)
    if session.dealer is None:
        return session
    return session.model_copy(update={"dealer": session.dealer.below(Path(path).parent)})
