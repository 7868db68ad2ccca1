"""Two parties in one process: what they compute from shares of a Program's arguments, and what one of them sends.

Correctness and counted messages only; the parties share this process, so no time of theirs means anything.
"""

import os
import re
import threading

import pytest

# Two parties' matrix threads spin against each other otherwise.
os.environ.setdefault("OMP_THREAD_LIMIT", "1")
libspu = pytest.importorskip("spu.libspu", reason="SPU is not installed in this environment")

def compiled(program):
    secret = [libspu.Visibility.VIS_SECRET] * len(program.arguments)
    source = libspu.CompilationSource(libspu.SourceIRType.XLA, program.module, secret)
    return libspu.compile(source, libspu.CompilerOptions())


def run(program):
    """Logits that two parties compute from shares of every argument."""
    import spu.api

    config = libspu.RuntimeConfig(protocol=libspu.ProtocolKind.SEMI2K, field=libspu.FieldType.FM64)
    names = [a.name for a in program.arguments]
    code = libspu.Executable(
        name="program", input_names=names, output_names=["logits"], code=compiled(program)
    )
    io = spu.api.Io(2, config)
    shares = [io.make_shares(a.value, libspu.Visibility.VIS_SECRET) for a in program.arguments]
    link = libspu.link.Desc()
    for rank in range(2):
        link.add_party(f"party{rank}", f"memory{rank}")
    results, errors = [None, None], []

    def party(rank):
        try:
            mine = libspu.RuntimeConfig(config)
            mine.enable_pphlo_profile = rank == 0
            runtime = spu.api.Runtime(libspu.link.create_mem(link, rank), mine)
            for name, share in zip(names, shares):
                runtime.set_var(name, share[rank])
            runtime.run(code)
            results[rank] = runtime.get_var("logits")
        except BaseException as error:  # noqa: BLE001 - a thread's failure has to reach the test
            errors.append(error)

    threads = [threading.Thread(target=party, args=(rank,), daemon=True) for rank in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(300)
    if errors:
        raise errors[0]
    assert None not in results, "a party did not finish"
    return io.reconstruct(results)


def traffic(program, capfd):
    """(bytes, messages) that the first party sends, from the runtime's own log."""
    capfd.readouterr()
    run(program)
    log = "".join(capfd.readouterr())
    found = re.findall(r"Link details: total send bytes (\d+), .*?send actions (\d+)", log)
    assert len(found) == 1, log[-2000:]
    return tuple(map(int, found[0]))


def operations(program):
    return set(re.findall(r"pphlo\.(\w+)", compiled(program).decode()))
