"""One real SPU party in a process of its own, driven by lines on its standard input. Started by spu_parties.py.

It reads its job (a pickle that the test wrote) and then: `run NAME`, which runs a program and prints `done`, and
`end FILE`, which writes the shares of its outputs there.
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

from spu import libspu
from spu.api import Runtime


def share(chunks: list[bytes], meta: bytes) -> libspu.Share:
    made = libspu.Share()
    made.share_chunks, made.meta = chunks, meta
    return made


def main(job_file: str) -> None:
    job: dict[str, Any] = pickle.loads(Path(job_file).read_bytes())
    description = libspu.link.Desc()
    description.recv_timeout_ms = 60_000
    for rank, address in enumerate(job["addresses"]):
        description.add_party(str(rank), address)
    config = libspu.RuntimeConfig()
    config.ParseFromString(job["config"])
    runtime = Runtime(libspu.link.create_brpc(description, job["rank"]), config)
    for name, (chunks, meta) in job["shares"].items():
        runtime.set_var(name, share(chunks, meta))
    print("ready", flush=True)
    outputs: list[str] = []
    for line in sys.stdin:
        command, what = line.split()
        if command == "end":
            found = [runtime.get_var(name) for name in outputs]
            Path(what).write_bytes(pickle.dumps([(list(s.share_chunks), s.meta) for s in found]))
            return
        program = job["programs"][what]
        outputs = program["outputs"]
        runtime.run(libspu.Executable(what, program["inputs"], outputs, program["code"]))
        print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
