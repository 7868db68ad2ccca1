"""The effect of each assumption about the paper's setting, in seconds: one changed, all others as they are.

The paper says "SPU 0.3.1b0", "SEMI-2K" and "the WAN of Cheetah"; its code was never released. `as_found` is the setting
that gives its seconds. Each other cell changes one thing: the form of GeLU, heads one after another, the version of SPU
and with it the truncation, the round trip, the rate, the bucket, the packet size, and how the old link sends a message
(in chunks of 32 KiB, each of them acknowledged, with ten messages in flight).

Expected: one inference a cell, 20 minutes. `gelu`, `heads`, `version` and `chunk` change the seconds by half or more,
the others by less than a tenth.
    pytest harness/experiments/paper_assumptions.py --executor netns --scale paper --results results
"""

from __future__ import annotations

from typing import Any

from mpcvit_harness.cells import Cell
from mpcvit_harness.paper_models import CIFAR10, TOY, cells, labelled, smoke
from spu_bench import Network, Options, RunRecord

WAN = Network.load("wan")
LOCAL_TRUNCATION = Options(runtime={"trunc_allow_msb_error": True})


def changed_wan(name: str, **changed: Any) -> Network:
    """`wan` with the `changed` values."""
    return WAN.model_copy(update={"name": name, "source": "wan with one thing changed", **changed})


ASSUMPTIONS: dict[str, dict[str, Any]] = {
    "as_found": {},
    "gelu-exact": {"model": {"gelu": "exact"}},
    "heads-batched": {"model": {"kernels": "plain"}},
    "version-0.9.5": {"runtime": "0.9.5"},
    "version-0.9.5-local_truncation": {"runtime": "0.9.5", "options": LOCAL_TRUNCATION},
    "chunk-32MiB": {"options": Options(link={"http_max_payload_size": 32 * 2**20})},
    "window-100": {"options": Options(link={"throttle_window_size": 100})},
    "rtt-80ms": {"network": changed_wan("wan-rtt80", rtt_ms=80.0)},
    "rate-352Mbit": {"network": changed_wan("wan-rate352", rate_mbit=352.0, rate_back_mbit=352.0)},
    "no-burst": {"network": changed_wan("wan-no-burst", burst_bytes=None)},
    "mtu-1500": {"network": changed_wan("wan-mtu1500", mtu=1500)},
}
FOR_SOFTMAX = (
    "as_found",
    "gelu-exact",
    "heads-batched",
    "version-0.9.5",
    "version-0.9.5-local_truncation",
    "chunk-32MiB",
)
"""Those that change the attention too; what changes only the network is measured on Scale."""


def _cells(attention: str, names: tuple[str, ...]) -> list[Cell]:
    made = []
    for name in names:
        settings = dict(ASSUMPTIONS[name])
        model = CIFAR10.model(attention).model_copy(update=settings.pop("model", {}))
        one = {f"{attention}-{name}": labelled(model, assumption=name)}
        made += cells("paper_assumptions", one, 1, timeout_s=900, **settings)
    return made


CELLS = [
    *smoke(
        "paper_assumptions",
        {"scale-chunk-32MiB": labelled(TOY.model("scale"), assumption="chunk-32MiB")},
        **ASSUMPTIONS["chunk-32MiB"],
    ),
    *_cells("scale", tuple(ASSUMPTIONS)),
    *_cells("softmax", FOR_SOFTMAX),
]


def test_logits_are_those_of_plaintext(cell: Cell, record: RunRecord) -> None:
    """Whichever assumption is changed."""
    assert record.accuracy is not None and record.accuracy.max_abs_error < 0.1
