"""The manual ways in the documentation: two hosts, and two containers with compose."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from cells import ATTEMPTS, make_directories, wait_until
from programs import write_program
from requirements_of_tests import lacks_commands, lacks_root, require

from spu_bench.executors import measurement_lock
from spu_bench.executors.netns import NetnsExecutor
from spu_bench.network import LOOPBACK

ROOT = Path(__file__).resolve().parents[4]
LINK = """protocol = "semi2k"
connect_timeout_s = 60
[[party]]
address = "10.79.0.2"
port = 9530
[[party]]
address = "10.79.0.3"
port = 9530
"""


def test_two_hosts_shaped_and_probed_by_hand(tmp_path: Path) -> None:
    require(lacks_commands("ip", "tc", "iptables") or lacks_root())
    directories = make_directories(tmp_path)
    command = ["-m", "spu_bench", "network"]
    shaping = " ".join([sys.executable, *command, "commands --network wan --interface link0 --shaper nfqueue"])
    with measurement_lock(), NetnsExecutor().open(LOOPBACK, directories) as hosts:
        for host, other in ((hosts[0], hosts[1]), (hosts[1], hosts[0])):
            line = f"{shaping} --rank {host.rank} --peer {other.rank}={other.address} | sh -ex"
            program = f"import os; os.execvp('sh', ['sh', '-c', {line!r}])"
            host.start(["-c", program], environment={"TMPDIR": host.directory}, log="shaping.log")
        server = hosts[0].start([*command, "probe-serve", "--bind", hosts[0].address], environment={}, log="serve.log")
        assert wait_until(lambda: "answering" in (directories[0] / "serve.log").read_text(), 30)
        connect = [*command, "probe", "--network", "wan", "--connect", f"{hosts[0].address}:9529"]
        for _ in range(ATTEMPTS):
            status = hosts[1].start(connect, environment={}, log="probe.log").wait(60)
            if status == 0:
                break
        assert status == 0, (directories[1] / "probe.log").read_text()
        assert server.poll() is None


def test_two_containers_by_compose(image: str, tmp_path: Path) -> None:
    require(lacks_commands("docker-compose"))
    program = write_program(tmp_path / "program")
    for party, others in (("server", "client.npz"), ("client", "server.npz")):
        shutil.copytree(program, tmp_path / party / "program", ignore=shutil.ignore_patterns(others))
        (tmp_path / party / "link.toml").write_text(LINK)
    settings = {"RUN": str(tmp_path), "IMAGE": image, "SHAPER": "nfqueue"}  # every kernel has it
    compose = ["docker-compose", "--project-name", f"by-hand-{os.getpid()}"]
    compose += ["--file", str(ROOT / "docker" / "compose.yaml")]
    environment = {**os.environ, **settings}
    try:
        up = [*compose, "up", "--abort-on-container-exit"]
        done = subprocess.run(up, env=environment, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
    finally:
        subprocess.run([*compose, "down"], env=environment, capture_output=True, timeout=60, check=True)
    with np.load(tmp_path / "client" / "logits.npz") as logits:
        assert logits.files
