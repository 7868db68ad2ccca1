"""The backend of CrypTen 0.4.1, in an environment of its own.

CrypTen's parties draw the shares of a secret from seeds that they have in common, so that sharing sends no message.
The triples come from its trusted first party, its default for two parties: rank 0 could open everything, as on SPU.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import crypten
import torch
from crypten import communicator
from crypten.config import cfg
from omegaconf import OmegaConf

from spu_bench.errors import SpuBenchError
from spu_bench.party import CLIENT, OWNERS, Holder, session_loop
from spu_bench.party.backend import Arrays, Statistics
from spu_bench.party.crypten04.crypten_vit import evaluate, read
from spu_bench.party.exchange import Exchange
from spu_bench.party.spu_profile import Traffic
from spu_bench.party.task import Task

_SECTIONS = ("encoder", "functions")


class CryptenBackend:
    """A party whose runtime is a process group of PyTorch over gloo."""

    dealer = None

    def __init__(self, task: Task) -> None:
        self.task = task
        _configure(task.options["runtime"])
        self._model = read(task.manifest)
        self._shared: dict[str, Any] = {}
        self._counted = Traffic()

    @property
    def software(self) -> Mapping[str, str]:
        return {"crypten": crypten.__version__, "torch": torch.__version__}

    def compile(self) -> None:
        """CrypTen compiles nothing."""

    def connect(self, exchange: Exchange, end: Callable[[SpuBenchError], None]) -> None:
        address, port = self.task.link[0]
        if self.task.device is None:
            raise SpuBenchError(
                f"No network interface of this host has the address {self.task.link[self.task.rank][0]}.",
                "give this party's own address in the link file.",
                "environment",
            )
        os.environ.update(
            DISTRIBUTED_BACKEND="gloo",
            RENDEZVOUS=f"tcp://{address}:{port}",
            WORLD_SIZE=str(len(self.task.link)),
            RANK=str(self.task.rank),
            GLOO_SOCKET_IFNAME=self.task.device,
        )
        torch.set_num_threads(int(os.environ.get("OMP_THREAD_LIMIT", "1")))
        cfg.communicator.verbose = True  # what the counters need
        crypten.init()
        torch.set_grad_enabled(False)
        crypten.set_grad_enabled(False)

    def share(self, exchange: Exchange, holder: Holder, arrays: Arrays | None) -> None:
        """Shares of the arrays of `holder`; a party that does not hold them gives their shapes alone."""
        for spec in self.task.arguments(holder):
            tensor = torch.empty(spec["shape"]) if arrays is None else torch.from_numpy(arrays[spec["name"]])
            self._shared[spec["name"]] = crypten.cryptensor(tensor, src=OWNERS[holder])

    def compute(self) -> None:
        crypten.reset_communication_stats()
        self._logits = evaluate(self._model, self._shared)
        stats = communicator.get().get_communication_stats()
        # a computation only opens masked values, so that half of the bytes go each way
        each_way, rounds = stats["bytes"] // 2, stats["rounds"]
        self._counted += Traffic(each_way, each_way, rounds, rounds)

    def reveal(self, exchange: Exchange) -> Arrays:
        """Open the logits to the client alone."""
        logits = self._logits.get_plain_text(dst=CLIENT)
        return {self.task.manifest["outputs"][0]["name"]: logits.numpy()} if self.task.rank == CLIENT else {}

    def statistics(self) -> Statistics:
        return Statistics(self._counted)


def _configure(settings: Mapping[str, Any]) -> None:
    """Set CrypTen's configuration; raises SpuBenchError that names a wrong key or value."""
    known = dict(_leaves(OmegaConf.to_container(cfg.config)))
    known = {name: value for name, value in known.items() if name.split(".")[0] in _SECTIONS}
    for name, value in _leaves(settings):
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


def _leaves(settings: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values in nested tables, each with its dotted name."""
    for name, value in settings.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


if __name__ == "__main__":
    sys.exit(session_loop.main(CryptenBackend))
