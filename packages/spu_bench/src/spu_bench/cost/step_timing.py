"""`time_steps`: measure what the steps of a Program cost, on the loopback device and through a relay.

Under a protocol in lockstep both parties send at the same time and wait for each other in every message: a message is a
turn. Under another protocol, a step's time is linear in the network's delay, and in one over its rate. Turns are the
slope between two delays, the bytes on the critical path the slope between two rates. This includes the effect of what
the parties compute while messages are on the way, and of what they send without waiting.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from statistics import mean, median

import numpy as np
from spu import Io, libspu

from spu_bench.cost.delaying_relay import Message, flights
from spu_bench.cost.machine_costs import TOP_UP, StepCost, StepTable, sizes
from spu_bench.cost.party_pair import PairRun, PartyPair, party_pair
from spu_bench.cost.steps import Compiled, Step
from spu_bench.options import Options, runtime_config
from spu_bench.party import OWNERS
from spu_bench.party.spu095 import VISIBILITY
from spu_bench.program import Program
from spu_bench.protocols import PROTOCOLS

_REPEATS = {True: 5, False: 2}  # under a protocol in lockstep, and under another one, which computes for longer
_LONG_ENOUGH_S = 0.2  # a shorter run mostly waits for messages, also on an idle machine
_STOCK_MESSAGES = 1280  # what Ferret, SPU's default under CHEETAH, sends for a new stock of oblivious transfers
_NEAR, _FAR, _SLOW = (0.005, None), (0.065, None), (0.005, 10e6)  # one-way seconds, and bytes/s

Shares = dict[str, list[libspu.Share]]
Progress = Callable[[str, int, int], None]
"""Called with what is being measured, how much of it is done, and how much there is."""


def random_shares(program: Program, protocol: str, options: Options) -> Shares:
    """Shares of random values for the Program's arguments, one for each party: no secret is required."""
    io, rng = Io(2, runtime_config(protocol, options)), np.random.default_rng(0)
    shares = {}
    for argument in program.manifest.arguments:
        array = rng.normal(scale=0.1, size=argument.shape).astype(argument.dtype)
        owner = OWNERS[argument.holder]
        shares[argument.name] = io.make_shares(array, VISIBILITY[argument.holder], -1 if owner is None else owner)
    return shares


def storage_of(share: libspu.Share) -> str:
    """How SPU stores a value, for example semi2k.AShr<FM64>."""
    meta = libspu.ValueMeta()
    meta.ParseFromString(share.meta)
    return str(meta.storage_type)


