"""What a Program runs on: versions of SPU and its peers, and the Python environment that each needs.

Today's SPU runs in the environment of this package. Any other runtime has an environment of its own, made once by
`spu-bench runtime install`, and a folder in `spu_bench.party` with its requirements and its backend.
"""

from __future__ import annotations

import functools
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any, Literal

from spu_bench import protocols
from spu_bench.errors import SpuBenchError


@dataclass(frozen=True)
class Runtime:
    """A library that runs Programs, at one version: `version` is its name here, `title` its name in messages.

    `backend` is the module that its party runs, and `python` the version of Python that this needs (None: this
    package's own environment). `image` is the Docker image that has it (None: there is none), `least_cores` how many
    cores a party has to see. `counted_by` says who counts the bytes and messages of its link (`record.PartyOutcome`),
    `tables` which tables of `Options` it takes; `defaults` are settings of the table `runtime` that are used where the
    user gives none.
    """

    version: str
    title: str
    backend: str
    counted_by: Literal["profile", "relay", "crypten"]
    image: str | None = None
    python: str | None = None
    least_cores: int = 1
    tables: tuple[str, ...] = ("runtime",)
    defaults: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols that it has, the first its default."""
        return protocols.on_runtime(self.version)

    @property
    def folder(self) -> Path:
        """The folder of its backend and its pinned packages."""
        return Path(str(resources.files("spu_bench"))) / "party" / self.backend.split(".")[2]

    @property
    def home(self) -> Path:
        """Where its environment is on this host."""
        root = os.environ.get("SPU_BENCH_RUNTIMES")
        data = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
        return (Path(root) if root else Path(data) / "spu-bench" / "runtimes") / self.version

    @property
    def install_command(self) -> str:
        """The command that makes the environment, or replaces it."""
        return f"spu-bench runtime install {self.version}"


# FM64 with 18 fraction bits is SPU's own default for that ring; the profile is what the statistics are read from.
_SPU_DEFAULTS = {"field": "FM64", "fxp_fraction_bits": 18, "enable_pphlo_profile": True}
RUNTIMES = {
    runtime.version: runtime
    for runtime in (
        Runtime(
            "0.9.5",
            "SPU 0.9.5",
            backend="spu_bench.party.spu095",
            counted_by="profile",
            image="spu-bench:reference",
            tables=("runtime", "compiler", "link"),
            defaults=_SPU_DEFAULTS,
        ),
        Runtime(
            "0.3.1b0",
            "SPU 0.3.1b0",
            backend="spu_bench.party.spu03.backend",
            counted_by="relay",
            image="spu-bench:paper",
            python="3.8",
            least_cores=2,  # on one core it divides by its number of worker threads: one less than it sees cores
            tables=("runtime", "link"),
            defaults=_SPU_DEFAULTS,
        ),
        Runtime(
            "crypten-0.4.1",
            "CrypTen 0.4.1",
            backend="spu_bench.party.crypten04.backend",
            counted_by="crypten",
            python="3.11",
        ),
    )
}
"""Every runtime by its version."""

NEWEST = "0.9.5"
"""The runtime that a run uses where none is named."""


def get(version: str) -> Runtime:
    """The runtime of that version; SpuBenchError ("bad_input") for another."""
    if version not in RUNTIMES:
        raise SpuBenchError(f"There is no runtime {version!r}.", f"use one of {', '.join(RUNTIMES)}.", "bad_input")
    return RUNTIMES[version]


def interpreter(runtime: Runtime) -> Path:
    """The interpreter of an installed `runtime` that is not this package's own.

    Raises SpuBenchError ("environment") with the command that fixes it, where the environment is missing or has
    other versions than it should.
    """
    return _checked(runtime, runtime.home / "bin" / "python")


@functools.cache
def _checked(runtime: Runtime, path: Path) -> Path:
    if not path.exists():
        raise SpuBenchError(
            f"The environment of {runtime.title} is not installed.", f"{runtime.install_command}", "environment"
        )
    done = subprocess.run([path, "-c", _VERSIONS], capture_output=True, text=True, env=clean_environment())
    try:
        found: dict[str, str] = json.loads(done.stdout)
    except ValueError:
        found = {}
    for name, wanted in _requirements(runtime).items():
        if found.get(name) != wanted:
            raise SpuBenchError(
                f"{runtime.title} requires {name} {wanted}, and its environment has {found.get(name, 'none')}.",
                f"{runtime.install_command}",
                "environment",
            )
    return path


def require(runtime: Runtime) -> None:
    """Raise SpuBenchError ("environment"), with the command that fixes it, where this host cannot run `runtime`."""
    if runtime.python is not None:
        interpreter(runtime)


def missing(runtime: Runtime) -> str | None:
    """Say in one line what this host lacks for `runtime`, with the fix; None if nothing."""
    try:
        require(runtime)
    except SpuBenchError as error:
        return f"{error.problem.rstrip('.')}; {error.fix}"
    return None


_VERSIONS = (
    "import json, importlib.metadata as m; "
    "print(json.dumps({d.metadata['Name'].lower(): d.version for d in m.distributions()}))"
)


def clean_environment() -> dict[str, str]:
    """This process's environment variables without those that point an interpreter to this one's modules."""
    own = ("PYTHONPATH", "PYTHONHOME", "PIP_CONSTRAINT")
    return {name: value for name, value in os.environ.items() if name not in own}


def install(runtime: Runtime, python: Path | None = None) -> Path:
    """Make the environment of `runtime`, whole or not at all; returns its interpreter.

    `python` is an interpreter of the version that it needs (None: one that is found on this host). Raises
    SpuBenchError where there is none, or where pip fails.
    """
    if runtime.python is None:
        raise SpuBenchError(
            f"{runtime.title} is in spu_bench's own environment.",
            "use it: there is nothing to install.",
            "bad_input",
        )
    base = _check_python(python, runtime) if python else _find_python(runtime)
    work = runtime.home.with_name(f".{runtime.version}.part")
    shutil.rmtree(work, ignore_errors=True)
    work.parent.mkdir(parents=True, exist_ok=True)
    try:
        _run([base, "-m", "venv", work])
        pip: list[str | Path] = [
            work / "bin" / "python",
            "-m",
            "pip",
            "install",
            "--quiet",
            "--disable-pip-version-check",
        ]
        _run([*pip, "--no-deps", "-r", requirements_file(runtime)])
        shutil.rmtree(runtime.home, ignore_errors=True)
        os.rename(work, runtime.home)  # only bin/python is used of it, which finds its packages beside itself
    finally:
        shutil.rmtree(work, ignore_errors=True)
    _checked.cache_clear()
    return interpreter(runtime)


def requirements_file(runtime: Runtime) -> Path:
    """The pinned packages of the environment."""
    return runtime.folder / "requirements.txt"


def _requirements(runtime: Runtime) -> dict[str, str]:
    lines = requirements_file(runtime).read_text().splitlines()
    return dict(line.split("==") for line in lines if "==" in line and not line.startswith("#"))


def _find_python(runtime: Runtime) -> Path:
    for candidate in _candidates(str(runtime.python)):
        try:
            return _check_python(candidate, runtime)
        except SpuBenchError:
            continue
    raise SpuBenchError(
        f"{runtime.title} requires Python {runtime.python}, which this host does not have.",
        f"`uv python install {runtime.python}` or `pyenv install {runtime.python}`, then {runtime.install_command}"
        + (f"; or docker/build --runtime {runtime.version}, and --executor docker." if runtime.image else "."),
        "environment",
    )


def _candidates(version: str) -> Iterator[Path]:
    if version == "{}.{}".format(*sys.version_info):
        yield Path(sys.executable)
    if found := shutil.which(f"python{version}"):
        yield Path(found)
    yield from sorted(
        (Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions").glob(
            f"{version}.*/bin/python{version}"
        )
    )
    if uv := shutil.which("uv"):
        done = subprocess.run([uv, "python", "find", version], capture_output=True, text=True)
        if done.returncode == 0:
            yield Path(done.stdout.strip())


def _check_python(python: Path, runtime: Runtime) -> Path:
    try:
        done = subprocess.run(
            [python, "-c", "import sys, venv, ensurepip; print('%d.%d' % sys.version_info[:2])"],
            capture_output=True,
            text=True,
            env=clean_environment(),
        )
        said = done.stdout.strip()
    except OSError as error:
        said = str(error.strerror)
    if said != runtime.python:
        raise SpuBenchError(
            f"{python} is not a Python {runtime.python} with venv and pip ({said or 'it cannot run'}).",
            f"{runtime.install_command} --python PATH",
            "environment",
        )
    return python


def _run(command: list[str | Path]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, env=clean_environment())
    if done.returncode:
        said = [line for line in (done.stdout + done.stderr).splitlines() if line.strip()]
        errors = [line for line in said if "rror" in line]
        raise SpuBenchError(
            f"The environment could not be made: {(errors or said or ['pip printed nothing'])[-1].strip()}.",
            "check that the package index has that package and can be reached, and that the disk is not full.",
            "environment",
        )
