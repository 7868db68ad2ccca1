"""Ending on a signal: SIGINT, SIGTERM and SIGHUP unwind the program, so that it undoes what it has set up."""

from __future__ import annotations

import signal
from types import FrameType

from spu_bench.errors import Reason

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """This process was asked to end. No handler of errors takes it for one, so that every context is left."""

    reason: Reason = "failed"
    fix = "start it again."

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.problem = f"spu-bench was stopped by {signal.Signals(number).name}."

    def __str__(self) -> str:
        return f"{self.problem} Fix: {self.fix}"

    def parts(self) -> dict[str, str]:
        """As `SpuBenchError.parts`."""
        return {"reason": self.reason, "problem": self.problem, "fix": self.fix}


def stop_on_signals() -> None:
    """From now on these signals raise Stopped in the main thread. One that is ignored (nohup) stays ignored."""
    for number in _SIGNALS:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _: FrameType | None) -> None:
    for each in _SIGNALS:  # a second signal would interrupt the cleaning up
        signal.signal(each, signal.SIG_IGN)
    raise Stopped(number)
