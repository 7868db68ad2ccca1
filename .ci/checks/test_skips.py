"""Under CI=true a test that is skipped because the machine lacks something fails."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from common import ROOT

TESTS = """
import pytest

@pytest.mark.skip(reason="no Docker engine")
def test_marked(): ...

def test_skips_itself():
    pytest.skip("root")

def test_of_another_environment():
    pytest.skip("PyTorch (an optional extra) is not installed")

@pytest.mark.xfail(reason="known", strict=True)
def test_expected_failure():
    raise AssertionError
"""


def outcomes(folder: Path, ci: str) -> str:
    """The last line of pytest in a folder that has the repository's conftest."""
    shutil.copy(ROOT / "conftest.py", folder)
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(folder), str(folder)]
    environment = {**os.environ, "CI": ci, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.splitlines()[-1]


def test_skips_for_the_machine_fail_under_ci_alone(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text(TESTS)
    assert outcomes(tmp_path, "true").startswith("1 failed, 1 skipped, 1 xfailed, 1 error")
    assert outcomes(tmp_path, "").startswith("3 skipped, 1 xfailed")


def test_a_module_that_is_skipped_fails_under_ci_alone(tmp_path: Path) -> None:
    (tmp_path / "test_some.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    assert outcomes(tmp_path, "true").startswith("1 error")
    assert outcomes(tmp_path, "").startswith("1 skipped")
