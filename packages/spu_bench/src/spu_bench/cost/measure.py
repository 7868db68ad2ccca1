"""Measuring what the steps of a Program cost: on the loopback device as it is, then through a relay.

Under a protocol in lockstep both parties send at the same time and wait for each other, message by message: its
messages are its turns, and no clock is needed. Under any other, a step's time is a straight line in the link's delay,
and in one over its rate: its turns are the slope between two delays, the bytes on its critical path the slope between
two rates. What the parties compute while messages fly, or send without waiting, is so counted as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median

import numpy as np
from spu import Io, libspu

from spu_bench.cost.delaying_relay import Message, flights
from spu_bench.cost.pair import Pair, Run, pair
from spu_bench.cost.steps import Compiled, Step
from spu_bench.cost.table import TOP_UP, StepCost, StepTable, sizes
from spu_bench.options import Options, runtime_config
from spu_bench.party.spu095 import VISIBILITY
from spu_bench.program import Program
from spu_bench.protocols import PROTOCOLS

_REPEATS = {True: 5, False: 2}  # of a lockstep protocol, of another: those compute for long
_LONG_ENOUGH_S = 0.2  # a run of less is mostly waiting for messages, on an idle machine too
_STOCK_MESSAGES = 1280  # what Ferret, SPU's default under CHEETAH, sends to make a stock of oblivious transfers
_NEAR, _FAR, _SLOW = (0.005, None), (0.065, None), (0.005, 10e6)  # one-way seconds, and bytes/s

Shares = dict[str, list[libspu.Share]]
Progress = Callable[[str, int, int], None]
"""Told what is being measured, how much of it is done, and how much there is."""


def random_shares(program: Program, protocol: str, options: Options) -> Shares:
    """Shares of random values in place of the Program's arguments, one per party: no secret is needed."""
    io, rng = Io(2, runtime_config(protocol, options)), np.random.default_rng(0)
    shares = {}
    for argument in program.manifest.arguments:
        array = rng.normal(scale=0.1, size=argument.shape).astype(argument.dtype)
        owner = {"server": 0, "client": 1, "public": -1}[argument.holder]
        shares[argument.name] = io.make_shares(array, VISIBILITY[argument.holder], owner)
    return shares


def storage_of(share: libspu.Share) -> str:
    """How SPU keeps a value, for instance semi2k.AShr<FM64>."""
    meta = libspu.ValueMeta()
    meta.ParseFromString(share.meta)
    return str(meta.storage_type)