@dataclass
class _Kind:
    """A kind of step in a Program: its first instance with its operands, the number of instances, and its runs."""

    step: Step
    operands: list[str]
    storage: tuple[str, ...] = ()
    instances: int = 0
    runs: list[PairRun] = field(default_factory=list)
    messages: tuple[list[Message], list[Message]] = ([], [])

    def run(self, pair: PartyPair) -> PairRun:
        return pair.run(self.step.module(), self.operands, self.step.results)

    def without_top_up(self) -> list[PairRun]:
        return [run for run, more in zip(self.runs, self.top_ups()) if not more]

    def top_ups(self) -> list[int]:
        """How many stocks each run made beyond those that every run of this kind makes."""
        counts = [sum(run.sent_messages) for run in self.runs]
        return [round((count - min(counts)) / _STOCK_MESSAGES) for count in counts]

    def usual(self) -> PairRun:
        """The run with the median traffic, which varies by a few messages."""
        runs = sorted(self.without_top_up(), key=lambda run: sum(run.sent_messages))
        return runs[len(runs) // 2]

    def seconds(self) -> float:
        return median(run.seconds for run in self.without_top_up())


def time_steps(compiled: Compiled, shares: Shares, table: StepTable, progress: Progress) -> None:
    """Measure the kinds of steps of `compiled` that are not in `table`, and put them there."""
    lockstep = PROTOCOLS[table.protocol].lock_step
    with party_pair(table.protocol, table.options, relayed=False) as pair:
        kinds = _first_pass(pair, compiled, shares, progress, every=not lockstep)
        whole: list[PairRun] = []
        for i in range(_REPEATS[lockstep]):
            whole.append(pair.run(compiled.code, list(compiled.arguments), ["outputs"]))
            for kind in kinds.values():
                kind.runs.append(kind.run(pair))
            progress("computation", i + 1, _REPEATS[lockstep])
    costs, top_up = _costs(kinds, median(run.wall_s for run in whole)), _top_up(kinds)
    new = {key: cost for key, cost in costs.items() if key not in table.steps}
    if waited := [run.wall_s / run.cpu_s for run in whole if run.cpu_s > _LONG_ENOUGH_S]:
        table.waited = max(table.waited, median(waited))
    with party_pair(table.protocol, table.options, relayed=True) as pair:
        if not lockstep:
            pair.shape(*_NEAR)  # so that a wait for the other party is visible as a pause
        relayed = _first_pass(pair, compiled, shares, progress, every=False)
        for key, cost in new.items():
            each_way = zip(relayed[key].messages, cost.sent_messages)
            sent = [
                _at_once(messages, count) if lockstep else flights(messages, _NEAR[0]) for messages, count in each_way
            ]
            cost.message_bytes = sizes(max(sent, key=sum))
            cost.turns, cost.path_bytes = max(cost.sent_messages), max(cost.sent_bytes)
        if not lockstep:
            sending = {key: kind for key, kind in relayed.items() if key in new and any(new[key].sent_messages)}
            turns = _slopes(pair, sending, new, progress)
            if table.top_up is None and top_up is not None and turns is not None:
                table.top_up = top_up.model_copy(update={"turns": round(turns, 1)})
    table.steps.update(new)


def _at_once(messages: list[Message], count: int) -> list[int]:
    """Sizes of the `count` largest messages. The smaller ones are acknowledgements, which SPU does not count."""
    return sorted(message.size for message in messages)[max(0, len(messages) - count) :]


def _first_pass(
    pair: PartyPair, compiled: Compiled, shares: Shares, progress: Progress, *, every: bool
) -> dict[str, _Kind]:
    """Run each kind of step once without measuring it, and with `every` measure all further instances.

    A further instance of a kind uses the operands and results of the first one, which cost the same.
    """
    value_of, storage = {}, {}
    for name, own in zip(compiled.arguments, shares.values()):
        pair.put(name, own)
        value_of[name], storage[name] = name, storage_of(own[0])
    kinds: dict[str, _Kind] = {}
    for i, step in enumerate(compiled.steps):
        key = step.key([storage[value] for value in step.operands])
        if key not in kinds:
            kind = kinds[key] = _Kind(step, [value_of[value] for value in step.operands])
            kind.storage = kind.run(pair).storage
            kind.messages = pair.take_messages()
        elif every:
            kinds[key].runs.append(kinds[key].run(pair))
        kinds[key].instances += 1
        for value, result, how in zip(step.results, kinds[key].step.results, kinds[key].storage):
            value_of[value], storage[value] = result, how
        progress("steps", i + 1, len(compiled.steps))
    return kinds


def _costs(kinds: dict[str, _Kind], whole_s: float) -> dict[str, StepCost]:
    """Costs from the parties' runs: traffic and seconds of runs without a top-up, and the number of top-ups.

    The seconds of single steps are scaled so that their sum is that of the whole Program, whose steps find other values
    in the processor's caches.
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


def _slopes(pair: PartyPair, kinds: dict[str, _Kind], costs: dict[str, StepCost], progress: Progress) -> float | None:
    """Put the turns and critical-path bytes of `kinds` into `costs`; returns the turns of a top-up, if there was one.

    Both are limited to what is possible: all messages at the same time, or none.
    """
    seconds, top_up_s = [], []
    for delay_s, rate in (_NEAR, _FAR, _SLOW):
        pair.shape(delay_s, rate)
        for kind in kinds.values():
            kind.runs.clear()
        for _ in range(_REPEATS[False]):
            for i, kind in enumerate(kinds.values()):
                kind.runs.append(kind.run(pair))
                progress(f"{delay_s * 1e3:.0f} ms, {'slow' if rate else 'fast'}", i + 1, len(kinds))
        # The fastest run: the others were disturbed, and a slope shows a disturbance at one of its two points.
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
    """What a top-up costs: the difference between runs with and without one. None where no run had one."""
    found = [(kind, run, more) for kind in kinds.values() for run, more in zip(kind.runs, kind.top_ups()) if more]
    if not found:
        return None

    def beyond(of: Callable[[PairRun], float]) -> float:
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
