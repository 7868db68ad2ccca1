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


class Parties:
    """Two parties with shares of all arguments but the last: they compute the output for any value of that."""

    def __init__(self, program, local_truncation=False, profile=False, cheetah=False):
        """Under SEMI2K from shares; with `cheetah` under CHEETAH, where all but the last stay with the first party."""
        import spu.api

        protocol = libspu.ProtocolKind.CHEETAH if cheetah else libspu.ProtocolKind.SEMI2K
        config = libspu.RuntimeConfig(protocol=protocol, field=libspu.FieldType.FM64)
        config.trunc_allow_msb_error = local_truncation
        if program.runtime_options is not None:
            config.fxp_fraction_bits = program.runtime_options.fxp_fraction_bits
        config.experimental_enable_colocated_optimization = cheetah
        self.owned = cheetah
        self.io, self.names = spu.api.Io(2, config), [a.name for a in program.arguments]
        self.code = libspu.Executable(
            name="program", input_names=self.names, output_names=["logits"], code=compiled(program)
        )
        link = libspu.link.Desc()
        for rank in range(2):
            link.add_party(f"party{rank}", f"memory{rank}")
        self.runtimes = [None, None]

        def start(rank):
            mine = libspu.RuntimeConfig(config)
            mine.enable_pphlo_profile = profile and rank == 0
            self.runtimes[rank] = spu.api.Runtime(libspu.link.create_mem(link, rank), mine)

        self._both(start)
        for argument in program.arguments[:-1]:
            self._share(argument.name, argument.value, 0)

    def run(self, last):
        """The output for `last`, freshly shared."""
        self._share(self.names[-1], last, 1)
        results = [None, None]

        def party(rank):
            self.runtimes[rank].run(self.code)
            results[rank] = self.runtimes[rank].get_var("logits")

        self._both(party)
        return self.io.reconstruct(results)

    def _share(self, name, value, owner):
        shares = self.io.make_shares(value, libspu.Visibility.VIS_SECRET, owner if self.owned else -1)
        for runtime, share in zip(self.runtimes, shares):
            runtime.set_var(name, share)

    @staticmethod
    def _both(job):
        errors = []

        def guarded(rank):
            try:
                job(rank)
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=guarded, args=(rank,), daemon=True) for rank in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(300)
        if errors:
            raise errors[0]
        assert not any(thread.is_alive() for thread in threads), "a party did not finish"


def run(program, local_truncation=False):
    """The output that two parties compute from shares of every argument."""
    return Parties(program, local_truncation, profile=True).run(program.arguments[-1].value)


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
