"""Every setting of SPU can be reached by its own name, and a wrong one is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from spu import libspu

from spu_bench import PRESETS, Options, SpuBenchError
from spu_bench.options import compiler_options, runtime_config, set_link_fields, with_needed
from spu_bench.program import RuntimeOptions

RUNTIME = {
    "protocol": None,  # given by --protocol
    "field": "FM128",
    "fxp_fraction_bits": 20,
    "max_concurrency": 2,
    "enable_action_trace": True,
    "enable_type_checker": True,
    "enable_pphlo_trace": True,
    "enable_runtime_snapshot": True,
    "snapshot_dump_dir": "snapshots",
    "enable_pphlo_profile": False,
    "enable_hal_profile": True,
    "public_random_seed": 7,
    "share_max_chunk_size": 1024,
    "sort_method": "SORT_QUICK",
    "quick_sort_threshold": 8,
    "fxp_div_goldschmidt_iters": 3,
    "fxp_exp_mode": "EXP_PADE",
    "fxp_exp_iters": 6,
    "fxp_log_mode": "LOG_NEWTON",
    "fxp_log_iters": 4,
    "fxp_log_orders": 6,
    "sigmoid_mode": "SIGMOID_SEG3",
    "enable_lower_accuracy_rsqrt": True,
    "sine_cosine_iters": 9,
    "beaver_type": "MultiParty",
    "ttp_beaver_config": {"server_host": "127.0.0.1:9000", "adjust_rank": 1},
    "cheetah_2pc_config": {"disable_matmul_pack": True, "ot_kind": "YACL_Softspoken"},
    "trunc_allow_msb_error": True,
    "experimental_disable_mmul_split": True,
    "experimental_enable_inter_op_par": True,
    "experimental_enable_intra_op_par": True,
    "experimental_disable_vectorization": True,
    "experimental_inter_op_concurrency": 3,
    "experimental_enable_colocated_optimization": True,
    "experimental_enable_exp_prime": True,
    "experimental_exp_prime_offset": 12,
    "experimental_exp_prime_disable_lower_bound": True,
    "experimental_exp_prime_enable_upper_bound": True,
}


def fields(target: object) -> set[str]:
    return {n for n in dir(target) if n[0].islower() and not callable(getattr(target, n))}


def test_the_table_above_is_complete() -> None:
    """A new SPU with a new field fails here, so that it is not forgotten."""
    assert fields(libspu.RuntimeConfig()) == set(RUNTIME)


@pytest.mark.parametrize("name", sorted(set(RUNTIME) - {"protocol"}))
def test_every_runtime_field_is_reachable(name: str) -> None:
    """Setting a field changes the serialized configuration that SPU gets, and only by that field."""
    plain = runtime_config("cheetah", Options())
    changed = runtime_config("cheetah", Options(runtime={name: RUNTIME[name]}))
    assert plain.SerializeToString() != changed.SerializeToString()
    other = set(RUNTIME) - {name, "ttp_beaver_config", "cheetah_2pc_config"}
    assert {n: getattr(plain, n) for n in other} == {n: getattr(changed, n) for n in other}


def test_defaults() -> None:
    """FM64 with 18 fraction bits, and SPU's own value for everything else."""
    config, default = runtime_config("cheetah", Options()), libspu.RuntimeConfig()
    assert (config.field, config.fxp_fraction_bits) == (libspu.FieldType.FM64, 18)
    assert config.protocol == libspu.ProtocolKind.CHEETAH
    ours = {"protocol", "field", "fxp_fraction_bits", "enable_pphlo_profile"}
    rest = set(RUNTIME) - ours - {"ttp_beaver_config", "cheetah_2pc_config"}
    assert {n: getattr(config, n) for n in rest} == {n: getattr(default, n) for n in rest}


@pytest.mark.parametrize("name", sorted(fields(libspu.CompilerOptions())))
def test_every_compiler_field_is_reachable(name: str) -> None:
    """Each field of CompilerOptions takes a value other than its default."""
    default = getattr(libspu.CompilerOptions(), name)
    value = {"pretty_print_dump_dir": "dump", "xla_pp_kind": "HTML"}.get(name, True if default is False else default)
    assert getattr(compiler_options(Options(compiler={name: value})), name) != default


