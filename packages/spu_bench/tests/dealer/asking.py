"""What an adjusting party sends, for the dealer's tests: seeds, requests, and a client without SPU."""

from __future__ import annotations

import base64
import http.client
import json
import os
from collections.abc import Sequence
from typing import Any

from spu_bench.dealer.requests import OPERANDS, SERVICE, Method, Operand, Request, serialize
from spu_bench.dealer.sm2 import encrypt, public_key


class Seeds:
    """Fresh seeds of all parties, in the clear and encrypted for a dealer's key."""

    def __init__(self, pem: str, world_size: int = 2) -> None:
        self.plain = [os.urandom(16) for _ in range(world_size)]
        self.encrypted = tuple(encrypt(public_key(pem), seed) for seed in self.plain)


def ask_for(method: Method, seeds: Sequence[bytes], start: int = 0, elements: int = 4, **more: Any) -> Request:
    """A request of a party that follows the protocol: its operands lie one after the other from `start`."""
    size = 16 if method == "And" else more.pop("field_size", 8)
    if method == "Dot":
        more = {"m": 2, "n": 3, "k": elements, **more}
        counts = [2 * elements, 3 * elements, 6]
    else:
        counts = [elements] * OPERANDS[method]
    operands = []
    for count in counts:
        operands.append(Operand(start, count * size, tuple(seeds)))
        start = operands[-1].end
    return Request(method, tuple(operands), field_size=size, **more)


def as_json(request: Request) -> bytes:
    """The request as SPU writes JSON: 64-bit numbers as text, bytes in base64, what is zero left out."""
    data: dict[str, Any] = {
        "prg_inputs": [
            {"buffer_len": str(o.length), "encrypted_seeds": [base64.b64encode(s).decode() for s in o.seeds]}
            | ({"prg_count": str(o.start)} if o.start else {})
            for o in request.operands
        ]
    }
    if request.method != "And":
        data["field_size"] = request.field_size
    if request.gfmp:
        data["element_type"] = "GFMP"
    if request.bits:
        data["bits"] = request.bits
    if request.method == "Dot":
        data["transpose_inputs"] = [o.transpose for o in request.operands]
        data |= {"M": str(request.m), "N": str(request.n), "K": str(request.k)}
    if (p := request.permutation) is not None:
        data["perm"] = {
            "prg_count": str(p.start),
            "size": str(p.size),
            "encrypted_seeds": base64.b64encode(p.seed).decode(),
        }
    return json.dumps(data).encode()


class Client:
    """Asks a dealer (or proxy) over HTTP/1.1."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)

    def ask(self, request: Request) -> bytes:
        """The answer's data. Raises Refused with the text of an error frame."""
        return self.post(request.method, serialize(request))

    def post(self, method: str, body: bytes, content_type: str = "application/proto") -> bytes:
        self._connection.request("POST", SERVICE + method, body, {"Content-Type": content_type})
        data = self._connection.getresponse().read()
        length = int.from_bytes(data[1:9], "little")
        if data[0] != 0:
            raise Refused(data[9 : 9 + length].decode(), data[0])
        return data[9 : 9 + length]

    def close(self) -> None:
        self._connection.close()


class Refused(Exception):
    """An error frame: its text and its code."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code
