"""What a party asks of the dealer: a typed request, read from JSON (HTTP/1.1) or binary protobuf (HTTP/2).

A request names ranges of the parties' pseudo-random streams (operands: counter, bytes, encrypted seeds) and what to
compute of them. It has no data in it. Field names and numbers are those of SPU 0.9.5's service
`spu.mpc.semi2k.beaver.ttp_server.BeaverService`, whose descriptor is in `libspu.so`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Literal, cast, get_args

from google.protobuf import descriptor_pb2, descriptor_pool, message, message_factory

Method = Literal["Mul", "MulPriv", "Square", "Dot", "And", "Trunc", "TruncPr", "RandBit", "Eqz", "Perm"]
METHODS: tuple[Method, ...] = get_args(Method)
OPERANDS: dict[Method, int] = {
    "Mul": 3, "MulPriv": 2, "Square": 2, "Dot": 3, "And": 3, "Trunc": 2, "TruncPr": 3, "RandBit": 1, "Eqz": 2, "Perm": 2
}  # fmt: skip
"""How many operands a method has; the last (two for TruncPr) mask its answer."""
SERVICE = "/spu.mpc.semi2k.beaver.ttp_server.BeaverService/Adjust"
BLOCK = 16
"""Bytes of a stream that one step of its counter gives."""
_LARGEST = 1 << 62


class BadRequest(ValueError):
    """Bytes that are not a request of SPU's."""


@dataclass(frozen=True)
class Operand:
    """One random array: the same range of every party's stream. `seeds` are the parties' encrypted seeds, by rank."""

    start: int
    length: int
    seeds: tuple[bytes, ...] = ()
    transpose: bool = False

    @property
    def end(self) -> int:
        """The counter after the range: a stream gives 16 bytes for each step."""
        return self.start + -(-self.length // BLOCK)


@dataclass(frozen=True)
class Permutation:
    """A random permutation of `size` numbers, drawn from the stream of one party."""

    start: int
    size: int
    seed: bytes = b""

    @property
    def end(self) -> int:
        """The counter after the range: one step for each number but one."""
        return self.start + self.size - 1


@dataclass(frozen=True)
class Request:
    """One request. `field_size` is the bytes of a ring element; `m`, `n`, `k` are the shape of a matrix product."""

    method: Method
    operands: tuple[Operand, ...]
    field_size: int = 0
    gfmp: bool = False
    bits: int = 0
    m: int = 0
    n: int = 0
    k: int = 0
    permutation: Permutation | None = None

    def shifted(self, by: int, seeds: tuple[bytes, ...] | None = None, owner: int = 0) -> Request:
        """The same request `by` counter steps later, with `seeds` in place of its own; `owner` permutes."""
        moved = tuple(replace(o, start=o.start + by, seeds=o.seeds if seeds is None else seeds) for o in self.operands)
        permutation = self.permutation
        if permutation is not None:
            seed = permutation.seed if seeds is None else seeds[owner]
            permutation = replace(permutation, start=permutation.start + by, seed=seed)
        return replace(self, operands=moved, permutation=permutation)

    @property
    def start(self) -> int:
        """The smallest counter that the request names."""
        return min(o.start for o in self.operands)

    @property
    def answer_bytes(self) -> int:
        """Bytes of the answer, without its frame."""
        return self.operands[-1].length * (2 if self.method == "TruncPr" else 1)

    def digest(self) -> bytes:
        """SHA-256 of everything in the request: equal digests are equal requests."""
        made = hashlib.sha256()
        p = self.permutation
        numbers = [self.field_size, self.gfmp, self.bits, self.m, self.n, self.k, p and (p.start, p.size, p.seed)]
        made.update(repr((self.method, numbers)).encode())
        for operand in self.operands:
            made.update(repr((operand.start, operand.length, operand.transpose, len(operand.seeds))).encode())
            for seed in operand.seeds:
                made.update(len(seed).to_bytes(4) + seed)
        return made.digest()


def parse(method: str, body: bytes, form: Literal["json", "protobuf"]) -> Request:
    """Read a request. Raises BadRequest for anything that is not one."""
    if method not in METHODS:
        raise BadRequest(f"there is no method {method!r}")
    try:
        read = _from_json(method, body) if form == "json" else _from_protobuf(method, body)
    except BadRequest:
        raise
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, message.DecodeError) as error:
        raise BadRequest(f"the body is not a request of {method}") from error
    _check(read)
    return read


def serialize(request: Request) -> bytes:
    """The request as binary protobuf."""
    made: Any = _MESSAGES[request.method]()
    for operand in request.operands:
        made.prg_inputs.add(prg_count=operand.start, buffer_len=operand.length, encrypted_seeds=list(operand.seeds))
    if request.method != "And":
        made.field_size = request.field_size
    if request.gfmp:
        made.element_type = 2
    if request.method in ("Trunc", "TruncPr"):
        made.bits = request.bits
    if request.method == "Dot":
        made.transpose_inputs.extend(o.transpose for o in request.operands)
        made.M, made.N, made.K = request.m, request.n, request.k
    if (p := request.permutation) is not None:
        made.perm.prg_count, made.perm.size, made.perm.encrypted_seeds = p.start, p.size, p.seed
    return cast(bytes, made.SerializeToString())


