"""Values that fixed point cannot represent are refused by the array's name, at the party that holds them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from parties import free_port, one_line, start_party, write_link
from programs import save_program, two_layer
from spu import Io, libspu

from spu_bench import Options, SpuBenchError
from spu_bench.fixed_point import FixedPoint, fixed_point


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 2.0**26, -(2.0**26), 1e15, 1e30])
def test_a_value_that_has_no_fixed_point(bad: float) -> None:
    array = np.zeros((2, 3), np.float32)
    array[1, 2] = bad
    with pytest.raises(SpuBenchError, match=r"'images'.*(not finite|values up to)") as caught:
        FixedPoint(64, 18).check_array("images", array)
    assert caught.value.reason == "bad_input"


def test_the_largest_values_pass() -> None:
    """Up to the limit, for floats and for integers, which have no fraction bits."""
    FixedPoint(64, 18).check_array("images", np.array([-(2.0**26) * 0.999, 2.0**26 * 0.999], np.float32))
    FixedPoint(64, 18).check_array("images", np.array([-(2**31), 2**31 - 1], np.int32))
    with pytest.raises(SpuBenchError, match="values up to"):
        FixedPoint(32, 8).check_array("images", np.array([-(2**31)], np.int32))


def test_spu_saturates_without_a_word() -> None:
    """Why the limit is needed: beyond 2^(k-2-f) SPU takes another value, and NaN becomes a number."""
    config = libspu.RuntimeConfig()
    config.protocol, config.field, config.fxp_fraction_bits = libspu.ProtocolKind.SEMI2K, libspu.FieldType.FM64, 18
    io = Io(2, config)
    array = np.array([2.0**43, 2.0**45, np.nan], np.float32)
    inside, beyond, nothing = io.reconstruct(io.make_shares(array, libspu.Visibility.VIS_SECRET)).tolist()
    assert inside == 2.0**43 and beyond == 2.0**44 and np.isfinite(nothing)


@pytest.mark.parametrize(
    ("runtime", "settings", "expected"),
    [
        ("0.9.5", {}, FixedPoint(64, 18)),
        ("0.9.5", {"field": "FM128", "fxp_fraction_bits": 40}, FixedPoint(128, 40)),
        ("0.9.5", {"field": "FM32", "fxp_fraction_bits": 0}, FixedPoint(32, 8)),
        ("0.9.5", {"fxp_fraction_bits": 29}, FixedPoint(64, 29)),
        ("0.3.1b0", {}, FixedPoint(64, 18)),
        ("crypten-0.4.1", {}, FixedPoint(64, 16)),
        ("crypten-0.4.1", {"encoder": {"precision_bits": 20}}, FixedPoint(64, 20)),
    ],
)
def test_the_ring_of_a_runtime(runtime: str, settings: dict[str, Any], expected: FixedPoint) -> None:
    assert fixed_point(runtime, settings) == expected


@pytest.mark.parametrize("bits", [30, 31, 62, 63, 64, -1, True, 18.5])
def test_fraction_bits_that_overflow(bits: Any) -> None:
    """They are found when the options are checked, before a party starts."""
    with pytest.raises(SpuBenchError, match="fxp_fraction_bits cannot be"):
        Options(runtime={"fxp_fraction_bits": bits}).check()


def test_fraction_bits_of_crypten() -> None:
    with pytest.raises(SpuBenchError, match="precision_bits cannot be 40"):
        Options(runtime={"encoder": {"precision_bits": 40}}).check("crypten-0.4.1", "beaver")


@pytest.mark.parametrize(("rank", "name"), [(0, "first"), (1, "images")])
def test_its_party_refuses_it_before_a_share_moves(tmp_path: Path, rank: int, name: str) -> None:
    """Server and client each refuse their own array. The peer is not even there."""
    weights = {
        "bias": np.zeros(4, np.float32),
        "first": np.full((16, 8), np.nan if rank == 0 else 1, np.float32),
        "second": np.ones((8, 4), np.float32),
    }
    images = np.full((1, 16), 1e15 if rank == 1 else 1, np.float32)
    program = save_program(tmp_path / "program", "bad", two_layer, weights, images)
    link = write_link(tmp_path / "link.toml", [free_port(), free_port()])
    party = start_party(rank, program, link, tmp_path / "home")
    _, errors = party.communicate(timeout=60)
    assert party.returncode == 2 and f"The array '{name}'" in one_line(errors)


def test_whole_ring_numbers_have_the_limit_of_encoding_alone() -> None:
    """A Program that truncates by hand takes floats up to 2^(k-2-f), and more fraction bits."""
    ring = fixed_point("0.9.5", {"field": "FM64", "fxp_fraction_bits": 32}, truncates=False)
    ring.check_array("images", np.array([2.0**30 * 0.999], np.float32))
    ring.check_array("weights", np.array([2**61], np.int64))
    with pytest.raises(SpuBenchError, match="'images' has values"):
        ring.check_array("images", np.array([2.0**30], np.float32))
    with pytest.raises(SpuBenchError, match="fraction bits"):
        fixed_point("0.9.5", {"field": "FM64", "fxp_fraction_bits": 32})
