"""The session loop on a made-up runtime: what it times, counts and agrees on, and how it words what fails."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from parties import free_port

from spu_bench import SpuBenchError, load_program
from spu_bench.party import CLIENT, OWNERS, SERVER, Holder
from spu_bench.party.backend import Arrays, Dealt, Statistics
from spu_bench.party.exchange import Exchange, pack, unpack
from spu_bench.party.party_report import PartyReport
from spu_bench.party.session_loop import SessionLoop
from spu_bench.party.spu_profile import OperationStats, Traffic
from spu_bench.party.task import Manifest, Task, load_task

RUNTIME = "Plain 1"


class CountingDealer:
    """A third party that prepares ten answers before each inference and is asked nothing else."""

    def __init__(self, backend: PlainBackend) -> None:
        self._backend, self._prepared = backend, 0

    def prepare(self) -> None:
        self._backend.calls.append("prepare")
        self._prepared += 10

    def dealt(self) -> Dealt:
        used = 10 * self._backend.calls.count("compute")
        return Dealt(0.5 * self._prepared, 100 * self._prepared, self._prepared, used, 0, 0)


class PlainBackend:
    """A runtime that computes on plaintext: the client gives its images to the server, which knows the product."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.calls: list[str] = []
        self.version = "1"
        self.failing: dict[str, Exception] = {}
        self._arrays: Arrays = {}
        self.dealer: CountingDealer | None = None

    @property
    def software(self) -> Mapping[str, str]:
        return {"plain": self.version}

    def compile(self) -> None:
        self._note("compile")

    def connect(self, exchange: Exchange, end: Callable[[SpuBenchError], None]) -> None:
        self._note("connect")

    def share(self, exchange: Exchange, holder: Holder, arrays: Arrays | None) -> None:
        self._note(f"share {holder}")
        if holder == "client" and self.task.rank == CLIENT:
            assert arrays is not None
            exchange.send(SERVER, pack({"images": [arrays["images"].tobytes()]}))
        elif holder == "client":
            (data,) = unpack(exchange.receive(CLIENT))["images"]
            self._arrays["images"] = np.frombuffer(data, np.float32).reshape(-1, 16)
        else:
            self._arrays.update(arrays or {})

    def compute(self) -> None:
        self._note("compute")

    def reveal(self, exchange: Exchange) -> Arrays:
        if self.task.rank == SERVER:
            exchange.send(CLIENT, pack({"sum": [self._arrays["images"].sum(axis=1).tobytes()]}))
            return {}
        return {"sum": np.frombuffer(unpack(exchange.receive(SERVER))["sum"][0], np.float32)}

    def statistics(self) -> Statistics:
        runs = self.calls.count("compute")
        return Statistics(Traffic(10 * runs, 20 * runs, runs, 2 * runs), [OperationStats("pphlo", "dot", runs, 0.5)])

    def _note(self, call: str) -> None:
        self.calls.append(call)
        if call in self.failing:
            raise self.failing[call]


Change = Callable[[PlainBackend], None]


class Session:
    """Both parties of a session, in threads of this process."""

    def __init__(self, program: Path, **changes: Any) -> None:
        ports = [free_port(), free_port()]
        manifest = load_program(program).manifest.model_dump(mode="json", by_alias=True)
        task = Task(
            rank=0,
            runtime=RUNTIME,
            protocol="plain",
            program=str(program),
            manifest=cast(Manifest, manifest),
            source=None,
            output=None,
            report="",
            log="",
            interface=None,
            device=None,
            link=[("127.0.0.1", port) for port in ports],
            exchange=[("127.0.0.1", port + 1) for port in ports],
            link_counter=None,
            digest="same",
            repeats=2,
            warmup=1,
            connect_timeout_s=5.0,
            options={"runtime": {}, "compiler": {}, "link": {}},
        )
        self.tasks = [replace(task, rank=rank, **changes) for rank in (SERVER, CLIENT)]
        self.backends = [PlainBackend(task) for task in self.tasks]
        self.reports = [PartyReport(), PartyReport()]
        self.outputs: list[Arrays | None] = [None, None]
        self.errors: list[Exception | None] = [None, None]

    def run(self) -> None:
        """Run both to their end, and note what each returns or raises."""
        threads = [threading.Thread(target=self._run, args=(rank,)) for rank in (SERVER, CLIENT)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)

    def _run(self, rank: int) -> None:
        def end(error: SpuBenchError) -> None:
            raise AssertionError(error)

        try:
            loop = SessionLoop(self.tasks[rank], self.backends[rank], self.reports[rank], end)
            self.outputs[rank] = loop.run()
        except Exception as error:
            self.errors[rank] = error


