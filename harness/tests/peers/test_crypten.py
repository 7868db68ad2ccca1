"""CrypTen as a runtime: the logits of plaintext, the predicted costs, each party's own secrets, refusals."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import jax
import psutil
import pytest

from spu_bench import Options, RunFailed, RunRecord, SpuBenchError, load_program, run, runtimes
from vit_models import AttentionPlan, ViTConfig, export_program, init

VERSION = "crypten-0.4.1"
TINY = ViTConfig("tiny", image_size=8, patch=4, layers=1, heads=4, dim=16, num_classes=4)
MIXED = AttentionPlan.from_heads([[0, 1, 0, 1]])
NORMS = 2 * TINY.layers + 1


@pytest.fixture(autouse=True)
def crypten() -> None:
    """The environment of CrypTen: tests are skipped without it, except under CI, where nothing may be missing."""
    lack = runtimes.missing(runtimes.get(VERSION))
    if lack and os.environ.get("CI") == "true":
        pytest.fail(lack, pytrace=False)
    if lack:
        pytest.skip(lack)


def exported(path: Path, attention: str, **more: Any) -> Path:
    """A tiny Program; the products in its blocks and head have weights that give logits of order 1."""
    params = init(TINY, 0, attention=attention)
    params["blocks"], params["head"] = (
        jax.tree_util.tree_map(lambda x: 10 * x if x.ndim == 2 else x, params[part]) for part in ("blocks", "head")
    )
    return export_program(TINY, params, attention=attention, **{"gelu": "tanh", **more}).save(path)


def steps(newton: int) -> Options:
    """Options with this number of Newton steps for 1/sqrt."""
    return Options(runtime={"functions": {"sqrt_nr_iters": newton}})


def run_crypten(program: Path, **more: Any) -> RunRecord:
    """One run between two processes on loopback."""
    return run(load_program(program), **{"runtime": VERSION, "executor": "loopback", **more})


@pytest.mark.parametrize(
    ("attention", "plan"), [("softmax", None), ("relu_softmax", None), ("scale", None), ("mix", MIXED)]
)
def test_logits_are_those_of_plaintext(tmp_path: Path, attention: str, plan: AttentionPlan | None) -> None:
    """In every inference of two images; each party opened its own secret files only."""
    program = exported(tmp_path / "program", attention, plan=plan, batch=2)
    reference = load_program(program).reference()
    assert reference is not None and abs(reference["logits"]).max() > 0.5
    record = run_crypten(program, repeats=2, options=steps(8))
    assert record.accuracy is not None and record.accuracy.inputs == record.accuracy.top1_equal == 4
    assert record.accuracy.max_abs_error < 0.02
    secrets = [[name for name in party.opened_files if name.endswith(".npz")] for party in record.parties]
    assert secrets == [["program/server.npz"], ["program/client.npz"]]
    assert record.request.protocol == "beaver" and record.trust is not None and "the server deals" in record.trust
    assert [party.traffic_counted_by for party in record.parties] == ["crypten"] * 2
    first, second = (inference.link for inference in record.parties[0].inferences)
    assert first == second == record.parties[1].inferences[-1].link
    assert RunRecord.model_validate_json(record.model_dump_json()) == record


def test_rounds_are_those_of_the_protocol_and_settings_reach_it(tmp_path: Path) -> None:
    """One for each product of secrets; a Newton step of 1/sqrt has three, in each LayerNorm."""
    program = exported(tmp_path / "program", "scale", gelu="quad")
    squarings_of_exp, newton_steps = 8, 3
    norm = 1 + squarings_of_exp + 3 * newton_steps + 2
    block = 2 * norm + 4 + 3
    defaults = run_crypten(program)
    assert defaults.rounds == 1 + TINY.layers * block + norm + 1
    more = run_crypten(program, options=steps(newton_steps + 5))
    assert more.rounds == defaults.rounds + 3 * 5 * NORMS


@pytest.mark.parametrize(
    ("attention", "more", "complaint"),
    [
        ("two_quad", {}, "does not support the attention 'two_quad'.*Fix: take one of softmax, relu_softmax, scale"),
        ("scale", {"gelu": "exact"}, "does not support a correct GeLU 'exact'.*Fix: export with gelu one of tanh"),
        (
            "scale",
            {"weights": "public"},
            "does not support public arguments.*Fix: export the Program with weights='server'",
        ),
    ],
)
def test_a_model_that_crypten_cannot_run_is_refused(
    tmp_path: Path, attention: str, more: dict[str, Any], complaint: str
) -> None:
    """By name, with a fix."""
    with pytest.raises(RunFailed, match=complaint) as caught:
        run_crypten(exported(tmp_path / "program", attention, **more))
    assert caught.value.reason == "bad_input"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"runtime": {"functions": {"no_such": 1}}}, "no setting 'functions.no_such'.*use one of encoder"),
        ({"runtime": {"functions": {"sqrt_nr_iters": "many"}}}, "sqrt_nr_iters cannot be 'many'.*its default, 3"),
        ({"runtime": {"debug": {"validation_mode": True}}}, "no setting 'debug.validation_mode'"),
        ({"link": {"throttle_window_size": 1}}, r"CrypTen 0\.4\.1 takes no link options"),
    ],
)
def test_unknown_settings_are_refused(tmp_path: Path, options: dict[str, Any], complaint: str) -> None:
    """So are those that would open values during the run."""
    with pytest.raises(SpuBenchError, match=complaint) as caught:
        run_crypten(exported(tmp_path / "program", "scale"), options=Options(**options))
    assert caught.value.reason == "bad_input"


def start_party(rank: int, program: Path, directory: Path, *more: str) -> subprocess.Popen[str]:
    """`spu-bench party` with the link file of `directory`."""
    command = [sys.executable, "-m", "spu_bench", "party", "--rank", str(rank), "--program", str(program)]
    command += ["--link", str(directory / "link.toml"), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.fixture
def link(tmp_path: Path) -> Path:
    """A directory with a link file for two parties on this machine."""
    with socket.create_server(("127.0.0.1", 0)) as first, socket.create_server(("127.0.0.1", 0)) as second:
        ports = [listener.getsockname()[1] for listener in (first, second)]
    parties = "".join(f'[[party]]\naddress = "127.0.0.1"\nport = {port}\n' for port in ports)
    head = f'protocol = "beaver"\nruntime = "{VERSION}"\nrepeats = 200\nconnect_timeout_s = 60\n'
    (tmp_path / "link.toml").write_text(head + parties)
    return tmp_path


def test_an_interface_that_does_not_exist(link: Path) -> None:
    """As on SPU, before a peer is called."""
    party = start_party(0, exported(link / "program", "scale"), link, "--interface", "no-such0")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and "There is no network interface 'no-such0'" in errors


def test_a_peer_that_dies_half_way(link: Path) -> None:
    """As on SPU: the survivor ends with one line that names the lost party, not with PyTorch's error."""
    program = exported(link / "program", "softmax")
    parties = [start_party(rank, program, link) for rank in (0, 1)]
    deadline = time.monotonic() + 120
    while not any(child.cpu_times().user > 4 for child in psutil.Process(parties[1].pid).children()):
        assert parties[1].poll() is None and time.monotonic() < deadline
        time.sleep(0.05)
    parties[1].kill()
    _, errors = parties[0].communicate(timeout=60)
    assert parties[0].returncode == 1
    assert errors.startswith("error: Party 1 was lost") and len(errors.splitlines()) == 1
    parties[1].communicate()


