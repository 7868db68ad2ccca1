"""Start a party's runtime: `python -m spu_bench.party.start PARENT MODULE TASK`. Python 3.8, standard library only.

It ties this process to its parent before the runtime is imported, which takes a second.
"""

from __future__ import annotations

import runpy
import sys

from spu_bench.party.process import die_with_parent

if __name__ == "__main__":
    _, parent, module, task = sys.argv
    die_with_parent(int(parent))
    sys.argv = [module, task]
    runpy.run_module(module, run_name="__main__")
