"""The report: static HTML from records, and from nothing else."""

from mpcvit_harness.report.assemble import build

__all__ = ["build"]
