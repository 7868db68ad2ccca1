"""`paper`: the functions of `plain` with tanh GeLU and the heads evaluated one after another.

This is the form whose latency under MPC is linear in the number of heads, as the paper's figures are.
"""

from __future__ import annotations

from dataclasses import replace

from .plain import KERNELS as _PLAIN

KERNELS = replace(_PLAIN, name="paper", gelu="tanh", batched_heads=False)