def _from_protobuf(method: Method, body: bytes) -> Request:
    m: Any = _MESSAGES[method].FromString(body)
    dot, shifts = method == "Dot", method in ("Trunc", "TruncPr")
    turned = list(m.transpose_inputs) if dot else [False] * len(m.prg_inputs)
    return Request(
        method,
        tuple(
            Operand(i.prg_count, i.buffer_len, tuple(i.encrypted_seeds), t)
            for i, t in zip(m.prg_inputs, turned, strict=True)
        ),
        field_size=16 if method == "And" else m.field_size,
        gfmp=method in ("Mul", "MulPriv") and m.element_type == 2,
        bits=m.bits if shifts else 0,
        m=m.M if dot else 0,
        n=m.N if dot else 0,
        k=m.K if dot else 0,
        permutation=Permutation(m.perm.prg_count, m.perm.size, m.perm.encrypted_seeds) if method == "Perm" else None,
    )


def _from_json(method: Method, body: bytes) -> Request:
    data = json.loads(body)
    inputs = data.get("prg_inputs", [])
    turned = data.get("transpose_inputs", []) if method == "Dot" else [False] * len(inputs)
    permutation = None
    if method == "Perm":
        found = data.get("perm", {})
        permutation = Permutation(_number(found, "prg_count"), _number(found, "size"), _bytes(found["encrypted_seeds"]))
    return Request(
        method,
        tuple(
            Operand(_number(i, "prg_count"), _number(i, "buffer_len"), tuple(map(_bytes, i["encrypted_seeds"])), t)
            for i, t in zip(inputs, turned, strict=True)
        ),
        field_size=16 if method == "And" else _number(data, "field_size"),
        gfmp=method in ("Mul", "MulPriv") and data.get("element_type") in ("GFMP", 2),
        bits=_number(data, "bits"),
        m=_number(data, "M"),
        n=_number(data, "N"),
        k=_number(data, "K"),
        permutation=permutation,
    )


def _number(data: dict[str, object], name: str) -> int:
    value = data.get(name, 0)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)  # protobuf's JSON writes 64-bit numbers as text
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    raise BadRequest(f"{name} is not a number")


def _bytes(value: object) -> bytes:
    try:
        return base64.b64decode(cast(str, value), validate=True)
    except binascii.Error as error:
        raise BadRequest("a seed is not base64") from error


def _check(request: Request) -> None:
    """Shapes that fit together; what they may be is for the guard."""
    if len(request.operands) != OPERANDS[request.method]:
        raise BadRequest(f"{request.method} requires {OPERANDS[request.method]} operands")
    if request.field_size not in (4, 8, 16) or (request.gfmp and request.field_size == 4):
        raise BadRequest("the ring is none of FM32, FM64 and FM128")
    size, lengths = request.field_size, [operand.length for operand in request.operands]
    for operand in request.operands:
        if not (0 <= operand.start < _LARGEST and 0 < operand.length < _LARGEST and operand.transpose in (True, False)):
            raise BadRequest("an operand is out of bounds")
    if request.method == "Dot":
        m, n, k = request.m, request.n, request.k
        if min(m, n, k) < 1 or [x // size for x in lengths] != [m * k, k * n, m * n] or request.operands[2].transpose:
            raise BadRequest("the shapes of the matrix product do not fit")
    elif len(set(lengths)) != 1:
        raise BadRequest("the operands differ in length")
    if any(length % size for length in lengths):
        raise BadRequest("an operand is no whole number of ring elements")
    if not 0 <= request.bits < 8 * size - 1:
        raise BadRequest("too many bits to truncate")
    if (p := request.permutation) is not None and (p.size * size != lengths[0] or not 0 <= p.start < _LARGEST):
        raise BadRequest("the permutation does not fit the operands")


_INPUTS, _SIZE = "prg_inputs 1 *Range", "field_size 2 uint32"
_FIELDS: dict[str, list[str]] = {
    "Range": ["prg_count 1 uint64", "buffer_len 2 uint64", "encrypted_seeds 3 *bytes", "transpose 4 bool"],
    "Permutation": ["prg_count 1 uint64", "size 2 int64", "encrypted_seeds 3 bytes"],
    "Mul": [_INPUTS, _SIZE, "element_type 3 uint32"],
    "MulPriv": [_INPUTS, _SIZE, "element_type 3 uint32"],
    "Square": [_INPUTS, _SIZE],
    "Dot": [_INPUTS, "transpose_inputs 2 *bool", "field_size 3 uint32", "M 4 uint64", "N 5 uint64", "K 6 uint64"],
    "And": [_INPUTS],
    "Trunc": [_INPUTS, _SIZE, "bits 3 uint32"],
    "TruncPr": [_INPUTS, _SIZE, "bits 3 uint32"],
    "RandBit": [_INPUTS, _SIZE],
    "Eqz": [_INPUTS, _SIZE],
    "Perm": [_INPUTS, _SIZE, "perm 3 Permutation"],
}
"""The messages on the wire: name, number and type of each field; a star marks a repeated one."""


def _messages() -> dict[Method, type[message.Message]]:
    kinds = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(name="spu_bench/dealer.proto", package="dealer", syntax="proto3")
    for name, fields in _FIELDS.items():
        made = file.message_type.add(name=name)
        for name, number, of in map(str.split, fields):
            field = made.field.add(name=name, number=int(number))
            field.label = kinds.LABEL_REPEATED if of.startswith("*") else kinds.LABEL_OPTIONAL
            of = of.removeprefix("*")
            if of in _FIELDS:
                field.type, field.type_name = kinds.TYPE_MESSAGE, f".dealer.{of}"
            else:
                field.type = kinds.Type.Value(f"TYPE_{of.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {m: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"dealer.{m}")) for m in METHODS}


_MESSAGES = _messages()
