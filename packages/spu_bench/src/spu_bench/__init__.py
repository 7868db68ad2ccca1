"""Secure two-party inference on SecretFlow SPU, measured: parties, links, statistics, records."""

from spu_bench.errors import SpuBenchError
from spu_bench.network import Network
from spu_bench.options import Options
from spu_bench.program import Program, load_program
from spu_bench.record import RunRecord
from spu_bench.runner import RunFailed, run

__all__ = ["Network", "Options", "Program", "RunFailed", "RunRecord", "SpuBenchError", "load_program", "run"]
