"""Every setting of a runtime by its own name: TOML tables to RuntimeConfig, CompilerOptions and link.Desc."""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from spu import libspu

from spu_bench import runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.program import RuntimeOptions

PROTOCOLS = {"semi2k": 2, "cheetah": 2, "aby3": 3, "ref2k": 2, "beaver": 2}
"""Protocol names and the number of parties that each takes here."""


class Options(BaseModel):
    """Settings of a runtime, each by the name that it has there; what is not named keeps the runtime's default.

    `runtime` holds fields of SPU's RuntimeConfig (enums by name, nested messages as tables), or CrypTen's sections
    `encoder` and `functions` as tables; `compiler` fields of CompilerOptions, `link` fields of link.Desc.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: dict[str, Any] = Field(default_factory=dict)
    compiler: dict[str, Any] = Field(default_factory=dict)
    link: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Options:
        """Give a preset by its name, or read a TOML file with the tables [runtime], [compiler], [link].

        Raises SpuBenchError naming the key.
        """
        if (preset := PRESETS.get(str(name_or_path))) is not None:
            return preset.options
        path = Path(name_or_path)
        if not path.is_file():
            raise SpuBenchError(
                f"There are no options {str(name_or_path)!r}: neither a preset nor a file.",
                f"use one of {', '.join(PRESETS)} or the path of a TOML file.",
                "bad_input",
            )
        try:
            raw = tomllib.loads(path.read_text())
        except (OSError, ValueError) as error:
            raise SpuBenchError(f"{path} cannot be read as TOML: {error}.", "correct the file.", "bad_input") from error
        if unknown := sorted(set(raw) - {"runtime", "compiler", "link"}):
            raise _unknown("table", unknown[0], ["runtime", "compiler", "link"])
        return cls(**raw)

    def check(self, runtime: str = runtimes.NEWEST, protocol: str = "semi2k") -> None:
        """Build every configuration once, so that a wrong name or value is found before a party starts.

        Fields of a runtime with an environment of its own are known to its party alone. Raises SpuBenchError.
        """
        known = runtimes.get(runtime)
        if protocol not in known.protocols:
            raise SpuBenchError(
                f"There is no protocol {protocol!r} on {known.title}.",
                f"use one of {', '.join(known.protocols)}.",
                "bad_input",
            )
        for table, settings in self.model_dump().items():
            if settings and table not in known.tables:
                raise SpuBenchError(
                    f"{known.title} has no {table} options.", f"leave the table [{table}] out.", "bad_input"
                )
        if known.package is not None:
            return
        runtime_config(protocol, self)
        compiler_options(self)
        set_link_fields(libspu.link.Desc(), self)


def with_needed(options: Options, needed: RuntimeOptions | None, protocol: str, runtime: str) -> Options:
    """`options` with the settings that a Program needs (None: nothing).

    Raises SpuBenchError where protocol, runtime or an option is another one: the Program's result would be garbage.
    """
    if needed is None:
        return options
    fix = "leave that option out, or export the Program with kernels that need no settings (kernels='tuned_fxp')."
    if runtime != runtimes.NEWEST or protocol != needed.protocol:
        raise SpuBenchError(
            f"The Program needs {needed.protocol} on {runtimes.get(runtimes.NEWEST).title}, not {protocol} on "
            f"{runtimes.get(runtime).title}.",
            f"use protocol {needed.protocol}, or export the Program with kernels='tuned_fxp' or 'tuned_he'.",
            "bad_input",
        )
    for name, value in needed.settings().items():
        if options.runtime.get(name, value) != value:
            raise SpuBenchError(
                f"The Program needs RuntimeConfig.{name} = {value!r}, not {options.runtime[name]!r}.", fix, "bad_input"
            )
    return options.model_copy(update={"runtime": {**options.runtime, **needed.settings()}})


@dataclass(frozen=True)
class Preset:
    """Options under a name: the protocols that they are for, and what they do."""

    options: Options
    protocols: tuple[str, ...]
    does: str


PRESETS = {
    "exact": Preset(
        Options(),
        ("semi2k", "cheetah"),
        "SPU's defaults with 18 fraction bits: every truncation is right but for its last bit",
    ),
    "local-truncation": Preset(
        Options(runtime={"trunc_allow_msb_error": True}),
        ("semi2k",),
        "each party truncates its own share: no round, and now and then, silently, a value wrong by 2^28",
    ),
    "private": Preset(
        Options(runtime={"experimental_enable_colocated_optimization": True}),
        ("semi2k", "cheetah"),
        "weights stay in plaintext with the server, the image with the client, until they meet what is secret",
    ),
    "cheetah-lsb": Preset(
        Options(
            runtime={
                "experimental_enable_colocated_optimization": True,
                "cheetah_2pc_config": {"enable_mul_lsb_error": True},
            }
        ),
        ("cheetah",),
        "private, and products of single values may err in their last bit",
    ),
    "cheetah-softspoken": Preset(
        Options(
            runtime={
                "experimental_enable_colocated_optimization": True,
                "cheetah_2pc_config": {"enable_mul_lsb_error": True, "ot_kind": "YACL_Softspoken"},
            }
        ),
        ("cheetah",),
        "cheetah-lsb with oblivious transfers by SoftSpoken in place of Ferret",
    ),
    "cheetah-unpacked": Preset(
        Options(
            runtime={
                "experimental_enable_colocated_optimization": True,
                "cheetah_2pc_config": {"enable_mul_lsb_error": True, "disable_matmul_pack": True},
            }
        ),
        ("cheetah",),
        "cheetah-lsb with the ciphertexts of a product's result sent as they are, not packed into few",
    ),
}


def trust_model(protocol: str, options: Options) -> str:
    """What the parties have to trust each other with, in a few words: all protocols here expect them to follow it."""
    if protocol == "semi2k":
        return _DEALERS.get(options.runtime.get("beaver_type", "TrustedFirstParty"), "semi-honest")
    return _TRUST[protocol]


_FIRST_PARTY = "semi-honest; the server deals the triples and could open everything"
_DEALERS = {
    "TrustedFirstParty": _FIRST_PARTY,
    "TrustedThirdParty": "semi-honest; a third party deals the triples",
    "MultiParty": "semi-honest; no dealer",
}
_TRUST = {
    "cheetah": "semi-honest; no dealer",
    "aby3": "semi-honest; no two of the three parties together",
    "ref2k": "none: every party holds all values",
    "beaver": _FIRST_PARTY,
}


def runtime_config(protocol: str, options: Options) -> libspu.RuntimeConfig:
    """SPU's RuntimeConfig for `protocol` with `options`; raises SpuBenchError naming an unknown field or value."""
    if protocol not in PROTOCOLS:
        raise SpuBenchError(
            f"There is no protocol {protocol!r}.", f"use one of {', '.join(sorted(PROTOCOLS))}.", "bad_input"
        )
    config = libspu.RuntimeConfig()
    known = _fields(config)
    defaults = runtimes.get(runtimes.NEWEST).defaults
    for name, value in {**defaults, **options.runtime, "protocol": protocol.upper()}.items():
        if name not in known:
            raise _unknown("RuntimeConfig field", name, known)
        # Through JSON, since 0.9.5 does not register every enum with Python (CheetahOtKind is missing). The protocol
        # goes along: SPU drops the settings of Cheetah under any other.
        parsed = libspu.RuntimeConfig()
        if not parsed.ParseFromJsonString(json.dumps({"protocol": protocol.upper(), name: value})):
            raise SpuBenchError(
                f"RuntimeConfig.{name} cannot be {value!r}.", "see SPU's documentation of RuntimeConfig.", "bad_input"
            )
        if isinstance(value, dict):
            # A nested message cannot be assigned from Python. Serialized messages merge when put one after the other.
            config.ParseFromString(config.SerializeToString() + parsed.SerializeToString())
        else:
            setattr(config, name, getattr(parsed, name))  # the parsed config has zeros for all other fields
    return config


