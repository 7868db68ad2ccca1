"""The command line: `main`. Its commands are in `app`, which is loaded when the signals are handled already."""

from __future__ import annotations

import importlib
import os
import sys

from spu_bench.errors import DEBUG, SpuBenchError
from spu_bench.party.process import DIE_WITH_PARENT, die_with_parent
from spu_bench.party.reasons import reason_of
from spu_bench.stopping import Stopped, stop_on_signals


def main() -> None:
    """Run the command line; any failure becomes one line on stderr and a non-zero exit status.

    Input that cannot run gives the status 2, a signal 128 and its number, everything else 1.
    """
    if DIE_WITH_PARENT in sys.argv:
        die_with_parent()
    try:
        stop_on_signals()
        importlib.import_module("spu_bench.cli.app").app()
    except Stopped as stopped:
        print(f"error: {stopped}", file=sys.stderr)
        sys.exit(128 + stopped.number)
    except SpuBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2 if error.reason == "bad_input" else 1)
    except Exception as error:
        if os.environ.get(DEBUG):
            raise
        print(
            f"error: spu-bench failed: {type(error).__name__}: {reason_of(error)} "
            f"Fix: set {DEBUG}=1, repeat the command, and report what it prints.",
            file=sys.stderr,
        )
        sys.exit(1)
