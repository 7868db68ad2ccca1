"""Requests from both kinds of body, and bodies that are none."""

from __future__ import annotations

import contextlib
import json
from dataclasses import replace
from typing import Any

import pytest
from asking import as_json, ask_for
from hypothesis import given, settings
from hypothesis import strategies as st

from spu_bench.dealer import Recording
from spu_bench.dealer.requests import METHODS, BadRequest, Method, Permutation, Request, parse, serialize
from spu_bench.errors import SpuBenchError

_SEEDS = (b"first" * 20, b"second" * 20)


def _example(method: Method) -> Request:
    more: dict[str, Any] = (
        {"bits": 5} if method in ("Trunc", "TruncPr") else {"gfmp": True} if method == "MulPriv" else {}
    )
    request = ask_for(method, _SEEDS, 1 << 40, 6, **more)
    if method == "Perm":
        request = replace(request, permutation=Permutation(request.operands[-1].end, 6, _SEEDS[1]))
    return request


@pytest.mark.parametrize("method", METHODS)
def test_both_kinds_of_body_give_the_same_request(method: Method) -> None:
    request = _example(method)
    assert parse(method, serialize(request), "protobuf") == request
    assert parse(method, as_json(request), "json") == request


def _numbers(name: str) -> dict[str, Any]:
    return {name: 99}


def test_every_field_changes_the_digest() -> None:
    dot = ask_for("Dot", _SEEDS, 7)
    a, b, c = dot.operands
    others = [
        replace(dot, operands=(replace(a, start=6), b, c)),
        replace(dot, operands=(replace(a, length=8), b, c)),
        replace(dot, operands=(replace(a, transpose=True), b, c)),
        replace(dot, operands=(replace(a, seeds=(_SEEDS[0], _SEEDS[0])), b, c)),
        replace(dot, operands=(replace(a, seeds=(_SEEDS[0] + _SEEDS[1],)), b, c)),
        *(replace(dot, **_numbers(name)) for name in ("field_size", "bits", "m", "n", "k")),
        replace(dot, gfmp=True),
        replace(dot, method="Mul"),
        replace(dot, permutation=Permutation(0, 1, b"")),
    ]
    assert len({request.digest() for request in [dot, *others]}) == len(others) + 1


@pytest.mark.parametrize(
    "change",
    [
        {"field_size": 5}, {"field_size": 0}, {"field_size": "8x"}, {"field_size": True}, {"prg_inputs": []},
        {"prg_inputs": None}, {"prg_inputs": [1, 2, 3]}, {"prg_inputs": {}}, {"bits": 63, "field_size": 8},
    ],
)  # fmt: skip
def test_json_with_wrong_fields_is_refused(change: dict[str, object]) -> None:
    body = json.loads(as_json(_example("Trunc"))) | change
    with pytest.raises(BadRequest):
        parse("Trunc", json.dumps(body).encode(), "json")


_UNEQUAL = ask_for("RandBit", _SEEDS).operands + ask_for("RandBit", _SEEDS, 9, 5).operands


@pytest.mark.parametrize(
    "request_",
    [
        replace(ask_for("Dot", _SEEDS), m=3),
        replace(ask_for("Dot", _SEEDS), k=0),
        replace(ask_for("Mul", _SEEDS), operands=ask_for("Mul", _SEEDS).operands[:2]),
        replace(ask_for("RandBit", _SEEDS), method="Eqz", operands=_UNEQUAL),
        replace(ask_for("Perm", _SEEDS), permutation=Permutation(0, 5, _SEEDS[0])),
    ],
)  # fmt: skip
def test_shapes_that_do_not_fit_are_refused(request_: Request) -> None:
    with pytest.raises(BadRequest):
        parse(request_.method, serialize(request_), "protobuf")


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b"\xff\xfe", b"[" * 200_000, b'{"prg_inputs":' + b"[" * 90_000])
@pytest.mark.parametrize("form", ["json", "protobuf"])
def test_garbage_is_a_bad_request(body: bytes, form: str) -> None:
    with pytest.raises(BadRequest):
        parse("Mul", body, form)  # type: ignore[arg-type]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from([*METHODS, "Nothing", ""]), st.binary(max_size=200), st.sampled_from(["json", "protobuf"]))
def test_any_bytes_are_a_request_or_a_bad_request(method: str, body: bytes, form: str) -> None:
    with contextlib.suppress(BadRequest):
        parse(method, body, form)  # type: ignore[arg-type]


_NAMES = st.sampled_from(
    ["prg_inputs", "field_size", "prg_count", "buffer_len", "encrypted_seeds", "perm", "size", "M", "transpose_inputs"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_NAMES, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(METHODS), st.dictionaries(_NAMES, _VALUES, max_size=6))
def test_any_json_is_a_request_or_a_bad_request(method: Method, data: dict[str, object]) -> None:
    with contextlib.suppress(BadRequest):
        parse(method, json.dumps(data).encode(), "json")


def test_a_recording_repeats_at_any_counter() -> None:
    asked, at = [], 5
    for method in METHODS:
        request = ask_for(method, _SEEDS, at)
        at = request.operands[-1].end
        if method == "Perm":
            request = replace(request, permutation=Permutation(at, 4, _SEEDS[1]))
            at += 3
        asked.append(request)
    recording = Recording.of([*asked, asked[0]])  # a retry counts once
    assert recording.span == at - 5 and recording.world_size == 2
    read = Recording.from_json(recording.to_json())
    assert read == recording
    assert list(read.at(5, _SEEDS)) == asked
    others = (b"x", b"y")
    assert [r.start for r in read.at(100, others)] == [r.start + 95 for r in asked]
    assert {o.seeds for r in read.at(100, others) for o in r.operands} == {others}
    assert next(r for r in read.at(100, others) if r.permutation).permutation == Permutation(
        asked[-1].permutation.start + 95 if asked[-1].permutation else 0, 4, b"y"
    )


def test_a_recording_with_masks_of_an_earlier_inference_is_refused() -> None:
    first, second = ask_for("Mul", _SEEDS, 50), ask_for("Mul", _SEEDS, 0)
    with pytest.raises(SpuBenchError, match="earlier"):
        Recording.of([first, second])


@pytest.mark.parametrize("text", ["", "{}", "[]", "[" * 100_000, '{"schema": 1, "requests": [[1]]}', '{"schema": 2}'])
def test_what_is_no_recording_is_refused(text: str) -> None:
    with pytest.raises(SpuBenchError, match="cannot be read"):
        Recording.from_json(text)
