"""HTML report of one or more runs: one file that opens from the disk, without a request to any network."""

from genjax.report.page import write_report, write_run

__all__ = ["write_report", "write_run"]
