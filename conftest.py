"""Under CI=true no test may be skipped for something that the machine should have: such a skip fails the test."""

from __future__ import annotations

import os
from collections.abc import Generator
from typing import Any

import pytest

OTHER_ENVIRONMENT = ("SPU is not installed", "PyTorch (an optional extra)", "private inference needs spu_bench")
"""Reasons that CI accepts: a tox environment that leaves a package out on purpose."""


def _failed_if_skipped(report: pytest.TestReport | pytest.CollectReport) -> None:
    """Turn a skip that CI does not accept into a failure; an expected failure is no skip."""
    if os.environ.get("CI") != "true" or not report.skipped or hasattr(report, "wasxfail"):
        return
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    if not any(accepted in reason for accepted in OTHER_ENVIRONMENT):
        report.outcome = "failed"
        report.longrepr = f"{reason}\nFix: install what is missing; under CI=true every test must run"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, Any, Any]:
    """Fail a test that was skipped for what the machine lacks."""
    report = yield
    _failed_if_skipped(report)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, Any, Any]:
    """Fail a test module that was skipped for what the machine lacks."""
    report = yield
    _failed_if_skipped(report)
    return report