@pytest.fixture(autouse=True)
def _plain_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the loop does to a party's own process stays away from that of the tests."""
    monkeypatch.setattr("spu_bench.party.session_loop.delay_abort", lambda: None)
    monkeypatch.setattr("spu_bench.party.session_loop._LOSS_IS_KNOWN_S", 0.0)


def test_a_session(small: Path) -> None:
    """Warm-up is neither reported nor returned, every inference has its own traffic, the client alone has outputs."""
    session = Session(small)
    session.run()
    assert session.errors == [None, None]
    (images,) = load_program(small).arrays("client").values()
    assert session.outputs[SERVER] is None
    np.testing.assert_allclose(session.outputs[CLIENT]["sum"], np.tile(images.sum(axis=1), 2), rtol=1e-5)
    for report, backend in zip(session.reports, session.backends):
        assert [inference.link for inference in report.inferences] == [Traffic(10, 20, 1, 2)] * 2
        assert all(min(each.input_s, each.run_s, each.reveal_s) >= 0 for each in report.inferences)
        assert all(each.interface_sent_bytes is None for each in report.inferences)
        assert report.operations == [OperationStats("pphlo", "dot", 3, 0.5)], "of the last inference"
        assert backend.calls[:4] == ["compile", "connect", "share public", "share server"]
        assert backend.calls[4:] == ["share client", "compute"] * 3


def test_what_a_third_party_deals_comes_before_each_inference(small: Path) -> None:
    """Each inference has its own share of it, at the party that asks."""
    session = Session(small)
    backend = session.backends[SERVER]
    backend.dealer = CountingDealer(backend)
    session.run()
    assert session.errors == [None, None]
    assert backend.calls[4:] == ["prepare", "share client", "compute"] * 3
    assert [each.dealt for each in session.reports[SERVER].inferences] == [Dealt(5.0, 1000, 10, 10, 0, 0)] * 2
    assert [each.dealt for each in session.reports[CLIENT].inferences] == [None, None]


def test_a_party_reads_its_own_arrays_alone(small: Path, tmp_path: Path) -> None:
    """The other's file need not be there; several batches of the client's are several inferences."""
    np.savez(tmp_path / "images.npz", images=np.ones((3, 16), np.float32))
    session = Session(small, source=str(tmp_path / "images.npz"), warmup=0, interface="lo")
    session.run()
    assert session.errors == [None, None]
    assert [len(report.inferences) for report in session.reports] == [6, 6]
    assert session.outputs[CLIENT]["sum"].tolist() == [16.0] * 6
    assert all(inference.interface_sent_bytes > 0 for inference in session.reports[CLIENT].inferences)
    assert OWNERS == {"public": None, "server": SERVER, "client": CLIENT}


@pytest.mark.parametrize(
    ("call", "complaint", "reason"),
    [
        ("compile", f"{RUNTIME} cannot compile the Program: symbol a not found", "bad_input"),
        ("connect", f"{RUNTIME} could not make its link: symbol a not found", "environment"),
        ("share server", f"{RUNTIME} failed while it shared the weights: symbol a not found", "failed"),
        ("compute", f"{RUNTIME} failed while it ran the Program: symbol a not found", "failed"),
    ],
)
def test_a_runtimes_error_is_one_line(small: Path, call: str, complaint: str, reason: str) -> None:
    """It holds the reason: neither SPU's "what:" nor the place in its source, nor the stack trace."""
    session = Session(small)
    for backend in session.backends:
        backend.failing[call] = RuntimeError(
            "what: \n\t[external/spulib~/a/b.cc:25] symbol a not found\nStacktrace:\n#0 f"
        )
    session.run()
    for error in session.errors:
        assert isinstance(error, SpuBenchError) and error.problem == complaint and error.reason == reason


def test_an_interface_that_does_not_exist(small: Path) -> None:
    """It is found before anyone is called."""
    session = Session(small, interface="no-such0")
    session.run()
    for error, backend in zip(session.errors, session.backends):
        assert isinstance(error, SpuBenchError) and "There is no network interface 'no-such0'" in error.problem
        assert error.reason == "bad_input" and backend.calls == []


def test_versions_that_differ(small: Path) -> None:
    """Both say which software it is."""
    session = Session(small)
    session.backends[CLIENT].version = "2"
    session.run()
    for error in session.errors:
        assert isinstance(error, SpuBenchError) and "another version of plain" in error.problem


def test_a_task_comes_back_from_its_file(small: Path, tmp_path: Path) -> None:
    (task, _) = Session(small).tasks
    task.save(str(tmp_path / "task"))
    assert load_task(str(tmp_path / "task")) == task