@dataclass
class _Kind:
    """A kind of step in a Program: its first instance, the values that runs on, how often there are more, its runs."""

    step: Step
    operands: list[str]
    storage: tuple[str, ...] = ()
    instances: int = 0
    runs: list[Run] = field(default_factory=list)
    messages: tuple[list[Message], list[Message]] = ([], [])

    def run(self, joined: Pair) -> Run:
        return joined.run(self.step.module(), self.operands, self.step.results)

    def without_top_up(self) -> list[Run]:
        return [run for run, more in zip(self.runs, self.top_ups()) if not more]

    def top_ups(self) -> list[int]:
        """How many stocks each run made beyond those that every run of this kind makes."""
        counts = [sum(run.sent_messages) for run in self.runs]
        return [round((count - min(counts)) / _STOCK_MESSAGES) for count in counts]

    def usual(self) -> Run:
        """The run whose traffic is the median: a few messages more or less is chance."""
        runs = sorted(self.without_top_up(), key=lambda run: sum(run.sent_messages))
        return runs[len(runs) // 2]

    def seconds(self) -> float:
        return median(run.seconds for run in self.without_top_up())


def measure(compiled: Compiled, shares: Shares, table: StepTable, progress: Progress) -> None:
    """Measure the kinds of steps of `compiled` that are not yet in `table`, and put them there."""
    lockstep = PROTOCOLS[table.protocol].lock_step
    with pair(table.protocol, table.options, relayed=False) as joined:
        kinds = _first_pass(joined, compiled, shares, progress, every=not lockstep)
        whole: list[Run] = []
        for i in range(_REPEATS[lockstep]):
            whole.append(joined.run(compiled.code, list(compiled.arguments), ["outputs"]))
            for kind in kinds.values():
                kind.runs.append(kind.run(joined))
            progress("computation", i + 1, _REPEATS[lockstep])
    costs, top_up = _costs(kinds, median(run.wall_s for run in whole)), _top_up(kinds)
    new = {key: cost for key, cost in costs.items() if key not in table.steps}
    if waited := [run.wall_s / run.cpu_s for run in whole if run.cpu_s > _LONG_ENOUGH_S]:
        table.waited = max(table.waited, median(waited))
    with pair(table.protocol, table.options, relayed=True) as joined:
        if not lockstep:
            joined.shape(*_NEAR)  # so that a wait for the other party shows as a pause
        relayed = _first_pass(joined, compiled, shares, progress, every=False)
        for key, cost in new.items():
            each_way = zip(relayed[key].messages, cost.sent_messages)
            sent = [
                _at_once(messages, count) if lockstep else flights(messages, _NEAR[0]) for messages, count in each_way
            ]
            cost.message_bytes = sizes(max(sent, key=sum))
            cost.turns, cost.path_bytes = max(cost.sent_messages), max(cost.sent_bytes)
        if not lockstep:
            sending = {key: kind for key, kind in relayed.items() if key in new and any(new[key].sent_messages)}
            turns = _slopes(joined, sending, new, progress)
            if table.top_up is None and top_up is not None and turns is not None:
                table.top_up = top_up.model_copy(update={"turns": round(turns, 1)})
    table.steps.update(new)


def _at_once(messages: list[Message], count: int) -> list[int]:
    """Sizes of the `count` largest messages: the smaller are acknowledgements, which SPU does not count."""
    return sorted(message.size for message in messages)[max(0, len(messages) - count) :]


def _first_pass(
    joined: Pair, compiled: Compiled, shares: Shares, progress: Progress, *, every: bool
) -> dict[str, _Kind]:
    """Run each kind of step for the first time, which is no measurement, and with `every` all further instances too.

    A step whose kind has been run takes the first one's operands and results: they are as good.
    """
    value_of, storage = {}, {}
    for name, own in zip(compiled.arguments, shares.values()):
        joined.put(name, own)
        value_of[name], storage[name] = name, storage_of(own[0])
    kinds: dict[str, _Kind] = {}
    for i, step in enumerate(compiled.steps):
        key = step.key([storage[value] for value in step.operands])
        if key not in kinds:
            kind = kinds[key] = _Kind(step, [value_of[value] for value in step.operands])
            kind.storage = kind.run(joined).storage
            kind.messages = joined.take_messages()
        elif every:
            kinds[key].runs.append(kinds[key].run(joined))
        kinds[key].instances += 1
        for value, result, how in zip(step.results, kinds[key].step.results, kinds[key].storage):
            value_of[value], storage[value] = result, how
        progress("steps", i + 1, len(compiled.steps))
    return kinds


def _costs(kinds: dict[str, _Kind], whole_s: float) -> dict[str, StepCost]:
    """What the parties' own runs say: traffic and seconds of runs without a top-up, and how many top-ups there were.

    The seconds of single steps are scaled to add up to those of the whole Program, whose steps find other values in
    the processor's caches and are read from one text.
    """
    single_s = sum(kind.instances * mean(run.seconds for run in kind.runs) for kind in kinds.values())
    costs = {}
    for key, kind in kinds.items():
        least = kind.usual()
        costs[key] = StepCost(
            operation=kind.step.operation,
            seconds=kind.seconds() * whole_s / single_s,
            sent_bytes=least.sent_bytes,
            sent_messages=least.sent_messages,
            top_ups=mean(kind.top_ups()),
            storage=kind.storage,
        )
    return costs


def _slopes(joined: Pair, kinds: dict[str, _Kind], costs: dict[str, StepCost], progress: Progress) -> float | None:
    """Put the turns and the bytes of the critical path of `kinds` into `costs`; returns a top-up's turns, if seen.

    Both lie between what they are where both parties send at the same time, and where they never do.
    """
    seconds, top_up_s = [], []
    for delay_s, rate in (_NEAR, _FAR, _SLOW):
        joined.shape(delay_s, rate)
        for kind in kinds.values():
            kind.runs.clear()
        for _ in range(_REPEATS[False]):
            for i, kind in enumerate(kinds.values()):
                kind.runs.append(kind.run(joined))
                progress(f"{delay_s * 1e3:.0f} ms, {'slow' if rate else 'fast'}", i + 1, len(kinds))
        # the fastest, since all else is what disturbed it, and a slope sees a disturbance on one side alone
        seconds.append({key: min(run.seconds for run in kind.without_top_up()) for key, kind in kinds.items()})
        top_up = _top_up(kinds)
        top_up_s.append(top_up.seconds if top_up else None)
    wait_s = _FAR[0] - _NEAR[0]
    for key in kinds:
        near, far, slow = (of[key] for of in seconds)
        cost = costs[key]
        cost.turns = round(_between(1, (far - near) / wait_s, sum(cost.sent_messages)), 1)
        cost.path_bytes = round(_between(max(cost.sent_bytes), (slow - near) * _SLOW[1], sum(cost.sent_bytes)))
    near_s, far_s, _ = top_up_s
    return max(0.0, (far_s - near_s) / wait_s) if near_s is not None and far_s is not None else None


def _top_up(kinds: dict[str, _Kind]) -> StepCost | None:
    """What a top-up costs: what the runs that had one took and sent beyond the others. None where none had."""
    found = [(kind, run, more) for kind in kinds.values() for run, more in zip(kind.runs, kind.top_ups()) if more]
    if not found:
        return None

    def beyond(of: Callable[[Run], float]) -> float:
        each = [(of(run) - median(map(of, kind.without_top_up()))) / more for kind, run, more in found]
        return max(0.0, median(each))

    return StepCost(
        operation=TOP_UP,
        seconds=beyond(lambda run: run.seconds),
        path_bytes=round(beyond(lambda run: sum(run.sent_bytes))),
        sent_bytes=(round(beyond(lambda run: run.sent_bytes[0])), round(beyond(lambda run: run.sent_bytes[1]))),
        sent_messages=(
            round(beyond(lambda run: run.sent_messages[0])),
            round(beyond(lambda run: run.sent_messages[1])),
        ),
        storage=(),
    )


def _between(low: float, value: float, high: float) -> float:
    return min(max(value, low), high)