def compiler_options(options: Options) -> libspu.CompilerOptions:
    """SPU's CompilerOptions with `options`; raises SpuBenchError naming an unknown field or wrong value."""
    compiler = libspu.CompilerOptions()
    for name, value in options.compiler.items():
        if name == "xla_pp_kind" and isinstance(value, str):
            value = getattr(libspu.XLAPrettyPrintKind, value, value)
        _assign(compiler, "CompilerOptions field", name, value)
    return compiler


def set_link_fields(description: Any, options: Options) -> None:
    """Set the fields of a link.Desc that `options` names; raises SpuBenchError naming an unknown one."""
    for name, value in options.link.items():
        _assign(description, "link field", name, value)


def _fields(target: Any) -> list[str]:
    return [name for name in dir(target) if name[0].islower() and not callable(getattr(target, name))]


def _assign(target: Any, kind: str, name: str, value: Any) -> None:
    known = _fields(target)
    if name not in known:
        raise _unknown(kind, name, known)
    try:
        if isinstance(getattr(target, name), bool) is not isinstance(value, bool):
            raise TypeError
        setattr(target, name, value)
    except TypeError:
        raise SpuBenchError(
            f"The {kind} {name!r} cannot be {value!r}.",
            f"give a value like its default, {getattr(target, name)!r}.",
            "bad_input",
        ) from None


def _unknown(kind: str, name: str, known: list[str]) -> SpuBenchError:
    return SpuBenchError(f"There is no {kind} {name!r}.", f"use one of {', '.join(known)}.", "bad_input")