def test_link_fields() -> None:
    """The link's own settings are reachable too."""
    description = libspu.link.Desc()
    set_link_fields(description, Options(link={"http_max_payload_size": 32 << 20}))
    assert description.http_max_payload_size == 32 << 20


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[runtime]\nnonsense = 1", "nonsense"),
        ("[runtime]\nfxp_exp_mode = 'EXP_NONE'", "fxp_exp_mode"),
        ("[runtime]\nfxp_fraction_bits = 'many'", "fxp_fraction_bits"),
        ("[runtime.cheetah_2pc_config]\not = 1", "cheetah_2pc_config"),
        ("[compiler]\nnonsense = true", "nonsense"),
        ("[compiler]\ndisable_div_sqrt_rewrite = 'no'", "disable_div_sqrt_rewrite"),
        ("[link]\nrecv_timeout_ms = 'long'", "recv_timeout_ms"),
        ("[other]\na = 1", "other"),
        ("[runtime", "TOML"),
    ],
)
def test_wrong_options_are_named(tmp_path: Path, text: str, complaint: str) -> None:
    """A wrong key or value is refused before anything starts, by its name."""
    (tmp_path / "options.toml").write_text(text)
    with pytest.raises(SpuBenchError, match=complaint) as caught:
        Options.load(tmp_path / "options.toml").check()
    assert caught.value.reason == "bad_input"


@pytest.mark.parametrize("name", PRESETS)
def test_presets_are_of_their_protocols(name: str) -> None:
    """A name gives the options, whose every field the runtime knows under each of the preset's protocols."""
    for protocol in PRESETS[name].protocols:
        Options.load(name).check(protocol=protocol)
    assert Options.load(name).model_dump(exclude_defaults=True) == PRESETS[name].tables


def test_options_that_are_neither_a_preset_nor_a_file() -> None:
    """The presets get listed."""
    with pytest.raises(SpuBenchError, match=r"'fast'.*Fix: use one of exact, local-truncation"):
        Options.load("fast")


def test_unknown_protocol() -> None:
    """The protocols there are get listed."""
    with pytest.raises(SpuBenchError, match="semi2k"):
        runtime_config("semi3k", Options())


@pytest.mark.parametrize(
    ("options", "protocol", "complaint"),
    [
        (Options(), "semi2k", r"CrypTen 0\.4\.1 does not have the protocol 'semi2k'.*Fix: use one of beaver"),
        (Options(compiler={"pretty_print_dump_dir": "x"}), "beaver", r"CrypTen 0\.4\.1 takes no compiler options"),
    ],
)
def test_what_another_runtime_does_not_take(options: Options, protocol: str, complaint: str) -> None:
    with pytest.raises(SpuBenchError, match=complaint) as caught:
        options.check("crypten-0.4.1", protocol)
    assert caught.value.reason == "bad_input"


NEEDED = RuntimeOptions(protocol="semi2k", field="FM64", fxp_fraction_bits=40, trunc_allow_msb_error=False)


def test_what_a_program_needs_is_set() -> None:
    asked = Options(runtime={"max_concurrency": 2, "fxp_fraction_bits": 40})
    config = runtime_config("semi2k", with_needed(asked, NEEDED, protocol="semi2k", runtime="0.9.5"))
    assert config.fxp_fraction_bits == 40 and config.max_concurrency == 2 and not config.trunc_allow_msb_error
    assert with_needed(asked, None, protocol="cheetah", runtime="0.9.5") is asked


@pytest.mark.parametrize(
    ("runtime", "protocol", "settings", "complaint"),
    [
        ("0.9.5", "cheetah", {}, "needs semi2k on SPU 0.9.5, not cheetah on SPU 0.9.5. Fix: use protocol semi2k"),
        ("0.3.1b0", "semi2k", {}, "needs semi2k on SPU 0.9.5, not semi2k on SPU 0.3.1b0"),
        (
            "0.9.5",
            "semi2k",
            {"fxp_fraction_bits": 18},
            "needs RuntimeConfig.fxp_fraction_bits = 40, not 18. Fix: leave",
        ),
        ("0.9.5", "semi2k", {"field": "FM128"}, "needs RuntimeConfig.field = 'FM64', not 'FM128'"),
        ("0.9.5", "semi2k", {"trunc_allow_msb_error": True}, "trunc_allow_msb_error = False, not True"),
    ],
)
def test_what_a_program_cannot_run_under_is_refused(
    runtime: str, protocol: str, settings: dict[str, object], complaint: str
) -> None:
    with pytest.raises(SpuBenchError) as error:
        with_needed(Options(runtime=settings), NEEDED, protocol=protocol, runtime=runtime)
    assert complaint in str(error.value)
