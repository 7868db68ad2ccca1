"""One party on CrypTen 0.4.1: a process that holds only its own secrets, started by `launch`.

CrypTen's parties draw the shares of a secret from seeds that they have in common, so that sharing costs no message.
The triples come from its trusted first party, its default between two: rank 0 could open everything, as on SPU.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import crypten
import torch
from crypten import communicator
from crypten.config import cfg
from omegaconf import OmegaConf

from spu_bench.errors import SpuBenchError
from spu_bench.party.crypten04.model import evaluate, read
from spu_bench.party.exchange import Exchange
from spu_bench.party.session_loop import CLIENT, HOLDERS, Arrays, Guest, first_line, main

_SECTIONS = ("encoder", "functions")


class Party(Guest):
    """A party whose runtime is a process group of PyTorch over gloo."""

    software: ClassVar = {"crypten": crypten.__version__, "torch": torch.__version__}

    def __init__(self, task: dict[str, Any]) -> None:
        super().__init__(task)
        _configure(task["options"]["runtime"])
        self._model = read(self.manifest)
        self._held: dict[str, Any] = {}
        self._counted = [0, 0, 0, 0]

    def prepare(self, exchange: Exchange) -> None:
        address, port = self.task["link"][0]
        os.environ.update(
            DISTRIBUTED_BACKEND="gloo",
            RENDEZVOUS=f"tcp://{address}:{port}",
            WORLD_SIZE=str(len(self.task["link"])),
            RANK=str(self.rank),
            GLOO_SOCKET_IFNAME=self.task["device"],
        )
        torch.set_num_threads(int(os.environ.get("OMP_THREAD_LIMIT", "1")))
        cfg.communicator.verbose = True  # what the counters need
        with _failures():
            crypten.init()
        torch.set_grad_enabled(False)
        crypten.set_grad_enabled(False)

    def share(self, exchange: Exchange, holder: str, arrays: Arrays | None) -> None:
        """Shares of the arrays of `holder`; who has not got them gives their shapes alone."""
        for spec in self.specs(holder):
            tensor = torch.empty(spec["shape"]) if arrays is None else torch.from_numpy(arrays[spec["name"]])
            self._held[spec["name"]] = crypten.cryptensor(tensor, src=HOLDERS[holder])

    def compute(self) -> None:
        crypten.reset_communication_stats()
        with _failures():
            self._logits = evaluate(self._model, self._held)
        stats = communicator.get().get_communication_stats()
        # a computation opens masked values and nothing else, so that half of the bytes go each way
        each_way, rounds = stats["bytes"] // 2, stats["rounds"]
        self._counted = [a + b for a, b in zip(self._counted, (each_way, each_way, rounds, rounds))]

    def reveal(self, exchange: Exchange) -> Arrays:
        """Open the logits to the client alone."""
        with _failures():
            logits = self._logits.get_plain_text(dst=CLIENT)
        return {self.manifest["outputs"][0]["name"]: logits.numpy()} if self.rank == CLIENT else {}

    def traffic(self) -> list[int]:
        return self._counted


@contextmanager
def _failures() -> Iterator[None]:
    """What PyTorch raises, as one line."""
    try:
        yield
    except RuntimeError as error:
        time.sleep(2)  # where a peer is gone the exchange sees it too, and ends this process with that reason
        raise SpuBenchError(
            f"CrypTen 0.4.1 failed: {first_line(error)}", "see the log of either party.", "failed"
        ) from error


def _configure(settings: dict[str, Any]) -> None:
    """Set CrypTen's configuration; SpuBenchError that names a wrong key or value."""
    known = dict(_flat(OmegaConf.to_container(cfg.config)))
    known = {name: value for name, value in known.items() if name.split(".")[0] in _SECTIONS}
    for name, value in _flat(settings):
        if name not in known:
            raise SpuBenchError(
                f"CrypTen 0.4.1 has no setting {name!r} of numbers or functions.",
                f"use one of {', '.join(known)}.",
                "bad_input",
            )
        if known[name] is not None and type(value) is not type(known[name]):
            raise SpuBenchError(
                f"CrypTen's {name} cannot be {value!r}.",
                f"give a value like its default, {known[name]!r}.",
                "bad_input",
            )
        cfg[name] = value


def _flat(settings: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The leaves of nested tables by their dotted names."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], Party))
