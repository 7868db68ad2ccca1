"""Streams and rings against plain integers."""

from __future__ import annotations

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from hypothesis import given, settings
from hypothesis import strategies as st

from spu_bench.dealer.rings import Array, PrimeField, ring
from spu_bench.dealer.streams import Stream

_SIZES = (4, 8, 16)


def _bytes(numbers: list[int], size: int) -> bytes:
    return b"".join(number.to_bytes(size, "little") for number in numbers)


def _numbers(array: Array, size: int) -> list[int]:
    data = np.ascontiguousarray(array).tobytes()
    return [int.from_bytes(data[at : at + size], "little") for at in range(0, len(data), size)]


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(_SIZES), st.data())
def test_arithmetic_is_that_of_integers(size: int, data: st.DataObject) -> None:
    kind, modulus, bits = ring(size), 1 << (8 * size), 8 * size
    numbers = st.lists(st.integers(0, modulus - 1), min_size=6, max_size=6)
    a, b = data.draw(numbers), data.draw(numbers)
    shift = data.draw(st.integers(0, bits - 1))
    left, right = kind.read(_bytes(a, size)), kind.read(_bytes(b, size))
    signed = [x - modulus if x >> (bits - 1) else x for x in a]
    assert _numbers(kind.add(left, right), size) == [(x + y) % modulus for x, y in zip(a, b, strict=True)]
    assert _numbers(kind.subtract(left, right), size) == [(x - y) % modulus for x, y in zip(a, b, strict=True)]
    assert _numbers(kind.multiply(left, right), size) == [(x * y) % modulus for x, y in zip(a, b, strict=True)]
    assert _numbers(kind.shift_left(left, shift), size) == [(x << shift) % modulus for x in a]
    assert _numbers(kind.shift_right(left, shift), size) == [x >> shift for x in a]
    assert _numbers(kind.shift_signed(left, shift), size) == [(x >> shift) % modulus for x in signed]


@pytest.mark.parametrize("size", _SIZES)
@pytest.mark.parametrize(("m", "k", "n"), [(1, 1, 1), (3, 5, 2), (2, 700, 3)])
@pytest.mark.parametrize("turned", [False, True])
def test_matrix_products_are_exact(size: int, m: int, k: int, n: int, turned: bool) -> None:
    kind, modulus = ring(size), 1 << (8 * size)
    draws = np.random.default_rng(k)
    a, b = draws.bytes(m * k * size), draws.bytes(k * n * size)
    product = kind.matmul(kind.shaped(kind.read(a), m, k, False), kind.shaped(kind.read(b), k, n, turned))
    left = np.array(_numbers(kind.read(a), size), object).reshape(m, k)
    right = np.array(_numbers(kind.read(b), size), object)
    right = right.reshape(n, k).T if turned else right.reshape(k, n)
    assert _numbers(product, size) == [int(x) % modulus for x in (left @ right).ravel()]


@pytest.mark.parametrize("size", [8, 16])
def test_elements_of_the_prime_field_are_below_the_prime(size: int) -> None:
    field = PrimeField(size)
    top = (1 << 8 * size) - 1
    assert field.read(_bytes([0, 1, field.prime - 1, field.prime, top], size)) == [0, 1, field.prime - 1, 0, 0]
    assert field.write([-1, field.prime]) == _bytes([field.prime - 1, 0], size)


def test_a_stream_is_aes_of_its_counter() -> None:
    seed = bytes(range(16))
    encryptor = Cipher(algorithms.AES128(seed), modes.ECB()).encryptor()
    expected = b"".join(encryptor.update((7 + i).to_bytes(16, "little")) for i in range(3))
    stream = Stream(seed)
    assert bytes(stream.ring(7, 40)) == expected[:40]
    assert bytes(stream.ring(8, 32)) == expected[16:]
    assert stream.counted(7, 16) == expected[:16]  # counter mode: the same first block, others after it
    assert stream.counted(7, 48)[16:] != expected[16:]


def test_a_long_draw_is_that_of_its_parts() -> None:
    stream = Stream(bytes(16))
    length = 3 << 20
    assert bytes(stream.ring(5, length)) == b"".join(bytes(stream.ring(5 + (i << 16), 1 << 20)) for i in range(3))


@pytest.mark.parametrize("size", [1, 2, 17])
def test_a_permutation_has_each_number_once(size: int) -> None:
    assert sorted(Stream(bytes(16)).permutation(3, size)) == list(range(size))
