"""HTML report of one or more runs: one file that opens from the disk, without a request to any network."""

from genjax.report.page import write_report

__all__ = ["write_report"]