FUNCTIONS = """
import json
import spu_bench.party.crypten04
import crypten, torch
from crypten.config import cfg

crypten.init()
x = torch.linspace(-4, 4, 33)
near, variances = torch.tensor([-1.5, 1.5]), torch.logspace(-2.4, 1.8, 50)
right = {}
for steps in (3, 8):
    with cfg.temp_override({"functions.sqrt_nr_iters": steps}):
        right[steps] = crypten.cryptensor(variances).inv_sqrt().get_plain_text() * variances.sqrt() - 1
print(json.dumps({
    "erf": (crypten.cryptensor(near).erf().get_plain_text() - near.erf()).abs().max().item(),
    "tanh": (crypten.cryptensor(x).tanh().get_plain_text() - x.tanh()).abs().max().item(),
    "rsqrt": {steps: errors.abs().max().item() for steps, errors in right.items()},
}))
"""


def test_the_errors_of_its_functions() -> None:
    """docs/peers.md: why exact GeLU is refused, and why 1/sqrt requires more steps."""
    source = Path(__file__).resolve().parents[3] / "packages" / "spu_bench" / "src"
    command = [runtimes.interpreter(runtimes.get(VERSION)), "-c", FUNCTIONS]
    done = subprocess.run(command, env={"PYTHONPATH": str(source)}, capture_output=True, text=True, check=True)
    errors = json.loads(done.stdout.splitlines()[-1])
    assert errors["erf"] > 0.5 and errors["tanh"] < 0.005
    assert errors["rsqrt"]["3"] > 0.5 and errors["rsqrt"]["8"] < 0.002


def test_a_host_without_crypten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error gives the command that installs it, before anything is started."""
    monkeypatch.setenv("SPU_BENCH_RUNTIMES", str(tmp_path))
    with pytest.raises(SpuBenchError, match=r"CrypTen 0\.4\.1 is not installed") as caught:
        run_crypten(exported(tmp_path / "program", "scale"))
    assert caught.value.fix == f"spu-bench runtime install {VERSION}"
    assert f"Fix: {runtimes.get(VERSION).install_command}" in str(caught.value)
