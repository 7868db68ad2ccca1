"""SM2: a published example, what OpenSSL encrypts, and ciphertexts that are none."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography.hazmat import asn1

from spu_bench.dealer import sm2
from spu_bench.dealer.sm2 import DecryptionError, KeyPair, encrypt, public_key

# GM/T 0003.5, the example of encryption: private key and ciphertext of "encryption standard"
_SECRET = bytes.fromhex("3945208f7b2144b13f36e38ac6d39f95889393692860b51a42fb81ef4df7c5b8")
_X = "04ebfc718e8d1798620432268e77feb6415e2ede0e073c0f4f640ecd2e149a73"
_Y = "e858f9d81e5430a57b36daab8f950a3c64e6ee6a63094d99283aff767e124df0"
_HASH = "59983c18f809e262923c53aec295d30383b54e39d609d160afcb1908d0bd8766"
_CIPHERTEXT = "21886ca989ca9c7d58087307ca93092d651efa"


def _ciphertext(x: str = _X, y: str = _Y, digest: str = _HASH, data: str = _CIPHERTEXT) -> bytes:
    return asn1.encode_der(
        sm2._Ciphertext(x=int(x, 16), y=int(y, 16), digest=bytes.fromhex(digest), ciphertext=bytes.fromhex(data))
    )


def test_the_published_example_decrypts() -> None:
    assert KeyPair(_SECRET, b"").decrypt(_ciphertext()) == b"encryption standard"


@pytest.mark.parametrize(
    "data",
    [
        _ciphertext(x="05" + _X[2:]),  # not on the curve
        _ciphertext(x="ff" * 32),  # beyond the prime
        _ciphertext(digest="00" * 32),
        _ciphertext(digest="00" * 31),
        _ciphertext(data="22" + _CIPHERTEXT[2:]),
        _ciphertext(data=""),
        _ciphertext() + b"\x00",
        _ciphertext()[:-1],
        b"",
        b"\x30\x80" + b"\x00" * 40,
        b"\x30" * 100_000,
    ],
)
def test_anything_else_is_one_error(data: bytes) -> None:
    with pytest.raises(DecryptionError, match="not an SM2 encryption for this key"):
        KeyPair(_SECRET, b"").decrypt(data)


def test_a_seed_for_another_key_is_an_error() -> None:
    mine, other = KeyPair.generate(), KeyPair.generate()
    assert mine.decrypt(encrypt(mine.public, bytes(16))) == bytes(16)
    with pytest.raises(DecryptionError):
        other.decrypt(encrypt(mine.public, bytes(16)))


def test_the_secret_is_not_shown() -> None:
    pair = KeyPair.generate()
    assert pair.secret.hex() not in repr(pair) and str(pair.secret) not in repr(pair)


@pytest.mark.parametrize("pem", ["", "x", KeyPair.generate().pem[:-40], KeyPair.generate().pem.replace("MFkw", "MFkx")])
def test_what_is_no_public_key_is_refused(pem: str) -> None:
    with pytest.raises(ValueError, match="public key"):
        public_key(pem)


def test_openssl_reads_the_public_key_and_its_ciphertexts_decrypt(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl")
    pair = KeyPair.generate()
    (tmp_path / "key.pem").write_text(pair.pem)
    (tmp_path / "seed").write_bytes(b"sixteen bytes ..")
    command = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "seed", "-out", "encrypted"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert pair.decrypt((tmp_path / "encrypted").read_bytes()) == b"sixteen bytes .."
