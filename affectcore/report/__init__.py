"""Reports: what comparisons look like on a terminal and in files."""

from __future__ import annotations

from affectcore.report.table import Leaderboard, csv_text, markdown, plain, shorten, strip

__all__ = ["Leaderboard", "csv_text", "markdown", "plain", "shorten", "strip"]
