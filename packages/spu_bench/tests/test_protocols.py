"""A protocol is one value: options, help, runtimes, session and cost model follow from the registry."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from spu_bench import PROTOCOLS, Options, SpuBenchError, load_program, predict, protocols, run, runtimes
from spu_bench.protocols import EXACT, Protocol
from spu_bench.session import Session

MADE_UP = Protocol("made_up", parties=3, runtimes=("0.9.5",), lock_step=True, trust="no one", presets=(EXACT,))
ADDRESSES = tuple({"address": "127.0.0.1", "port": 9530 + 2 * rank} for rank in range(3))


@pytest.fixture
def made_up(monkeypatch: pytest.MonkeyPatch) -> str:
    """A protocol that is in the registry, and that no SPU knows."""
    monkeypatch.setitem(PROTOCOLS, MADE_UP.name, MADE_UP)
    return MADE_UP.name


def test_a_protocol_is_added_in_one_place(made_up: str) -> None:
    """The runtime's list, the link file's number of parties, the presets and the trust model follow."""
    assert made_up in runtimes.get("0.9.5").protocols and made_up not in runtimes.get("0.3.1b0").protocols
    assert len(Session(protocol=made_up, party=ADDRESSES).party) == 3
    with pytest.raises(ValueError, match="made_up takes 3 parties, not 2"):
        Session(protocol=made_up, party=ADDRESSES[:2])
    assert made_up in EXACT.protocols
    assert protocols.get(made_up).trust_model({}) == "no one"
    assert made_up not in protocols.predictable("0.9.5"), "it takes three parties"


def test_a_protocol_that_the_runtime_does_not_know(made_up: str, small: Path) -> None:
    """SPU refuses it in one line, before anything is started; so does a runtime that is not listed for it."""
    with pytest.raises(
        SpuBenchError, match=r"SPU 0\.9\.5 does not know the protocol 'made_up'\. Fix: use one of semi2k"
    ) as spu:
        run(load_program(small), protocol=made_up, executor="loopback")
    with pytest.raises(SpuBenchError, match=r"SPU 0\.3\.1b0 does not have the protocol 'made_up'") as old:
        Options().check("0.3.1b0", made_up)
    with pytest.raises(SpuBenchError, match="does not know the protocol 'made_up'") as cost:
        predict(load_program(small), made_up)
    assert {spu.value.reason, old.value.reason, cost.value.reason} == {"bad_input"}


def test_the_help_lists_it() -> None:
    program = (
        "import dataclasses, sys\n"
        "from spu_bench.protocols import PROTOCOLS\n"
        "PROTOCOLS['made_up'] = dataclasses.replace(PROTOCOLS['semi2k'], name='made_up')\n"
        "sys.argv[1:] = ['run', '--help']\n"
        "from spu_bench.cli import main\n"
        "main()\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "made_up (2 parties; 0.9.5, 0.3.1b0)" in " ".join(done.stdout.split())


def test_unknown_protocol() -> None:
    """The protocols that exist are listed."""
    with pytest.raises(SpuBenchError, match=r"no protocol 'semi3k'\. Fix: use one of semi2k, cheetah"):
        protocols.get("semi3k")


def test_every_protocol_says_what_it_trusts() -> None:
    """SEMI2K by who deals its triples."""
    assert all(protocol.trust_model({}) for protocol in PROTOCOLS.values())
    semi2k = PROTOCOLS["semi2k"]
    assert "server deals" in semi2k.trust_model({}) == PROTOCOLS["beaver"].trust_model({})
    assert "no dealer" in semi2k.trust_model({"beaver_type": "MultiParty"})
    assert "third party deals" in semi2k.trust_model({"beaver_type": "TrustedThirdParty"})


def test_every_runtime_has_a_default_protocol() -> None:
    assert {version: runtime.protocols[0] for version, runtime in runtimes.RUNTIMES.items()} == {
        "0.9.5": "semi2k",
        "0.3.1b0": "semi2k",
        "crypten-0.4.1": "beaver",
    }
    assert {version for each in PROTOCOLS.values() for version in each.runtimes} <= set(runtimes.RUNTIMES)
