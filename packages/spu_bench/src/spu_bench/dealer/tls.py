"""Mutual TLS of the dealer: its own certificate, and no client without one of the session's CA."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from spu_bench.errors import SpuBenchError


@dataclass(frozen=True)
class TlsFiles:
    """PEM files: own certificate and private key, and the CA of the session, which signs everyone's certificate."""

    certificate: Path
    private_key: Path
    ca: Path

    def server(self) -> ssl.SSLContext:
        """A context that requires a client certificate of the CA."""
        return self._context(ssl.PROTOCOL_TLS_SERVER)

    def client(self) -> ssl.SSLContext:
        """A context that requires the server's certificate to be of the CA and to have the server's name."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def _context(self, protocol: int) -> ssl.SSLContext:
        made = ssl.SSLContext(protocol)
        made.minimum_version = ssl.TLSVersion.TLSv1_2
        made.verify_mode = ssl.CERT_REQUIRED
        made.set_alpn_protocols(["h2", "http/1.1"] if protocol == ssl.PROTOCOL_TLS_SERVER else ["http/1.1"])
        try:
            made.load_cert_chain(self.certificate, self.private_key)
            made.load_verify_locations(self.ca)
        except (OSError, ssl.SSLError) as error:
            raise SpuBenchError(
                f"The TLS files of the dealer cannot be used: {error}.",
                f"see {self.certificate}, {self.private_key} and {self.ca}: PEM files that belong together.",
                "bad_input",
            ) from error
        return made


def names(connection: ssl.SSLSocket) -> set[str]:
    """The names in the peer's verified certificate: DNS names, addresses and the common name."""
    certificate = connection.getpeercert() or {}
    made = {value for _, value in cast(tuple[tuple[str, str], ...], certificate.get("subjectAltName", ()))}
    subject = cast(tuple[tuple[tuple[str, str], ...], ...], certificate.get("subject", ()))
    for part in subject:
        made |= {value for name, value in part if name == "commonName"}
    return made
