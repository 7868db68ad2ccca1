"""The settings of a runtime by their own names: from TOML tables to RuntimeConfig, CompilerOptions and link.Desc."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from spu import libspu

from spu_bench import protocols, runtimes
from spu_bench.errors import SpuBenchError
from spu_bench.fixed_point import fixed_point
from spu_bench.program import RuntimeOptions
from spu_bench.untrusted import one_line, read_toml

_WRITES_FILES = ("enable_pretty_print", "pretty_print_dump_dir", "enable_runtime_snapshot", "snapshot_dump_dir")
"""Settings of SPU that name a directory to write to, or turn that on. A link file may come from the other party."""


class Options(BaseModel):
    """Settings of a runtime, each by its own name there; a setting that is not given keeps the runtime's default.

    `runtime` holds fields of SPU's RuntimeConfig (enums by name, nested messages as tables), or CrypTen's sections
    `encoder` and `functions` as tables; `compiler` fields of CompilerOptions, `link` fields of link.Desc.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    runtime: dict[str, Any] = Field(default_factory=dict)
    compiler: dict[str, Any] = Field(default_factory=dict)
    link: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Options:
        """The preset of that name, or the content of a TOML file with the tables [runtime], [compiler], [link].

        Raises SpuBenchError that names the key.
        """
        if (preset := protocols.PRESETS.get(str(name_or_path))) is not None:
            return cls.model_validate(preset.tables)
        path = Path(name_or_path)
        if not path.is_file():
            raise SpuBenchError(
                f"There are no options {str(name_or_path)!r}: it is neither a preset nor a file.",
                f"use one of {', '.join(protocols.PRESETS)}, or the path of a TOML file.",
                "bad_input",
            )
        raw = read_toml(path, "correct the file.")
        if unknown := sorted(set(raw) - {"runtime", "compiler", "link"}):
            raise _unknown("table", one_line(unknown[0]), ["runtime", "compiler", "link"])
        for table, settings in raw.items():
            if not isinstance(settings, dict):
                raise SpuBenchError(
                    f"{path}: {table} is a value and not a table.", f"write a table [{table}] in it.", "bad_input"
                )
        return cls(**raw)

    def check(self, runtime: str = runtimes.NEWEST, protocol: str = "semi2k") -> None:
        """Build every configuration once, so that a wrong name or value is found before a party starts.

        The settings of a runtime with an environment of its own are checked by its party. Raises SpuBenchError.
        """
        known = runtimes.get(runtime)
        if protocol not in known.protocols:
            protocols.get(protocol)
            raise SpuBenchError(
                f"{known.title} does not have the protocol {protocol!r}.",
                f"use one of {', '.join(known.protocols)}.",
                "bad_input",
            )
        for table, settings in self.model_dump().items():
            if settings and table not in known.tables:
                raise SpuBenchError(
                    f"{known.title} takes no {table} options.", f"leave out the table [{table}].", "bad_input"
                )
        for settings in self.model_dump().values():
            for name in settings:
                if name in _WRITES_FILES:
                    raise SpuBenchError(
                        f"The option {name!r} makes a party write files where the options say.",
                        "leave it out: a party writes only what its own command names.",
                        "bad_input",
                    )
        fixed_point(runtime, self.runtime)
        if known.python is not None:
            return
        runtime_config(protocol, self)
        compiler_options(self)
        set_link_fields(libspu.link.Desc(), self)


def with_needed(options: Options, needed: RuntimeOptions | None, *, protocol: str, runtime: str) -> Options:
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


def runtime_config(protocol: str, options: Options) -> libspu.RuntimeConfig:
    """SPU's RuntimeConfig for `protocol` with `options`; raises SpuBenchError that names an unknown field or value."""
    if not libspu.RuntimeConfig().ParseFromJsonString(json.dumps({"protocol": protocols.get(protocol).name.upper()})):
        spu = runtimes.get(runtimes.NEWEST)
        others = ", ".join(name for name in spu.protocols if name != protocol)
        raise SpuBenchError(
            f"{spu.title} does not know the protocol {protocol!r}.", f"use one of {others}.", "bad_input"
        )
    config = libspu.RuntimeConfig()
    known = _fields(config)
    defaults = runtimes.get(runtimes.NEWEST).defaults
    for name, value in {**defaults, **options.runtime, "protocol": protocol.upper()}.items():
        if name not in known:
            raise _unknown("RuntimeConfig field", name, known)
        # Through JSON, since 0.9.5 does not register every enum with Python (CheetahOtKind is missing). With the
        # protocol, since SPU drops the settings of Cheetah under any other.
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
    """SPU's CompilerOptions with `options`; raises SpuBenchError that names an unknown field or wrong value."""
    compiler = libspu.CompilerOptions()
    for name, value in options.compiler.items():
        if name == "xla_pp_kind" and isinstance(value, str):
            value = getattr(libspu.XLAPrettyPrintKind, value, value)
        _assign(compiler, "CompilerOptions field", name, value)
    return compiler


def set_link_fields(description: Any, options: Options) -> None:
    """Set the fields of a link.Desc that `options` names; raises SpuBenchError that names an unknown one."""
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
