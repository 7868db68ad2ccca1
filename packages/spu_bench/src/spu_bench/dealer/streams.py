"""The parties' pseudo-random streams, as SPU 0.9.5 draws them from a seed of 16 bytes and a counter.

Ring elements: AES-128-ECB over the little-endian 128-bit blocks counter, counter + 1, ... . Elements modulo a Mersenne
prime and permutations: AES-128-CTR whose first block is the little-endian counter, counted up big-endian. In both
cases a draw of n bytes moves the counter by n / 16, rounded up.

Whoever knows a seed knows all its masks: the dealer keeps seeds in memory only, and only while their session lives.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES128
from cryptography.hazmat.primitives.ciphers.modes import CTR, ECB

Words = npt.NDArray[np.uint64]

SEED = 16
"""Bytes of a seed."""
_PIECE = 1 << 16  # blocks that are encrypted at once: 1 MiB


class Stream:
    """One party's stream."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED:
            raise ValueError("a seed has 16 bytes")
        self._key = AES128(seed)
        # ECB keeps nothing from one block to the next, so one context serves every draw (one thread at a time)
        self._blocks = Cipher(self._key, ECB()).encryptor()

    def blocks(self, start: int, count: int) -> Words:
        """`count` blocks of 16 bytes from counter `start`: shape (2 * count,), the stream's bytes as words."""
        counters = np.zeros((count, 2), np.uint64)
        counters[:, 0] = np.arange(start, start + count, dtype=np.uint64)
        made = np.empty(2 * count + 2, np.uint64)  # update_into requires room for one block more, less one byte
        for first in range(0, count, _PIECE):
            last = min(first + _PIECE, count)
            self._blocks.update_into(counters[first:last].data.cast("B"), made[2 * first : 2 * last + 2].data.cast("B"))
        return made[: 2 * count]

    def ring(self, start: int, length: int) -> bytes | memoryview:
        """`length` bytes of ring elements from counter `start`."""
        count = -(-length // SEED)
        return self.blocks(start, count).data.cast("B")[:length]

    def counted(self, start: int, length: int) -> bytes:
        """`length` bytes in counter mode from counter `start`: prime-field elements and permutations."""
        encryptor = Cipher(self._key, CTR(start.to_bytes(16, "little"))).encryptor()
        return encryptor.update(bytes(length))

    def permutation(self, start: int, size: int) -> npt.NDArray[np.int64]:
        """A permutation of `size` numbers: Knuth's shuffle from the end, one block a step, each modulo its place."""
        picked = self.counted(start, SEED * (size - 1))
        made = list(range(size))
        for place in range(size - 1, 0, -1):
            block = int.from_bytes(picked[SEED * (place - 1) : SEED * place], "little")
            other = block % (place + 1)
            made[place], made[other] = made[other], made[place]
        return np.array(made, np.int64)
