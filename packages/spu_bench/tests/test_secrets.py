"""The weights never reach the client in the clear, nor the image the server: from the files, and from the wire."""

from __future__ import annotations

import json
import socket
import threading
from pathlib import Path

import numpy as np
import pytest
from parties import free_port, start_party, write_link

from spu_bench import load_program, run
from spu_bench.program import Array, read_npz


def test_opened_files(small: Path) -> None:
    """Of the secret files, the server opens the weights alone, the client the image alone."""
    record = run(load_program(small), executor="loopback")
    secrets = [[name for name in party.opened_files if name.endswith(".npz")] for party in record.parties]
    assert secrets == [["program/server.npz"], ["program/client.npz"]]


def test_each_party_runs_without_the_others_files(small: Path, tmp_path: Path) -> None:
    """A server whose Program has no image, and a client whose Program has no weights, give the client its logits."""
    for rank, secret in ((0, "client.npz"), (1, "server.npz")):
        copy = tmp_path / f"program-{rank}"
        copy.mkdir()
        for file in small.iterdir():
            if file.name != secret:
                (copy / file.name).write_bytes(file.read_bytes())
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    parties = [
        start_party(rank, tmp_path / f"program-{rank}", link, tmp_path / f"home-{rank}", "--output", "logits.npz")
        for rank in (0, 1)
    ]
    for party in parties:
        _, errors = party.communicate(timeout=60)
        assert party.returncode == 0, errors
    expected = read_npz(small / "reference.npz")["logits"]
    np.testing.assert_allclose(read_npz(tmp_path / "home-1" / "logits.npz")["logits"], expected, atol=1e-3)
    assert not (tmp_path / "home-0" / "logits.npz").exists(), "the server must not learn the logits"
    opened = json.loads((tmp_path / "home-0" / "outcome.json").read_text())["opened_files"]
    assert not any("client" in name or "reference" in name for name in opened)


class Tap:
    """A TCP relay that keeps what goes through it: `up` from who calls, `down` from who is called."""

    def __init__(self, port: int, target: int) -> None:
        self.up, self.down = bytearray(), bytearray()
        self._listener = socket.create_server(("127.0.0.1", port))
        self._target = target
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
                far = self._reach()
            except OSError:
                return
            for source, sink, kept in ((near, far, self.up), (far, near, self.down)):
                threading.Thread(target=self._copy, args=(source, sink, kept), daemon=True).start()

    def _reach(self) -> socket.socket:
        for _ in range(200):
            try:
                return socket.create_connection(("127.0.0.1", self._target))
            except ConnectionRefusedError:
                threading.Event().wait(0.05)
        raise OSError("nobody listens behind the tap")

    @staticmethod
    def _copy(source: socket.socket, sink: socket.socket, kept: bytearray) -> None:
        try:
            while data := source.recv(1 << 16):
                kept.extend(data)
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def close(self) -> None:
        self._listener.close()


def needles(array: Array) -> list[bytes]:
    """Every four consecutive values in each form they could leave in: float32, float64, fixed point."""
    flat = array.ravel()
    forms = [flat, flat.astype(np.float64), np.round(flat * 2.0**18).astype(np.int64)]
    return [form[i : i + 4].tobytes() for form in forms for i in range(0, len(flat) - 3, 4)]


@pytest.mark.parametrize("protocol", ["semi2k", "cheetah"])
def test_nothing_secret_on_the_wire(small: Path, tmp_path: Path, protocol: str) -> None:
    """A tap on all connections of both parties sees neither weights, nor image, nor logits."""
    server, client, seen_server, seen_client = (free_port() for _ in range(4))
    taps = [Tap(seen_server, server), Tap(seen_server + 1, server + 1), Tap(seen_client, client)]
    links = [
        write_link(tmp_path / "link-0.toml", [server, seen_client], protocol=protocol),
        write_link(tmp_path / "link-1.toml", [seen_server, client], protocol=protocol),
    ]
    homes = [tmp_path / "home-0", tmp_path / "home-1"]
    parties = [start_party(r, small, links[r], homes[r], "--output", "logits.npz") for r in (0, 1)]
    for party in parties:
        _, errors = party.communicate(timeout=90)
        assert party.returncode == 0, errors
    for tap in taps:
        tap.close()
    wire = bytes(taps[0].up + taps[0].down + taps[1].up + taps[1].down + taps[2].up + taps[2].down)
    weights, images = read_npz(small / "server.npz"), read_npz(small / "client.npz")
    logits = read_npz(homes[1] / "logits.npz")["logits"]
    shares_of_weights = 8 * sum(array.size for array in weights.values())
    assert len(taps[1].down) > shares_of_weights, "the tap must have seen the shares go by"
    for array in (*weights.values(), images["images"], logits):
        assert not any(needle in wire for needle in needles(array))
    # the search finds what is there: the same needles in the files that hold these values in the clear
    assert all(needle in (small / "server.npz").read_bytes() for needle in needles(weights["first"])[:10])
