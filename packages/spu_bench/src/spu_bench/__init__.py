"""Secure two-party inference on SecretFlow SPU, measured: parties, links, statistics, records.

Public modules, beside the names below: `spu_bench.record` (what a record holds),
`spu_bench.comparison` (outputs beside plaintext), `spu_bench.provenance` (machine and
code), `spu_bench.measurement_version`, `spu_bench.samples`, `spu_bench.watch`, `spu_bench.protocols` (and presets),
`spu_bench.runtimes`, `spu_bench.options`, `spu_bench.network`, `spu_bench.executors`, `spu_bench.cost`.
Importing this package imports none of its modules: each name is loaded when it is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from spu_bench.cost.predict import predict
    from spu_bench.errors import SpuBenchError
    from spu_bench.from_function import ExportNote, program_from_function
    from spu_bench.measured_run import RunFailed, recount, run
    from spu_bench.network import Network
    from spu_bench.new_program import NewProgram
    from spu_bench.options import Options
    from spu_bench.predicted_latency import Prediction
    from spu_bench.program import Program, load_program
    from spu_bench.protocols import PRESETS, PROTOCOLS
    from spu_bench.record import OperationStats, RunRecord, Traffic

_HOMES = {
    "ExportNote": "from_function",
    "NewProgram": "new_program",
    "PRESETS": "protocols",
    "PROTOCOLS": "protocols",
    "Network": "network",
    "OperationStats": "record",
    "Options": "options",
    "Prediction": "predicted_latency",
    "Program": "program",
    "RunFailed": "measured_run",
    "RunRecord": "record",
    "SpuBenchError": "errors",
    "Traffic": "record",
    "load_program": "program",
    "predict": "cost.predict",
    "program_from_function": "from_function",
    "recount": "measured_run",
    "run": "measured_run",
}

__all__ = [
    "PRESETS",
    "PROTOCOLS",
    "ExportNote",
    "Network",
    "NewProgram",
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
    "program_from_function",
    "recount",
    "run",
]


def __getattr__(name: str) -> Any:
    # The probe and the process that delays packets import this package too, and must not wait for SPU to load.
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
