"""SM2: the public-key encryption that protects a party's seed on its way to the dealer.

SPU encrypts a seed of 16 bytes with the dealer's public key (GB/T 32918.4) and writes the result as the ASN.1 sequence
of x, y, SM3 hash and ciphertext. `gmalg` does the curve arithmetic and the hash; `cryptography` reads the ASN.1.

Time. `gmalg` is plain Python, so a decryption does not take constant time: it branches on the bits of the secret key.
What limits the damage: a key serves one session and is never stored, a ciphertext is decrypted once (the guard keeps
the seeds of a session, one decryption for each party and stream), every malformed ciphertext gets the same error, and
only a client with a certificate of the session can send one. A timing attack needs many decryptions under one key.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import textwrap
from dataclasses import dataclass, field

import gmalg
from cryptography.hazmat import asn1

_PRIME = 0xFFFFFFFE_FFFFFFFF_FFFFFFFF_FFFFFFFF_FFFFFFFF_00000000_FFFFFFFF_FFFFFFFF
_COORDINATE = 32  # bytes
_HASH = 32
MAX_CIPHERTEXT = 256
"""The longest ciphertext that is read, in bytes; that of a seed has at most 124."""

# SubjectPublicKeyInfo up to the point: id-ecPublicKey (1.2.840.10045.2.1), curve SM2 (1.2.156.10197.1.301), bit string
_SPKI = bytes.fromhex("3059301306072a8648ce3d020106082a811ccf5501822d034200")
_BEGIN, _END = "-----BEGIN PUBLIC KEY-----", "-----END PUBLIC KEY-----"


class DecryptionError(ValueError):
    """A ciphertext that is not one for this key. It does not say why: the reason would help an attacker."""

    def __init__(self) -> None:
        super().__init__("the ciphertext is not an SM2 encryption for this key")


@asn1.sequence
class _Ciphertext:
    x: int
    y: int
    digest: bytes
    ciphertext: bytes


@dataclass(frozen=True)
class KeyPair:
    """An SM2 key pair: the secret (32 bytes, never shown) and the public point (65 bytes, uncompressed)."""

    secret: bytes = field(repr=False)
    public: bytes

    @classmethod
    def generate(cls) -> KeyPair:
        """A fresh pair from the operating system's random numbers."""
        secret, public = gmalg.SM2().generate_keypair()
        return cls(bytes(secret), bytes(public))

    @property
    def pem(self) -> str:
        """The public key as PEM text (SubjectPublicKeyInfo), as SPU's `server_public_key` requires it."""
        text = base64.b64encode(_SPKI + self.public).decode()
        return "\n".join([_BEGIN, *textwrap.wrap(text, 64), _END, ""])

    def decrypt(self, data: bytes) -> bytes:
        """The plaintext of `data`, an ASN.1 SM2 ciphertext. Raises DecryptionError for anything else."""
        if len(data) > MAX_CIPHERTEXT:
            raise DecryptionError
        try:
            parts = asn1.decode_der(_Ciphertext, data)
            if not (0 <= parts.x < _PRIME and 0 <= parts.y < _PRIME and len(parts.digest) == _HASH):
                raise DecryptionError
            point = b"\x04" + parts.x.to_bytes(_COORDINATE) + parts.y.to_bytes(_COORDINATE)
            return bytes(gmalg.SM2(sk=self.secret).decrypt(point + parts.digest + parts.ciphertext))
        except Exception as error:  # gmalg and cryptography raise many kinds; the sender learns none of them
            raise DecryptionError from error


def public_key(pem: str) -> bytes:
    """The point (65 bytes) of a public key in PEM. Raises ValueError where it is not an SM2 key."""
    body = pem.strip().removeprefix(_BEGIN).removesuffix(_END)
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error as error:
        raise ValueError("the public key is not PEM") from error
    if not hmac.compare_digest(der[: len(_SPKI)], _SPKI) or len(der) != len(_SPKI) + 65:
        raise ValueError("the public key is not one for SM2")
    return der[len(_SPKI) :]


def encrypt(public: bytes, plaintext: bytes) -> bytes:
    """`plaintext` encrypted for the point `public`, as SPU's parties do it. For tests and the proxy's own checks."""
    raw = bytes(gmalg.SM2(pk=public).encrypt(plaintext))
    x, y = raw[1 : 1 + _COORDINATE], raw[1 + _COORDINATE : 1 + 2 * _COORDINATE]
    rest = raw[1 + 2 * _COORDINATE :]
    parts = _Ciphertext(x=int.from_bytes(x), y=int.from_bytes(y), digest=rest[:_HASH], ciphertext=rest[_HASH:])
    return asn1.encode_der(parts)
