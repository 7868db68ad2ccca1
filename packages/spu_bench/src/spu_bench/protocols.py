"""The protocols: how many parties each takes, what they trust, which runtimes have it, which presets are for it.

A protocol is one value in PROTOCOLS, and that is all: options, help texts, the runtimes' lists, the link file, the cost
model and the tables of the documentation read it from here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from spu_bench.errors import SpuBenchError


@dataclass(frozen=True)
class Preset:
    """Options under a name: `tables` are those of `Options`, `does` says what they do."""

    name: str
    does: str
    tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that the preset is for."""
        return tuple(protocol.name for protocol in PROTOCOLS.values() if self in protocol.presets)


@dataclass(frozen=True)
class Dealer:
    """Who makes the triples of a protocol: a name, the value of SPU's `beaver_type`, and what the parties trust.

    `runtimes` are the versions on which a run can have it.
    """

    name: str
    beaver_type: str
    trust: str
    runtimes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Protocol:
    """A protocol.

    `parties` is how many it takes here, `runtimes` the versions that have it (runtimes.RUNTIMES). Where a protocol
    needs triples, `dealers` are the ways to get them, the first the default; where it does not, `trust` says what the
    parties trust each other with. All protocols expect the parties to follow them (semi-honest). In `lock_step` the
    parties send at the same time and wait for each other, message by message: messages are rounds.
    """

    name: str
    parties: int
    runtimes: tuple[str, ...]
    lock_step: bool
    trust: str = ""
    dealers: tuple[Dealer, ...] = ()
    presets: tuple[Preset, ...] = ()

    def trust_model(self, settings: Mapping[str, Any]) -> str:
        """What the parties have to trust each other with, under these settings of the runtime, in a few words."""
        if not self.dealers:
            return self.trust
        chosen = settings.get("beaver_type", self.dealers[0].beaver_type)
        return next((dealer.trust for dealer in self.dealers if dealer.beaver_type == chosen), "semi-honest")

    def dealer(self, name: str, runtime: str) -> Dealer:
        """The dealer of that name; raises SpuBenchError where the protocol does not have it on `runtime`."""
        possible = {each.name: each for each in self.dealers if runtime in each.runtimes}
        if name in possible:
            return possible[name]
        if not self.dealers:
            raise SpuBenchError(f"{self.name} has no dealer.", "leave out --dealer.", "bad_input")
        raise SpuBenchError(
            f"{self.name} on {runtime} has no dealer {name!r}.",
            f"use --dealer {' or '.join(possible)}, or another runtime.",
            "bad_input",
        )


SERVER_DEALS = Dealer(
    "server",
    "TrustedFirstParty",
    "semi-honest; the server deals the triples and could open everything",
    ("0.9.5", "0.3.1b0", "crypten-0.4.1"),
)
"""SPU's default: rank 0, the server, makes the triples (TrustedFirstParty)."""

THIRD_PARTY_DEALS = Dealer(
    "third-party", "TrustedThirdParty", "semi-honest; a third party deals the triples", ("0.9.5",)
)
"""A process that holds neither weights nor images makes the triples (TrustedThirdParty)."""

NOBODY_DEALS = Dealer("nobody", "MultiParty", "semi-honest; no dealer")
"""The parties make the triples together (MultiParty)."""

_COLOCATED = {"experimental_enable_colocated_optimization": True}
EXACT = Preset("exact", "SPU's defaults with 18 fraction bits: every truncation is right except for its last bit")
"""The runtime's defaults."""

LOCAL_TRUNCATION = Preset(
    "local-truncation",
    "each party truncates its own share: no round, and now and then, silently, a value wrong by 2^28",
    {"runtime": {"trunc_allow_msb_error": True}},
)
"""Truncation without a round, which can fail."""

PRIVATE = Preset(
    "private",
    "weights stay in plaintext with the server, the image with the client, until they meet what is secret",
    {"runtime": _COLOCATED},
)
"""SPU's colocated optimization."""


def _cheetah(name: str, does: str, **settings: bool | str) -> Preset:
    """A preset for CHEETAH: PRIVATE, and products of single values may err in their last bit."""
    cheetah = {"enable_mul_lsb_error": True, **settings}
    return Preset(name, does, {"runtime": {**_COLOCATED, "cheetah_2pc_config": cheetah}})


PROTOCOLS = {
    protocol.name: protocol
    for protocol in (
        Protocol(
            "semi2k",
            parties=2,
            runtimes=("0.9.5", "0.3.1b0"),
            lock_step=True,
            dealers=(SERVER_DEALS, THIRD_PARTY_DEALS, NOBODY_DEALS),
            presets=(EXACT, LOCAL_TRUNCATION, PRIVATE),
        ),
        Protocol(
            "cheetah",
            parties=2,
            runtimes=("0.9.5", "0.3.1b0"),
            lock_step=False,
            trust="semi-honest; no dealer",
            presets=(
                EXACT,
                PRIVATE,
                _cheetah("cheetah-lsb", "private, and products of single values may err in their last bit"),
                _cheetah(
                    "cheetah-softspoken",
                    "cheetah-lsb with oblivious transfers by SoftSpoken in place of Ferret",
                    ot_kind="YACL_Softspoken",
                ),
                _cheetah(
                    "cheetah-unpacked",
                    "cheetah-lsb with the ciphertexts of a product's result sent as they are, not packed into few",
                    disable_matmul_pack=True,
                ),
            ),
        ),
        Protocol(
            "aby3",
            parties=3,
            runtimes=("0.9.5",),
            lock_step=False,
            trust="semi-honest; no two of the three parties together",
        ),
        Protocol(
            "ref2k",
            parties=2,
            runtimes=("0.9.5",),
            lock_step=True,
            trust="none: every party holds all values",
        ),
        Protocol("beaver", parties=2, runtimes=("crypten-0.4.1",), lock_step=True, dealers=(SERVER_DEALS,)),
    )
}
"""Every protocol by its name. The first of a runtime is its default."""

PRESETS = {preset.name: preset for protocol in PROTOCOLS.values() for preset in protocol.presets}
"""Every preset by its name."""


def get(name: str) -> Protocol:
    """The protocol of that name; raises SpuBenchError ("bad_input") for another."""
    if name not in PROTOCOLS:
        raise SpuBenchError(f"There is no protocol {name!r}.", f"use one of {', '.join(PROTOCOLS)}.", "bad_input")
    return PROTOCOLS[name]


def check_dealer(dealer: Dealer, settings: Mapping[str, Any]) -> None:
    """Raise SpuBenchError where `settings` of the runtime name another dealer, or one of their own."""
    named = [name for name in ("beaver_type", "ttp_beaver_config") if name in settings]
    if (named and settings.get("beaver_type") != dealer.beaver_type) or "ttp_beaver_config" in named:
        raise SpuBenchError(
            f"The options set {named[0]}, and the dealer is to be {dealer.name!r}.",
            f"leave {named[0]} out of the options.",
            "bad_input",
        )


def on_runtime(version: str) -> tuple[str, ...]:
    """The names of the protocols that a runtime has, its default first."""
    return tuple(protocol.name for protocol in PROTOCOLS.values() if version in protocol.runtimes)


def predictable(version: str) -> tuple[str, ...]:
    """The names of the protocols that the cost model knows on a runtime: those of two parties."""
    return tuple(name for name in on_runtime(version) if PROTOCOLS[name].parties == 2)


def describe() -> str:
    """Each protocol with its parties and runtimes, for a help text."""
    return ", ".join(f"{each.name} ({each.parties} parties; {', '.join(each.runtimes)})" for each in PROTOCOLS.values())
