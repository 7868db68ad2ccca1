"""Secure two-party inference on SecretFlow SPU, measured: parties, links, statistics, records.

Public besides what is listed in `__all__`: the submodules `record`, `protocols` and `runtimes`, and the command
`spu-bench` (`cli`). Importing this package imports none of its modules: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spu_bench.cost.predict import predict
    from spu_bench.errors import SpuBenchError
    from spu_bench.network import Network
    from spu_bench.options import Options
    from spu_bench.predicted_latency import Prediction
    from spu_bench.program import Program, load_program
    from spu_bench.protocols import PRESETS, PROTOCOLS
    from spu_bench.record import OperationStats, RunRecord, Traffic
    from spu_bench.runner import RunFailed, run

_HOMES = {
    "PRESETS": "protocols",
    "PROTOCOLS": "protocols",
    "Network": "network",
    "OperationStats": "record",
    "Options": "options",
    "Prediction": "predicted_latency",
    "Program": "program",
    "RunFailed": "runner",
    "RunRecord": "record",
    "SpuBenchError": "errors",
    "Traffic": "record",
    "load_program": "program",
    "predict": "cost.predict",
    "run": "runner",
}

__all__ = [
    "PRESETS",
    "PROTOCOLS",
    "Network",
    "OperationStats",
    "Options",
    "Prediction",
    "Program",
    "RunFailed",
    "RunRecord",
    "SpuBenchError",
    "Traffic",
    "load_program",
    "predict",
    "run",
]


def __getattr__(name: str) -> Any:
    # The probe and the process that delays packets import this package too, and must not wait for SPU to load.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
