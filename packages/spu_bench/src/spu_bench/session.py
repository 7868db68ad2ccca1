"""What all parties of a run agree on: the link file."""

from __future__ import annotations

import hashlib
import tomllib
from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from spu_bench import protocols, runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.options import Options


class PartyAddress(BaseModel):
    """Where a party listens: the runtime's link on `port`, the share exchange on `port` + 1.

    `relay_port` is the port that its peers call for the link instead, where a relay is between them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    address: str
    port: int = Field(ge=1024, le=65534)
    relay_port: int | None = Field(default=None, ge=1024, le=65535)

    @property
    def seen_at(self) -> int:
        """The port that a peer calls for the link."""
        return self.relay_port or self.port


class Session(BaseModel):
    """The content of a link file.

    `party` lists the addresses in rank order: rank 0 is the server (weights), rank 1 the client (image), rank 2, in
    a protocol of three, a helper without inputs. Every party has the same file. `runtime` is one of runtimes.RUNTIMES.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    protocol: str = "semi2k"
    runtime: str = runtimes.NEWEST
    party: tuple[PartyAddress, ...]
    repeats: int = Field(default=1, ge=1)
    warmup: int = Field(default=0, ge=0)
    connect_timeout_s: float = Field(default=10.0, gt=0)
    options: Options = Options()

    @model_validator(mode="after")
    def _parties_fit_protocol(self) -> Session:
        known = protocols.PROTOCOLS
        if self.protocol not in known:
            raise ValueError(f"there is no protocol {self.protocol!r}, use one of {', '.join(known)}")
        if len(self.party) != known[self.protocol].parties:
            raise ValueError(f"{self.protocol} takes {known[self.protocol].parties} parties, not {len(self.party)}")
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
        common = self.model_dump_json(exclude={"party", "connect_timeout_s"})
        return hashlib.sha256(f"{len(self.party)} parties {common}".encode()).hexdigest()


def load_session(path: str | Path) -> Session:
    """Read a link file (TOML); raises SpuBenchError that names the key at fault."""
    try:
        session = Session.model_validate(tomllib.loads(Path(path).read_text()))
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "link file"
        raise SpuBenchError(f"{path}: {where}: {first['msg']}.", "correct the link file.", "bad_input") from None
    except (OSError, ValueError) as error:
        raise SpuBenchError(f"{path} cannot be read as TOML: {error}.", "correct the file.", "bad_input") from error
    session.options.check(session.runtime, session.protocol)
    return session
